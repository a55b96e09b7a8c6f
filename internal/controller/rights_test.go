package controller

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// rights are those that requests have used, such as "patch apps/deployments".
type rights struct {
	mu   sync.Mutex
	used map[string]bool
}

func (r *rights) record(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err == nil && resp.StatusCode < 400 || err == nil && resp.StatusCode == http.StatusNotFound {
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, verb := range verbs(req, resp.StatusCode) {
					r.used[verb+" "+resource(req.URL.Path)] = true
				}
			}
			return resp, err
		})
	})
	return cfg
}

// verbs are those that the API server asks about. An apply that creates needs two.
func verbs(req *http.Request, status int) []string {
	switch {
	case req.Method == http.MethodPatch && status == http.StatusCreated:
		return []string{"patch", "create"}
	case req.Method == http.MethodPatch:
		return []string{"patch"}
	case req.Method == http.MethodPost:
		return []string{"create"}
	case req.Method == http.MethodPut:
		return []string{"update"}
	case req.Method == http.MethodDelete:
		return []string{"delete"}
	case req.URL.Query().Has("sendInitialEvents"):
		return []string{"watch", "list"} // An API server that cannot stream the list is asked for it.
	case req.URL.Query().Has("watch"):
		return []string{"watch"}
	case strings.HasSuffix(req.URL.Path, "/"+lastOf(resource(req.URL.Path))):
		return []string{"list"}
	}
	return []string{"get"}
}

// resource is group and resource of a path, the subresource included.
func resource(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	group := ""
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		group, parts = parts[1], parts[3:]
	default:
		return "" // discovery, which everyone may read
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	name := parts[0]
	if len(parts) > 2 {
		name += "/" + parts[2]
	}
	return group + "/" + name
}

func lastOf(resource string) string { return resource[strings.LastIndexByte(resource, '/')+1:] }

// Every right in config/rbac is used by the operator. Each test of the manager shows that they suffice, because
// none has more.
func TestRights(t *testing.T) {
	t.Parallel()
	installExtensions(t)
	w := newWorld(t)
	w.r.Settings.NetworkPolicy = &NetworkPolicy{OperatorNamespace: "heymarket-system"}
	seen := &rights{used: map[string]bool{}}
	w.manage(seen.record(operatorIn(t, w.namespace)), w.namespace) // The same rules as those of the ClusterRole.

	w.webhook(smallest + "deletionPolicy: Delete\nexposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public}]}}\n" +
		"receiver: {autoscaling: {maxReplicas: 3, backlogPerReplica: 100}}")
	w.eventually("the refusal", func() bool { return w.reason(v1alpha1.ConditionAccepted) == v1alpha1.ReasonTokenSecretNotFound })
	w.secret("heymarket", map[string]string{"token": canary})
	w.eventually("acceptance", func() bool { return w.reason(v1alpha1.ConditionAccepted) == v1alpha1.ReasonAccepted })
	w.eventually("the ScaledObject", func() bool { return w.hasExtension(desired.ScaledObjectKind) })
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.Autoscaling.BacklogPerReplica = nil })
	w.eventually("the HorizontalPodAutoscaler", func() bool {
		return strings.Contains(w.exist(), "HorizontalPodAutoscaler") && !w.hasExtension(desired.ScaledObjectKind)
	})
	// A child is read from the API server if it has lost its label.
	unlabel := func(child client.Object) {
		change(w, get(w, "support-receiver", child), func(o client.Object) {
			labels := o.GetLabels()
			delete(labels, contract.LabelManagedBy)
			o.SetLabels(labels)
		})
		w.eventually("the label", func() bool { return get(w, "support-receiver", child).GetLabels()[contract.LabelManagedBy] != "" })
	}
	unlabel(&corev1.Service{})
	unlabel(&networkingv1.NetworkPolicy{})
	unlabel(&policyv1.PodDisruptionBudget{})
	unlabel(&autoscalingv2.HorizontalPodAutoscaler{})
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Exposure = v1alpha1.Exposure{Type: v1alpha1.ExposureIngress}
		h.Spec.Receiver.Autoscaling, h.Spec.Receiver.Replicas = nil, new(int32(1))
	})
	w.eventually("an Ingress alone", func() bool {
		return strings.HasSuffix(w.exist(), "Deployment support-receiver, Ingress support-receiver")
	})
	unlabel(&networkingv1.Ingress{})
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure = v1alpha1.Exposure{Type: v1alpha1.ExposureNone} })
	w.eventually("nothing to expose", func() bool { return strings.HasSuffix(w.exist(), "Deployment support-receiver") })

	w.eventually("an event", func() bool {
		var list eventsv1.EventList
		w.do(w.person.List(t.Context(), &list, client.InNamespace(w.namespace)))
		return len(list.Items) > 1
	})

	// An operator that has no more use for NetworkPolicies removes them.
	off := newWorld(t)
	off.r.Settings.NetworkPolicy = w.r.Settings.NetworkPolicy
	off.secret("heymarket", map[string]string{"token": canary})
	off.webhook(smallest)
	off.reconcile()
	off.r.Settings.NetworkPolicy = nil
	off.manage(seen.record(operator(t, "rights-test-off")), off.namespace)
	off.eventually("no NetworkPolicy", func() bool { return off.exist() == allChildren })

	w.do(w.person.Delete(t.Context(), w.hook()))
	w.collectGarbage()
	w.eventually("the Pod that removes the keys", w.removalStarted)
	w.removes(contract.Status{Removal: &contract.Removal{Done: true}})
	w.eventually("the end", func() bool { return w.gone("support") })

	seen.mu.Lock()
	defer seen.mu.Unlock()
	var unused []string
	for _, rule := range clusterRole(t).Rules {
		for _, g := range rule.APIGroups {
			for _, res := range rule.Resources {
				for _, verb := range rule.Verbs {
					if right := fmt.Sprintf("%s %s/%s", verb, g, res); !seen.used[right] {
						unused = append(unused, right)
					}
				}
			}
		}
	}
	if len(unused) > 0 {
		t.Errorf("granted and not used: %s", strings.Join(unused, ", "))
	}
}
