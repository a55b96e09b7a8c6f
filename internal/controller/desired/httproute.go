package desired

import (
	"cmp"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// HTTPRouteKind is the kind of the child. It is built without its Go types, which would bring in the Gateway API's own
// versions of the Kubernetes libraries.
var HTTPRouteKind = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"}

// GatewayKind is what HTTPRoutes attach to.
var GatewayKind = HTTPRouteKind.GroupVersion().WithKind("Gateway")

// HTTPRoute is the child that exposes the receiver through Gateways.
var HTTPRoute = optional(Child{
	GroupVersionKind: HTTPRouteKind, Condition: v1alpha1.ConditionExposed, EveryChange: true,
	wanted:   func(in Input) bool { return in.Webhook.Spec.Exposure.Type == v1alpha1.ExposureHTTPRoute },
	possible: func(in Input) bool { return !in.Conflict && len(ParentRefs(in.Webhook, in.Gateways)) > 0 },
	build:    func(p plan) any { return httpRoute(p.Input) },
})

// httpRoute routes the same requests as ingress. It sets the API's defaults explicitly, so that it equals the stored
// object.
func httpRoute(in Input) *unstructured.Unstructured {
	var parents []any
	for _, p := range ParentRefs(in.Webhook, in.Gateways) {
		parents = append(parents, parentRef(p))
	}
	spec := map[string]any{
		"parentRefs": parents,
		"rules": []any{map[string]any{
			"matches": []any{map[string]any{
				// A path prefix in the Gateway API matches whole path elements, with or without the trailing slash.
				"path": map[string]any{"type": "PathPrefix", "value": strings.TrimSuffix(pathPrefix(in), "/")},
			}},
			"backendRefs": []any{map[string]any{
				"group": "", "kind": "Service", "name": contract.ReceiverName(in.Webhook.Name), "port": int64(80), "weight": int64(1),
			}},
		}},
	}
	if in.HostRequested {
		spec["hostnames"] = []any{in.Host}
	}
	return optionalObject(in, HTTPRouteKind, spec)
}

// ParentRefs returns the Gateways that the HTTPRoute of w attaches to, given the operator's default.
func ParentRefs(w *v1alpha1.HeymarketWebhook, operatorDefault []v1alpha1.GatewayReference) []v1alpha1.GatewayReference {
	if r := w.Spec.Exposure.HTTPRoute; r != nil {
		return r.ParentRefs
	}
	return operatorDefault
}

// GatewayKey is the Gateway that a reference means in an HTTPRoute of the namespace own.
func GatewayKey(p v1alpha1.GatewayReference, own string) types.NamespacedName {
	return types.NamespacedName{Namespace: cmp.Or(p.Namespace, own), Name: p.Name}
}

func parentRef(p v1alpha1.GatewayReference) map[string]any {
	ref := map[string]any{"group": HTTPRouteKind.Group, "kind": "Gateway", "name": p.Name}
	if p.Namespace != "" {
		ref["namespace"] = p.Namespace
	}
	if p.SectionName != "" {
		ref["sectionName"] = p.SectionName
	}
	if p.Port != nil {
		ref["port"] = int64(*p.Port)
	}
	return ref
}
