package controller

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/test/apiserver"
)

// httpRouteCRD has the defaults of the Gateway API's own, and knows no more.
const httpRouteCRD = `
metadata:
  name: httproutes.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: https://github.com/kubernetes-sigs/gateway-api/pull/3328}
spec:
  group: gateway.networking.k8s.io
  names: {kind: HTTPRoute, listKind: HTTPRouteList, plural: httproutes, singular: httproute}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
          spec:
            type: object
            properties:
              hostnames: {type: array, items: {type: string}}
              parentRefs:
                type: array
                items:
                  type: object
                  properties:
                    group: {type: string, default: gateway.networking.k8s.io}
                    kind: {type: string, default: Gateway}
                    namespace: {type: string}
                    name: {type: string}
                    sectionName: {type: string}
                    port: {type: integer, format: int32}
              rules:
                type: array
                items:
                  type: object
                  x-kubernetes-preserve-unknown-fields: true
                  properties:
                    timeouts: {type: object, default: {}, properties: {request: {type: string, default: 10s}}}
`

// From a cluster without the Gateway API to a route that is admitted, and back to an Ingress.
func TestHTTPRoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + "exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public, namespace: gateways, sectionName: https}]}}")
	if res := w.reconcile(); res.RequeueAfter != lookAgain {
		t.Errorf("looks again after %s, want %s, for no watch tells", res.RequeueAfter, lookAgain)
	}
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonGatewayAPIMissing, "install the Gateway API")
	noRoute := strings.TrimSuffix(allChildren, ", Ingress support-receiver")
	if got := w.exist(); got != noRoute {
		t.Errorf("children: %s, want %s", got, noRoute)
	}
	w.quiet()

	var crd apiextensionsv1.CustomResourceDefinition
	w.do(yaml.UnmarshalStrict([]byte(httpRouteCRD), &crd))
	_, err := envtest.InstallCRDs(apiserver.Config(t), envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{&crd}})
	w.do(err)
	t.Cleanup(func() {
		if err := envtest.UninstallCRDs(apiserver.Config(t), envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{&crd}}); err != nil {
			t.Error(err)
		}
	})
	w.eventually("the route", func() bool {
		w.reconcile()
		return w.reason(v1alpha1.ConditionExposed) != v1alpha1.ReasonGatewayAPIMissing
	})
	route := func() *unstructured.Unstructured {
		t.Helper()
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(desired.HTTPRouteKind)
		return get(w, "support-receiver", u)
	}
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonRoutePending, `"public"`, "kubectl get gateway")
	w.quiet()
	says := func(status, reason string) {
		t.Helper()
		u := route()
		u.Object["status"] = map[string]any{"parents": []any{map[string]any{
			"controllerName": "example.com/gateway",
			"parentRef":      map[string]any{"name": "public", "namespace": "gateways", "sectionName": "https"},
			"conditions": []any{
				condition("Accepted", status, reason, u.GetGeneration()), condition("ResolvedRefs", "True", "ResolvedRefs", u.GetGeneration()),
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

	// Drift is undone, and a part of a reference that is no longer wanted goes.
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

	w.r.Settings.HostTemplate = nil
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonHostUnknown, "spec.exposure.host")

	w.r.Routes = true
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

	// Somebody else's route is left alone.
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Exposure = v1alpha1.Exposure{Type: v1alpha1.ExposureHTTPRoute, HTTPRoute: &v1alpha1.HTTPRouteExposure{ParentRefs: []v1alpha1.GatewayReference{{Name: "public"}}}}
	})
	u.SetNamespace(w.namespace)
	u.SetName("support-receiver")
	w.do(w.person.Create(t.Context(), u))
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildNameTaken, "HTTPRoute")
	w.quiet()

	// A manager that starts with the Gateway API watches routes.
	second := newWorld(t)
	second.manage(operator(t, "route-test"), second.namespace)
	second.secret("heymarket", map[string]string{"token": canary})
	second.webhook(smallest + "exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public}]}}")
	second.eventually("the route", func() bool { return second.reason(v1alpha1.ConditionExposed) == v1alpha1.ReasonRoutePending })
	made := &unstructured.Unstructured{}
	made.SetGroupVersionKind(desired.HTTPRouteKind)
	second.do(second.person.Delete(t.Context(), get(second, "support-receiver", made)))
	second.eventually("the route again", func() bool {
		again := made.DeepCopy()
		return second.person.Get(t.Context(), second.key("support-receiver"), again) == nil && again.GetUID() != made.GetUID()
	})

	t.Run("rights", testRights)
}

func condition(kind, status, reason string, generation int64) map[string]any {
	return map[string]any{
		"type": kind, "status": status, "reason": reason, "message": "because", "observedGeneration": generation,
		"lastTransitionTime": metav1.Now().UTC().Format("2006-01-02T15:04:05Z"),
	}
}
