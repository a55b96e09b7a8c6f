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
