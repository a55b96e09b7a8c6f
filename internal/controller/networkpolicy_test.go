package controller

import (
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"heymarket.dev/operator/api/v1alpha1"
)

// The golden files show what a policy allows; whether a cluster enforces it depends on its network plugin, and
// there is none in tests.
func TestNetworkPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Settings.NetworkPolicy = &NetworkPolicy{OperatorNamespace: "heymarket-system", EventsFrom: []string{"traefik"}, TargetNamespaces: []string{"data"}}
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	w.reconcile()
	if got, want := w.exist(), strings.Replace(allChildren, "Deployment", "NetworkPolicy support-receiver, Deployment", 1); got != want {
		t.Fatalf("children: %s, want %s", got, want)
	}
	policy, deployment := -1, -1
	for i, write := range w.writes.take() {
		switch write {
		case "PATCH networkpolicies/support-receiver":
			policy = i
		case "PATCH deployments/support-receiver":
			deployment = i
		}
	}
	if policy < 0 || policy > deployment {
		t.Errorf("the policy was write %d, the Deployment %d", policy, deployment)
	}
	w.quiet()

	// A Redis of the resource's own is somewhere else.
	w.secret("redis", map[string]string{"url": "redis://:password@redis.data.svc:6379"})
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Redis = &v1alpha1.Redis{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "redis", Key: "url"}}
	})
	w.reconcile()
	reaches := func() string {
		var out []string
		for _, rule := range get(w, "support-receiver", &networkingv1.NetworkPolicy{}).Spec.Egress {
			for _, peer := range rule.To {
				if peer.NamespaceSelector != nil {
					out = append(out, peer.NamespaceSelector.MatchExpressions[0].Values...)
				}
			}
		}
		return strings.Join(out, " ")
	}
	if got := reaches(); got != "data" {
		t.Errorf("the policy leads to the namespaces %q, want data", got)
	}
	w.quiet()

	// Drift is undone.
	change(w, get(w, "support-receiver", &networkingv1.NetworkPolicy{}), func(p *networkingv1.NetworkPolicy) {
		p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}}
	})
	w.reconcile()
	if got := reaches(); got != "data" {
		t.Errorf("the policy leads to the namespaces %q, want data", got)
	}
	w.quiet()

	// Switched off, it goes, and a person's own of that name is none of the operator's business.
	w.r.Settings.NetworkPolicy = nil
	w.reconcile()
	if got := w.exist(); got != allChildren {
		t.Errorf("children: %s, want %s", got, allChildren)
	}
	w.quiet()
	foreign := &networkingv1.NetworkPolicy{}
	foreign.Namespace, foreign.Name = w.namespace, "support-receiver"
	w.do(w.person.Create(t.Context(), foreign))
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.r.Settings.NetworkPolicy = &NetworkPolicy{OperatorNamespace: "heymarket-system"}
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildNameTaken, "NetworkPolicy")
}
