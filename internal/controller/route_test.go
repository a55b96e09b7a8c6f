package controller

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// From a cluster without the Gateway API to an accepted route, and back to an Ingress.
func TestHTTPRoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + "exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public, namespace: gateways, sectionName: https}]}}")
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonGatewayAPIMissing, "install the Gateway API")
	noRoute := strings.TrimSuffix(allChildren, ", Ingress support-receiver")
	if got := w.exist(); got != noRoute {
		t.Errorf("children: %s, want %s", got, noRoute)
	}
	w.quiet()

	installExtensions(t)
	w.serves[desired.HTTPRouteKind] = true
	w.reconcile()
	route := func() *unstructured.Unstructured {
		t.Helper()
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(desired.HTTPRouteKind)
		return get(w, "support-receiver", u)
	}
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonGatewayMissing, `"public"`, `does not exist in namespace "gateways"`)
	w.gateway("gateways", "public")
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonRoutePending, `"public"`, "kubectl get gateway")
	w.quiet()
	says := func(status, reason string) {
		t.Helper()
		u := route()
		u.Object["status"] = map[string]any{"parents": []any{map[string]any{
			"controllerName": "example.com/gateway",
			"parentRef":      map[string]any{"name": "public", "namespace": "gateways", "sectionName": "https"},
			"conditions": []any{
				routeCondition("Accepted", status, reason, u.GetGeneration()), routeCondition("ResolvedRefs", "True", "ResolvedRefs", u.GetGeneration()),
			},
		}}}
		w.do(w.person.Status().Update(t.Context(), u))
	}
	says("False", "NotAllowedByListeners")
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonRouteRefused, `"public"`, "NotAllowedByListeners", "because")
	says("True", "Accepted")
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, true, v1alpha1.ReasonAdmitted)
	w.quiet()

	// A Gateway that is deleted, and comes back, while its controller leaves the status of the route as it is.
	deleted := w.gateway("gateways", "public")
	settled := func() bool { return !w.r.needsReconcile(t.Context(), w.person, client.ObjectKeyFromObject(w.hook())) }
	if !settled() {
		t.Error("the operator does not rest while the Gateway exists")
	}
	w.do(w.person.Delete(t.Context(), deleted))
	if settled() {
		t.Error("the operator does not notice that the Gateway was deleted")
	}
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonGatewayMissing, `"public" of spec.exposure.httpRoute.parentRefs`, "kubectl get gateway -n gateways")
	w.quiet()
	if !settled() {
		t.Error("the operator does not rest while the Gateway is missing")
	}
	unable := w.r.Live
	w.r.Live = noGateways{unable} // Without the right to read Gateways, what their controller reports counts alone.
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, true, v1alpha1.ReasonAdmitted)
	w.r.Live = unable
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonGatewayMissing)
	w.gateway("gateways", "public")
	if settled() {
		t.Error("the operator does not notice that the Gateway is back")
	}
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, true, v1alpha1.ReasonAdmitted)
	w.quiet()

	// Drift is reverted, and an unwanted part of a reference is removed.
	change(w, route(), func(u *unstructured.Unstructured) {
		_ = unstructured.SetNestedStringSlice(u.Object, []string{"evil.example.com"}, "spec", "hostnames")
	})
	w.reconcile()
	if hosts, _, _ := unstructured.NestedStringSlice(route().Object, "spec", "hostnames"); len(hosts) != 1 || hosts[0] != w.namespace+".hooks.example.com" {
		t.Errorf("hostnames: %v", hosts)
	}
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.HTTPRoute.ParentRefs[0].SectionName = "" })
	w.reconcile()
	if parents, _, _ := unstructured.NestedSlice(route().Object, "spec", "parentRefs"); parents[0].(map[string]any)["sectionName"] != nil {
		t.Errorf("parentRefs: %v", parents)
	}
	w.quiet()
	// What a Gateway said of an earlier generation does not count.
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonRoutePending)

	// A resource that names no Gateway attaches to the operator's.
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.HTTPRoute = nil })
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonGatewayUnknown, "--gateway")
	w.gateway("gateways", "shared")
	w.r.Settings.Gateways = Gateways{{Namespace: "gateways", Name: "shared"}}
	w.reconcile()
	if parents, _, _ := unstructured.NestedSlice(route().Object, "spec", "parentRefs"); len(parents) != 1 || parents[0].(map[string]any)["name"] != "shared" {
		t.Errorf("parentRefs: %v", parents)
	}
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonRoutePending, `"shared" of the operator's --gateway`, "-n gateways")
	w.quiet()

	w.r.Settings.HostTemplate = nil
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonHostUnknown, "spec.exposure.host")

	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Exposure = v1alpha1.Exposure{Type: v1alpha1.ExposureIngress}
	})
	w.reconcile()
	if got := w.exist(); got != allChildren {
		t.Errorf("children: %s", got)
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(desired.HTTPRouteKind)
	if err := w.person.Get(t.Context(), w.key("support-receiver"), u); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the route is still there: %v", err)
	}
	w.quiet()

	// Someone else's route is left alone.
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Exposure = v1alpha1.Exposure{Type: v1alpha1.ExposureHTTPRoute, HTTPRoute: &v1alpha1.HTTPRouteExposure{ParentRefs: []v1alpha1.GatewayReference{{Name: "public"}}}}
	})
	u.SetNamespace(w.namespace)
	u.SetName("support-receiver")
	w.do(w.person.Create(t.Context(), u))
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildNameTaken, "HTTPRoute")
	w.quiet()
}

// gateway creates a Gateway, or returns the one that there is.
func (w *world) gateway(namespace, name string) *unstructured.Unstructured {
	w.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	w.do(client.IgnoreAlreadyExists(w.person.Create(w.t.Context(), ns)))
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(desired.GatewayKind)
	u.SetNamespace(namespace)
	u.SetName(name)
	w.do(client.IgnoreAlreadyExists(w.person.Create(w.t.Context(), u)))
	w.do(w.person.Get(w.t.Context(), client.ObjectKeyFromObject(u), u))
	return u
}

// noGateways is an API server that does not let the operator read Gateways.
type noGateways struct{ client.Reader }

func (n noGateways) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if kind := obj.GetObjectKind().GroupVersionKind(); kind == desired.GatewayKind {
		return apierrors.NewForbidden(schema.GroupResource{Group: kind.Group, Resource: "gateways"}, key.Name, errors.New("no right"))
	}
	return n.Reader.Get(ctx, key, obj, opts...)
}

func routeCondition(kind, status, reason string, generation int64) map[string]any {
	return map[string]any{
		"type": kind, "status": status, "reason": reason, "message": "because", "observedGeneration": generation,
		"lastTransitionTime": metav1.Now().UTC().Format("2006-01-02T15:04:05Z"),
	}
}
