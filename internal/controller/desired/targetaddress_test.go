package desired

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"heymarket.dev/operator/api/v1alpha1"
)

func TestRefusesTarget(t *testing.T) {
	t.Parallel()
	public := TargetAddresses{Public: true, AndNetworks: []string{"10.96.0.0/12"}}
	for _, tc := range []struct {
		from TargetAddresses
		url  string
		want string
	}{
		{TargetAddresses{}, "http://crm.example.com/in", ""},
		{TargetAddresses{}, "http://10.0.0.7:8080/in", ""},
		{TargetAddresses{}, "http://127.0.0.1:8080", "loopback"},
		{TargetAddresses{}, "http://[::1]:8080", "loopback"},
		{TargetAddresses{}, "http://LocalHost:8080/in", "loopback"},
		{TargetAddresses{}, "http://crm.localhost./in", "loopback"},
		{TargetAddresses{}, "http://localhost.example.com", ""},
		{TargetAddresses{}, "http://169.254.169.254/latest", "link-local"},
		{TargetAddresses{}, "http://100.100.100.200/", "cloud metadata"},
		{public, "http://crm.example.com/in", ""},
		{public, "https://93.184.216.34/in", ""},
		{public, "http://10.0.0.7:8080/in", "private"},
		{public, "http://[fd00::7]/in", "private"},
		{public, "http://10.96.0.7/in", ""},
	} {
		got := tc.from.RefusesTarget(v1alpha1.Target{Name: "crm", URL: &tc.url}, nil)
		if (got == nil) != (tc.want == "") || got != nil && (got.Kind != tc.want || got.Private != (tc.want == "private")) {
			t.Errorf("%v: %s: %+v, want %q", tc.from, tc.url, got, tc.want)
		}
	}
	for _, tc := range []struct {
		spec corev1.ServiceSpec
		want string
	}{
		{corev1.ServiceSpec{ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}}, ""},
		{corev1.ServiceSpec{ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7", "fd00::7"}}, "private"},
		{corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, ClusterIPs: []string{corev1.ClusterIPNone}}, ""},
		{corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"}, ""},
	} {
		target := v1alpha1.Target{Name: "crm", Service: &v1alpha1.ServiceReference{Name: "crm", Port: 80}}
		got := public.RefusesTarget(target, &corev1.Service{Spec: tc.spec})
		if (got == nil) != (tc.want == "") || got != nil && got.Kind != tc.want {
			t.Errorf("%v: %+v, want %q", tc.spec, got, tc.want)
		}
	}
}

// A target that is Redis, by whatever name of the same Service, and no other target.
func TestIsRedis(t *testing.T) {
	t.Parallel()
	service := func(name string, port int32) v1alpha1.Target {
		return v1alpha1.Target{Service: &v1alpha1.ServiceReference{Name: name, Port: port}}
	}
	at := func(url string) v1alpha1.Target { return v1alpha1.Target{URL: &url} }
	for name, tc := range map[string]struct {
		target v1alpha1.Target
		redis  []string
		want   bool
	}{
		"its Service":              {service("redis", 6379), []string{"redis://redis.data"}, true},
		"by its whole name":        {service("redis", 6379), []string{"redis://redis.data.svc.cluster.local:6379/0"}, true},
		"by its name with svc":     {service("redis", 6379), []string{"rediss://user:secret@Redis.Data.svc.:6379"}, true},
		"another port":             {service("redis", 80), []string{"redis://redis.data"}, false},
		"of another namespace":     {service("redis", 6379), []string{"redis://redis.other"}, false},
		"the second URL":           {service("redis", 6379), []string{"redis://shared.example.com", "redis://redis.data"}, true},
		"a further node":           {at("http://10.0.0.2:7000/in"), []string{"redis://10.0.0.1:7000?addr=10.0.0.2:7000"}, true},
		"no node":                  {at("http://10.0.0.3:7000/in"), []string{"redis://10.0.0.1:7000?addr=10.0.0.2:7000"}, false},
		"a URL with its name":      {at("http://REDIS.data.svc.cluster.local.:6379/"), []string{"redis://redis.data"}, true},
		"at the port of HTTP":      {at("http://cache.example.com/"), []string{"redis://cache.example.com:80"}, true},
		"at the port of HTTPS":     {at("https://cache.example.com/"), []string{"redis://cache.example.com:443"}, true},
		"at another port":          {at("https://cache.example.com/"), []string{"redis://cache.example.com:80"}, false},
		"by IPv6":                  {at("http://[fd00::7]:6379/"), []string{"redis://[fd00::7]"}, true},
		"no Redis URL":             {at("http://crm.example.com/"), nil, false},
		"one that cannot be read":  {at("http://crm.example.com/"), []string{"redis://%"}, false},
		"one without a host":       {at("http://:6379/"), []string{"redis:///0"}, false},
		"not a URL":                {at("http://%"), []string{"redis://crm.example.com"}, false},
		"neither URL nor Service":  {v1alpha1.Target{}, []string{"redis://crm.example.com"}, false},
		"a relative one and empty": {at("/in"), []string{""}, false},
	} {
		if got := IsRedis(tc.target, "data", tc.redis...); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}
