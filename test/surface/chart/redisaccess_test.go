package chart

import (
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// For every regeneration of the goldens: only the manager and receivers reach the bundled Redis, at its only port, and receivers
// only from the namespaces that the operator watches.
func TestWhoMayReachTheBundledRedis(t *testing.T) {
	t.Parallel()
	const home = namespace
	for _, tc := range []struct {
		values           string
		stagingR, otherR bool
	}{
		{"networkPolicy: {enabled: true}", true, true},
		{"networkPolicy: {enabled: true}\nnamespaces: [staging, production]", true, false},
	} {
		objects := rendered(t, tc.values)
		policy := find[*networkingv1.NetworkPolicy](t, objects, release+"-redis")
		manager := find[*appsv1.Deployment](t, objects, "").Spec.Template.Labels
		redis := find[*appsv1.StatefulSet](t, objects, "").Spec.Template.Labels
		receiver := receiverTemplate(t).Labels
		without := func(label string) map[string]string {
			l := maps.Clone(receiver)
			delete(l, label)
			return l
		}
		if !matches(t, &policy.Spec.PodSelector, redis) || policy.Namespace != home {
			t.Errorf("the policy in %s does not select Redis", policy.Namespace)
		}
		if !slices.Equal(policy.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) || len(policy.Spec.Ingress) != 1 {
			t.Fatalf("the policy has the types %v and %d rules", policy.Spec.PolicyTypes, len(policy.Spec.Ingress))
		}
		rule := policy.Spec.Ingress[0]
		if len(rule.Ports) != 1 || rule.Ports[0].Port.String() != "redis" || rule.Ports[0].EndPort != nil || len(rule.From) == 0 {
			t.Errorf("%q: the ports are %v, from %d peers", tc.values, rule.Ports, len(rule.From))
		}
		for _, pod := range []struct {
			what, namespace string
			labels          map[string]string
			want            bool
		}{
			{"the manager", home, manager, true},
			{"a Pod elsewhere with the manager's labels", "staging", manager, false},
			{"a receiver in a namespace", "staging", receiver, tc.stagingR},
			{"a receiver in another", "other", receiver, tc.otherR},
			{"a Pod in the operator's namespace", home, map[string]string{"app": "web"}, false},
			{"a Pod elsewhere", "staging", map[string]string{"app": "web"}, false},
			{"a Pod with the name of receivers alone", "staging", without("app.kubernetes.io/managed-by"), false},
			{"another Pod of the operator", "staging", without("app.kubernetes.io/name"), false},
		} {
			allowed := slices.ContainsFunc(rule.From, func(peer networkingv1.NetworkPolicyPeer) bool {
				return peerIs(t, peer, home, pod.namespace, pod.labels)
			})
			if allowed != pod.want {
				t.Errorf("%q: %s reaches Redis: %t, want %t", tc.values, pod.what, allowed, pod.want)
			}
		}
	}
}

// peerIs reports whether a peer of a policy in a namespace is a Pod with these labels in a namespace of its own.
func peerIs(t *testing.T, peer networkingv1.NetworkPolicyPeer, home, namespace string, pod map[string]string) bool {
	t.Helper()
	if peer.IPBlock != nil {
		t.Errorf("a peer is a block of addresses: %v", peer.IPBlock)
	}
	there := namespace == home
	if peer.NamespaceSelector != nil {
		there = matches(t, peer.NamespaceSelector, map[string]string{corev1.LabelMetadataName: namespace})
	}
	return there && (peer.PodSelector == nil || matches(t, peer.PodSelector, pod))
}

func matches(t *testing.T, selector *metav1.LabelSelector, of map[string]string) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(of))
}
