package controller

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

func TestRedisFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenRedisFiles(file, ""); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("no file: %v, want an error that names it", err)
	}
	for content, want := range map[string]string{
		"":                            "is empty",
		"localhost:6379":              "must begin with redis://",
		"http://secret@redis":         "must begin with redis://",
		"redis://":                    "names no host",
		"redis://:secret@[::1":        "cannot be read",
		"redis://:secret@h:port/\x7f": "cannot be read",
	} {
		write(content + "\n")
		_, err := OpenRedisFiles(file, "")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q and no part of the URL", content, err, want)
		}
	}
	write("redis://:secret@one:6379/0\n")
	f, err := OpenRedisFiles(file, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := f.Redis().URL, "redis://:secret@one:6379/0"; got != want || f.Redis().CA != nil {
		t.Errorf("URL = %s, want %s", got, want)
	}
	if changed, err := f.refresh(); changed || err != nil {
		t.Errorf("refresh of the same: %v, %v", changed, err)
	}
	write("")
	if changed, err := f.refresh(); changed || err == nil || f.Redis().URL == "" {
		t.Errorf("a bad file was taken over: %v, %v", changed, err)
	}
	write("rediss://two")
	if changed, err := f.refresh(); !changed || err != nil || f.Redis().URL != "rediss://two" {
		t.Errorf("a good file was not taken over: %v, %v", changed, err)
	}
}

// URL and certificates are taken over together or not at all.
func TestRedisFilesWithCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, ca := filepath.Join(dir, "url"), filepath.Join(dir, "ca.crt")
	write := func(file, s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(url, "rediss://:secret@one:6379/0")
	if _, err := OpenRedisFiles(url, ca); err == nil || !strings.Contains(err.Error(), "--redis-ca-file: ") || !strings.Contains(err.Error(), ca) {
		t.Errorf("no file: %v, want an error that names it", err)
	}
	write(ca, "-----BEGIN NOTHING-----")
	if _, err := OpenRedisFiles(url, ca); err == nil || !strings.Contains(err.Error(), "--redis-ca-file: "+ca+" cannot be used: there is no certificate in PEM form") {
		t.Errorf("no PEM: %v", err)
	}
	first, second := certificate(t), certificate(t)
	second += second
	write(ca, first)
	write(url, "REDIS://:secret@one:6379/0")
	if _, err := OpenRedisFiles(url, ca); err == nil || !strings.Contains(err.Error(), "--redis-url-file: "+url+" begins with redis://, so that --redis-ca-file has no effect") || strings.Contains(err.Error(), "secret") {
		t.Errorf("certificates without TLS: %v", err)
	}
	write(url, "rediss://:secret@one:6379/0")
	f, err := OpenRedisFiles(url, ca)
	if err != nil {
		t.Fatal(err)
	}
	has := func(url, ca string) {
		t.Helper()
		if want := (desired.SharedRedis{URL: url, CA: []byte(ca)}); !f.Redis().Equal(want) {
			t.Errorf("in use is %q, want %q", f.Redis(), want)
		}
	}
	has("rediss://:secret@one:6379/0", first)
	if changed, err := f.refresh(); changed || err != nil {
		t.Errorf("refresh of the same: %v, %v", changed, err)
	}
	write(ca, second)
	if changed, err := f.refresh(); !changed || err != nil {
		t.Errorf("other certificates were not taken over: %v, %v", changed, err)
	}
	has("rediss://:secret@one:6379/0", second)
	write(ca, "")
	write(url, "rediss://two")
	if changed, err := f.refresh(); changed || err == nil {
		t.Errorf("half of it was taken over: %v, %v", changed, err)
	}
	has("rediss://:secret@one:6379/0", second)
	write(ca, first)
	if changed, err := f.refresh(); !changed || err != nil {
		t.Errorf("what is good again was not taken over: %v, %v", changed, err)
	}
	has("rediss://two", first)
}

func TestHostTemplate(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"{{.Namespace}}.hooks.example.com":       "staging.hooks.example.com",
		"{{.Name}}-{{ .Namespace }}.example.com": "support-staging.example.com",
		"hooks.example.com":                      "hooks.example.com",
	} {
		if got, err := hostTemplate(t, template).Host("staging", "support"); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", template, got, err, want)
		}
	}
	for _, bad := range []string{"", "{{.Host}}", "{{.Names}}.example.com", "{{if .Name}}a{{end}}.example.com", "{{.Name}.example.com", "{{", "https://{{.Name}}", "{{.Name}}_x", "*.example.com"} {
		if _, err := ParseHostTemplate(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := hostTemplate(t, "{{.Namespace}}.example.com").Host(strings.Repeat("a", 250), "support"); err == nil {
		t.Error("a host of more than 253 characters was made")
	}
	for template, name := range map[string]string{
		"{{.Namespace}}-{{.Name}}.example.com": strings.Repeat("a", 55), "{{.Name}}{{.Name}}.example.com": strings.Repeat("a", 32),
	} {
		if got, err := hostTemplate(t, template).Host("production-eu", name); err == nil || !strings.Contains(err.Error(), "at most 63") {
			t.Errorf("%s made %q, %v, want an error that says how long a part may be", template, got, err)
		}
	}
	if _, err := ParseHostTemplate(strings.Repeat("a", 64) + ".example.com"); err == nil {
		t.Error("a template with a part of 64 characters was accepted")
	}
}

// Without --allowed-hosts a namespace may name any host that the template makes for no other.
func TestHostsThatTheTemplateMakesForOthers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		template, host string
		others         bool
	}{
		{"{{.Namespace}}.hooks.example.com", "staging.hooks.example.com", false},
		{"{{.Namespace}}.hooks.example.com", "production.hooks.example.com", true},
		{"{{ .Namespace }}.hooks.example.com", "production.hooks.example.com", true},
		{"{{.Namespace}}.hooks.example.com", "x.production.hooks.example.com", false},
		{"{{.Namespace}}.hooks.example.com", "production-hooks.example.com", false},
		{"{{.Name}}.{{.Namespace}}.example.com", "any.production.example.com", true},
		{"{{.Name}}.{{.Namespace}}.example.com", "any.staging.example.com", false},
		{"hooks.example.com", "hooks.example.com", false},
		{"{{.Name}}.example.com", "support.example.com", false},
	} {
		if got := hostTemplate(t, tc.template).makesFor("staging", tc.host); got != tc.others {
			t.Errorf("%s makes %s for another namespace: %v, want %v", tc.template, tc.host, got, tc.others)
		}
	}
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		allowed, host string
		want          bool
	}{
		{"", "anything.example.com", true},
		{"hooks.example.com", "hooks.example.com", true},
		{"hooks.example.com", "x.hooks.example.com", false},
		{"*.hooks.example.com", "x.hooks.example.com", true},
		{"*.hooks.example.com", "y.x.hooks.example.com", true},
		{"*.hooks.example.com", "hooks.example.com", false},
		{"*.hooks.example.com", "evilhooks.example.com", false},
		{"a.example.com, {{.Namespace}}.example.com", "staging.example.com", true},
		{"a.example.com, {{.Namespace}}.example.com", "production.example.com", false},
		{"*.{{.Namespace}}.example.com", "x.staging.example.com", true},
		{"{{.Name}}.example.com", "support.example.com", true},
	} {
		a, err := ParseAllowedHosts(tc.allowed)
		if err != nil {
			t.Errorf("%q: %v", tc.allowed, err)
		}
		if got := a.Allow("staging", "support", tc.host); got != tc.want {
			t.Errorf("%q allows %q: %v", tc.allowed, tc.host, got)
		}
	}
	for _, bad := range []string{"*", "a b", "{{.Host}}", "*.*.example.com", "https://a"} {
		if _, err := ParseAllowedHosts(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestHTTPPodStatus(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"digest":    {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"new":1,"configDigest":"sha256:aa"}`)) }, "sha256:aa"},
		"no digest": {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{}`)) }, ""},
		"no JSON":   {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`hello`)) }, ""},
		"an error": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"configDigest":"x"}`, http.StatusInternalServerError)
		}, ""},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, ""},
		"no end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"a":"` + strings.Repeat("x", podStatusLimit) + `"}`))
		}, ""},
		"no end of headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 2*podStatusLimit))
			w.Write([]byte(`{"configDigest":"sha256:aa"}`))
		}, ""},
		"another path": {http.NotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("GET /status", tc.answer)
			mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
			s := httptest.NewServer(mux)
			defer s.Close()
			at := netip.MustParseAddrPort(s.Listener.Addr().String())
			p := NewHTTPPodStatus()
			p.port = at.Port()
			report, err := p.Report(t.Context(), at.Addr())
			if got := report.ConfigDigest; got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("%q, %v, want %q", report.ConfigDigest, err, tc.want)
			}
		})
	}
}

// A watch that is lost and begins again has missed an unknown number of changes, so everything is looked at.
func TestSecretWatchAfterAGap(t *testing.T) {
	t.Parallel()
	signed := hookWithSecret("b", "three", "x")
	signed.Spec.Targets = []v1alpha1.Target{{Name: "crm", Signing: &v1alpha1.Signing{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "keys", Key: "k"}}}}
	hooks := fake.NewClientBuilder().WithScheme(Scheme()).
		WithIndex(&v1alpha1.HeymarketWebhook{}, indexSecret, secretsOf).
		WithObjects(hookWithSecret("a", "one", "x"), hookWithSecret("a", "two", "y"), signed).
		Build()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer queue.ShutDown()
	taken := func() []string {
		var out []string
		for queue.Len() > 0 {
			r, _ := queue.Get()
			out = append(out, r.String())
			queue.Done(r)
		}
		return out
	}
	synced := 0
	s := &wakeUp{ctx: t.Context(), index: indexSecret, webhooks: hooks, queue: queue, synced: func() { synced++ }}

	if err := s.Replace(nil, "1"); err != nil || synced != 1 || len(taken()) != 0 {
		t.Errorf("the first watch: %v", err)
	}
	for _, f := range []func(any) error{s.Add, s.Update, s.Delete} {
		secret := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "x"}}
		if err := f(secret); err != nil {
			t.Error(err)
		}
		if got := taken(); len(got) != 1 || got[0] != "a/one" {
			t.Errorf("woke %v, want a/one", got)
		}
	}
	// A Secret that a target refers to wakes like that of the token.
	if err := s.Add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "keys"}}); err != nil {
		t.Error(err)
	}
	if got := taken(); len(got) != 1 || got[0] != "b/three" {
		t.Errorf("woke %v, want b/three", got)
	}
	if err := s.Add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "unrelated"}}); err != nil || len(taken()) != 0 {
		t.Errorf("an unrelated Secret woke something: %v", err)
	}
	if err := s.Replace(nil, "2"); err != nil || len(taken()) != 3 {
		t.Errorf("after a gap not all were woken: %v", err)
	}
}

func hookWithSecret(namespace, name, secret string) *v1alpha1.HeymarketWebhook {
	h := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	h.Spec.Token.SecretKeyRef = v1alpha1.TokenReference{Name: secret, Key: "token"}
	return h
}

func TestIngressAddress(t *testing.T) {
	t.Parallel()
	ingress := func(a ...networkingv1.IngressLoadBalancerIngress) *networkingv1.Ingress {
		i := &networkingv1.Ingress{}
		i.Status.LoadBalancer.Ingress = a
		return i
	}
	for want, i := range map[string]*networkingv1.Ingress{
		"lb.example.com": ingress(networkingv1.IngressLoadBalancerIngress{}, networkingv1.IngressLoadBalancerIngress{Hostname: "lb.example.com", IP: "192.0.2.1"}),
		"192.0.2.1":      ingress(networkingv1.IngressLoadBalancerIngress{IP: "192.0.2.1"}),
		"":               ingress(),
	} {
		if got := condition.IngressAddress(i); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := condition.IngressAddress(nil); got != "" {
		t.Errorf("no Ingress: %q", got)
	}
}
