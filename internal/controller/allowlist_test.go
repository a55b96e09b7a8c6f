package controller

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
)

func TestAllowList(t *testing.T) {
	t.Parallel()
	list, err := ParseAllowList(" Default, example.com/team,example.org/* ,", AllowList{"a", "b.io/*"})
	if err != nil || !slices.Equal(list, AllowList{"a", "b.io/*", "example.com/team", "example.org/*"}) {
		t.Errorf("%v, %v", list, err)
	}
	for key, want := range map[string]bool{
		"a": true, "ab": false, "b.io/x": true, "b.io": false, "example.com/team": true, "example.com/teams": false, "example.org/anything": true,
		"evil.example.org/x": false, "": false,
	} {
		if got := condition.Allows(list, key); got != want {
			t.Errorf("%q is allowed: %v", key, got)
		}
	}
	if none, err := ParseAllowList("", DefaultLabels); err != nil || none == nil || len(none) > 0 {
		t.Errorf("an empty list: %v, %v, want one that allows nothing", none, err)
	}
	if all, err := ParseAllowList("*", nil); err != nil || !condition.Allows(all, "anything/x") {
		t.Errorf("*: %v, %v", all, err)
	}
	for _, bad := range []string{"a b", "example.com/", "example.com/a/b", "exa mple/*", "*a", "https://a"} {
		if _, err := ParseAllowList(bad, nil); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// The defaults allow what users commonly need, and nothing that acts on other owners' objects with another controller's rights.
func TestDefaultAllowLists(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"cert-manager.io/cluster-issuer", "cert-manager.io/issuer", "external-dns.alpha.kubernetes.io/hostname", "external-dns.alpha.kubernetes.io/ttl",
		"prometheus.io/scrape", "prometheus.io/port", "sidecar.istio.io/inject", "linkerd.io/inject", "traffic.sidecar.istio.io/excludeInboundPorts",
		"nginx.ingress.kubernetes.io/proxy-body-size", "alb.ingress.kubernetes.io/target-type", "kubernetes.io/ingress.class", "cloud.google.com/backend-config",
	} {
		if !condition.Allows(DefaultAnnotations, key) {
			t.Errorf("annotation %s is not allowed", key)
		}
	}
	for _, key := range []string{
		"nginx.ingress.kubernetes.io/server-snippet", "nginx.ingress.kubernetes.io/configuration-snippet", "nginx.ingress.kubernetes.io/auth-snippet",
		"nginx.ingress.kubernetes.io/stream-snippet", "nginx.ingress.kubernetes.io/auth-url", "nginx.ingress.kubernetes.io/auth-tls-secret",
		"nginx.ingress.kubernetes.io/default-backend", "nginx.ingress.kubernetes.io/server-alias", "nginx.ingress.kubernetes.io/use-regex",
		"nginx.ingress.kubernetes.io/rewrite-target", "nginx.ingress.kubernetes.io/upstream-vhost", "nginx.ingress.kubernetes.io/mirror-target",
		"nginx.ingress.kubernetes.io/canary", "nginx.ingress.kubernetes.io/permanent-redirect", "nginx.ingress.kubernetes.io/proxy-ssl-secret",
		"alb.ingress.kubernetes.io/group.name", "alb.ingress.kubernetes.io/actions.x", "alb.ingress.kubernetes.io/auth-idp-oidc",
		"traefik.ingress.kubernetes.io/router.middlewares", "traefik.ingress.kubernetes.io/router.priority", "haproxy.org/backend-config-snippet",
		"k8s.v1.cni.cncf.io/networks", "cdi.k8s.io/gpu", "vault.hashicorp.com/agent-inject", "vault.hashicorp.com/role",
		"sidecar.istio.io/proxyImage", "sidecar.istio.io/bootstrapOverride", "sidecar.istio.io/userVolume", "proxy.istio.io/config",
		"iam.amazonaws.com/role", "external-dns.alpha.kubernetes.io/target", "cert-manager.io/common-name", "service.beta.kubernetes.io/aws-load-balancer-type",
		"container.apparmor.security.beta.kubernetes.io/receiver", "example.com/team", "argocd.argoproj.io/tracking-id",
	} {
		if condition.Allows(DefaultAnnotations, key) {
			t.Errorf("annotation %s is allowed", key)
		}
	}
	for _, key := range []string{"app", "role", "azure.workload.identity/use", "example.com/team", "aadpodidbinding", "security", "pod-security.kubernetes.io/enforce"} {
		if condition.Allows(DefaultLabels, key) {
			t.Errorf("label %s is allowed", key)
		}
	}
}

func TestAnnotationsAndLabelsThatAreNotAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Settings.AllowedAnnotations, w.r.Settings.AllowedLabels = nil, nil
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	w.reconcile()
	host := w.namespace + ".hooks.example.com"
	type annotations = map[string]v1alpha1.AnnotationValue
	for name, tc := range map[string]struct {
		ingress, pods annotations
		service       annotations
		labels        map[string]v1alpha1.LabelValue
		reason        string
		words         []string
	}{
		"common":             {ingress: annotations{"cert-manager.io/cluster-issuer": "le", condition.AnnotationDNSHostname: v1alpha1.AnnotationValue(host + ".")}, pods: annotations{"prometheus.io/scrape": "true"}, service: annotations{"cloud.google.com/backend-config": "{}"}, labels: map[string]v1alpha1.LabelValue{"sidecar.istio.io/inject": "true"}},
		"a load balancer":    {service: annotations{"service.beta.kubernetes.io/aws-load-balancer-type": "x"}, reason: v1alpha1.ReasonAnnotationNotAllowed, words: []string{"aws-load-balancer-type", "spec.exposure.serviceAnnotations", "--allowed-annotations"}},
		"a snippet":          {ingress: annotations{"nginx.ingress.kubernetes.io/server-snippet": "x"}, reason: v1alpha1.ReasonAnnotationNotAllowed, words: []string{"server-snippet", "spec.exposure.ingress.annotations", "--allowed-annotations"}},
		"a network":          {pods: annotations{"k8s.v1.cni.cncf.io/networks": "x"}, reason: v1alpha1.ReasonAnnotationNotAllowed, words: []string{"networks", "spec.receiver.podAnnotations", "--allowed-annotations"}},
		"a label":            {labels: map[string]v1alpha1.LabelValue{"role": "admin"}, reason: v1alpha1.ReasonLabelNotAllowed, words: []string{`"role"`, "spec.receiver.podLabels", "--allowed-labels"}},
		"several lines":      {ingress: annotations{"nginx.ingress.kubernetes.io/proxy-body-size": "1m;\nreturn 200"}, reason: v1alpha1.ReasonAnnotationNotAllowed, words: []string{"proxy-body-size", "line break"}},
		"a name of another":  {ingress: annotations{condition.AnnotationDNSHostname: "www.example.com"}, reason: v1alpha1.ReasonAnnotationNotAllowed, words: []string{"another host", host}},
		"a name and another": {ingress: annotations{condition.AnnotationDNSHostname: v1alpha1.AnnotationValue(host + ",www.example.com")}, reason: v1alpha1.ReasonAnnotationNotAllowed},
	} {
		change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
			h.Spec.Exposure.Ingress, h.Spec.Exposure.ServiceAnnotations = nil, tc.service
			if tc.ingress != nil {
				h.Spec.Exposure.Ingress = &v1alpha1.IngressExposure{Annotations: tc.ingress}
			}
			h.Spec.Receiver.PodAnnotations, h.Spec.Receiver.PodLabels = tc.pods, tc.labels
		})
		w.reconcile()
		if tc.reason == "" {
			w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
		} else {
			w.condition(v1alpha1.ConditionAccepted, false, tc.reason, tc.words...)
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if service := get(w, "support-receiver", &corev1.Service{}); service.Annotations["cloud.google.com/backend-config"] != "{}" || len(service.Annotations) != 2 {
		t.Errorf("annotations of the Service: %v, want the one that is allowed and the operator's own", service.Annotations)
	}
	for key := range w.ingress().Annotations {
		if key == "nginx.ingress.kubernetes.io/server-snippet" {
			t.Error("the Ingress has the snippet")
		}
	}
}

// A target in a namespace that the NetworkPolicies block is reported, with the flag that allows it.
func TestTargetInANamespaceThatIsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Settings.NetworkPolicy = &NetworkPolicy{OperatorNamespace: "heymarket-system"}
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	for host, closed := range map[string]bool{
		"api.kube-system.svc": true, "api.kube-system.svc.cluster.local": true, "api." + w.namespace + ".svc": false, "api": false, "crm.example.com": false,
	} {
		change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Targets[0].URL = new("http://" + host + "/in") })
		w.reconcile()
		if closed {
			w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonTargetNamespaceClosed, "spec.targets[crm].url", "kube-system", "--network-policy-target-namespaces")
		} else {
			w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
		}
		policy := get(w, contract.ReceiverName("support"), &networkingv1.NetworkPolicy{})
		for _, rule := range policy.Spec.Egress {
			for _, peer := range rule.To {
				if s := peer.NamespaceSelector; s != nil && slices.Contains(s.MatchExpressions[0].Values, "kube-system") {
					t.Errorf("%s: the policy opens kube-system", host)
				}
			}
		}
	}
}
