package controller

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

func routesHost(route *unstructured.Unstructured, host string) bool {
	hosts, _, _ := unstructured.NestedStringSlice(route.Object, "spec", "hostnames")
	return slices.Contains(hosts, host)
}

// observeRoute says whether every Gateway that was named accepts the route and finds the Service.
func observeRoute(now *round) verdict {
	name := desired.ReceiverName(now.hook.Name)
	switch {
	case now.noGateways:
		return verdict{reason: v1alpha1.ReasonGatewayAPIMissing, message: "The cluster has no HTTPRoute of gateway.networking.k8s.io/v1: install the Gateway API, or set spec.exposure.type to Ingress."}
	case !now.writes() && desired.HTTPRoute.In(now.children) == nil:
		return verdict{reason: v1alpha1.ReasonNotExposed, message: "There is no HTTPRoute, because " + now.why() + "."}
	case len(desired.ParentRefs(now.hook, now.input.Gateways)) == 0:
		return verdict{reason: v1alpha1.ReasonGatewayUnknown, message: "Nobody has named a Gateway: set spec.exposure.httpRoute.parentRefs, or have the operator's --gateway set."}
	case !now.input.HostRequested:
		return verdict{reason: v1alpha1.ReasonHostUnknown, message: "An HTTPRoute does not tell the host of the URL: set spec.exposure.host, or have the operator's --host-template set."}
	}
	var status struct {
		Status struct {
			Parents []struct {
				ParentRef  map[string]any     `json:"parentRef"`
				Conditions []metav1.Condition `json:"conditions"`
			} `json:"parents"`
		} `json:"status"`
	}
	route := desired.HTTPRoute.In(now.children)
	if route != nil {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(route.Object, &status); err != nil {
			route = nil // It is not of the shape that its kind has.
		}
	}
	source := "spec.exposure.httpRoute.parentRefs"
	if now.hook.Spec.Exposure.HTTPRoute == nil {
		source = "the operator's --gateway"
	}
	for _, ref := range desired.ParentRefs(now.hook, now.input.Gateways) {
		accepted, resolved := false, false
		for _, p := range status.Status.Parents {
			if route == nil || p.ParentRef["name"] != ref.Name || !inNamespace(p.ParentRef["namespace"], cmp.Or(ref.Namespace, now.hook.Namespace), now.hook.Namespace) ||
				ref.SectionName != "" && p.ParentRef["sectionName"] != ref.SectionName {
				continue
			}
			for _, c := range p.Conditions {
				// Not every controller sets observedGeneration. Where it is absent the condition counts.
				if c.ObservedGeneration != 0 && c.ObservedGeneration < route.GetGeneration() {
					continue
				}
				if c.Status == metav1.ConditionFalse && (c.Type == "Accepted" || c.Type == "ResolvedRefs") {
					return verdict{reason: v1alpha1.ReasonRouteRefused, message: bounded(fmt.Sprintf(
						"Gateway %q of %s does not take HTTPRoute %q (%s): %s", ref.Name, source, name, c.Reason, c.Message))}
				}
				accepted = accepted || c.Type == "Accepted" && c.Status == metav1.ConditionTrue
				resolved = resolved || c.Type == "ResolvedRefs" && c.Status == metav1.ConditionTrue
			}
		}
		if !accepted || !resolved {
			reason := v1alpha1.ReasonRoutePending
			if route != nil && overdue(now, route) {
				reason = v1alpha1.ReasonRouteIgnored
			}
			return verdict{reason: reason, message: fmt.Sprintf(
				"Gateway %q of %s has not said whether it takes HTTPRoute %q: check that it exists and that a controller serves it (kubectl get gateway%s).",
				ref.Name, source, name, namespaceOption(ref.Namespace))}
		}
	}
	return verdict{ok: true, reason: v1alpha1.ReasonAdmitted, message: "Every Gateway has accepted the HTTPRoute."}
}

// inNamespace says whether a reference's namespace, which may be absent and is then the route's own, is the wanted one.
func inNamespace(is any, wanted, own string) bool {
	if is == nil || is == "" {
		return wanted == own
	}
	return is == wanted
}

func namespaceOption(namespace string) string {
	if namespace == "" {
		return ""
	}
	return " -n " + namespace
}
