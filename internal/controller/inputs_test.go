package controller

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"heymarket.dev/operator/internal/controller/condition"
)

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

// Without --allowed-hosts a namespace may set any host that the template does not yield for
// another.
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
			p := unchecked(NewHTTPPodStatus(nil))
			p.port = at.Port()
			report, err := p.Report(t.Context(), PodAddress{Address: at.Addr()})
			if got := report.ConfigDigest; got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("%q, %v, want %q", report.ConfigDigest, err, tc.want)
			}
		})
	}
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
