package controller

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// readRoute reads the HTTPRoute. One that is not wanted is looked for only where a cache knows them all, so that
// resources which never had one cost no request.
func (r *Reconciler) readRoute(ctx context.Context, now *round, key client.ObjectKey, wanted bool) error {
	if !wanted && !r.Routes {
		return nil
	}
	if !wanted {
		known := &metav1.PartialObjectMetadata{}
		known.SetGroupVersionKind(desired.HTTPRouteKind)
		err := r.Client.Get(ctx, key, known)
		if client.IgnoreNotFound(err) != nil && !meta.IsNoMatchError(err) {
			return fmt.Errorf("read HTTPRoute %s: %w", key.Name, err)
		}
		if err == nil && metav1.IsControlledBy(known, now.hook) {
			now.children.route = &unstructured.Unstructured{}
			now.children.route.SetGroupVersionKind(desired.HTTPRouteKind)
			now.children.route.SetName(known.Name)
			now.children.route.SetNamespace(known.Namespace)
			now.children.route.SetUID(known.UID)
			now.children.route.SetDeletionTimestamp(known.DeletionTimestamp)
		}
		return nil
	}
	route := &unstructured.Unstructured{}
	route.SetGroupVersionKind(desired.HTTPRouteKind)
	route, err := readChild(ctx, r, now, "HTTPRoute", key, route, wanted)
	switch {
	case meta.IsNoMatchError(err):
		now.noGateways, now.unwatched = true, true
		return nil
	case err != nil:
		return err
	}
	now.children.route = route
	now.unwatched = now.unwatched || !r.Routes
	return nil
}

// applyRoute applies the HTTPRoute if it differs from what there is.
func (r *Reconciler) applyRoute(ctx context.Context, now *round, want *unstructured.Unstructured) error {
	is := now.children.route
	if !now.accepted() || now.noGateways || is != nil && sameRoute(is, want) {
		return nil
	}
	err := r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(FieldOwner), client.ForceOwnership)
	if meta.IsNoMatchError(err) {
		now.noGateways, now.unwatched = true, true
		return nil
	}
	wrote, err := now.applied(err, want.GetKind(), want.GetName())
	if wrote {
		log.FromContext(ctx).Info("Applied", "child", "HTTPRoute/"+want.GetName())
	}
	return err
}

// sameRoute compares what the operator says about a route. parentRefs and hostnames are lists that have one owner each;
// elsewhere others may have added.
func sameRoute(is, want *unstructured.Unstructured) bool {
	for _, field := range []string{"parentRefs", "hostnames"} {
		a, _, _ := unstructured.NestedFieldNoCopy(is.Object, "spec", field)
		b, _, _ := unstructured.NestedFieldNoCopy(want.Object, "spec", field)
		if !equality.Semantic.DeepEqual(a, b) {
			return false
		}
	}
	return covers(is.Object, want.Object)
}

// covers says whether all of want is in is.
func covers(is, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		is, ok := is.(map[string]any)
		for k, v := range want {
			ok = ok && covers(is[k], v)
		}
		return ok
	case []any:
		is, ok := is.([]any)
		ok = ok && len(is) == len(want)
		for i := 0; ok && i < len(want); i++ {
			ok = covers(is[i], want[i])
		}
		return ok
	default:
		return is == want
	}
}

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
	case !now.accepted() && now.children.route == nil:
		return verdict{reason: v1alpha1.ReasonNotExposed, message: "There is no HTTPRoute, because the resource is not accepted."}
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
	route := now.children.route
	if route != nil {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(route.Object, &status); err != nil {
			route = nil // It is not of the shape that its kind has.
		}
	}
	for _, ref := range now.hook.Spec.Exposure.HTTPRoute.ParentRefs {
		accepted, resolved := false, false
		for _, p := range status.Status.Parents {
			if route == nil || p.ParentRef["name"] != ref.Name || ref.Namespace != "" && p.ParentRef["namespace"] != ref.Namespace ||
				ref.SectionName != "" && p.ParentRef["sectionName"] != ref.SectionName {
				continue
			}
			for _, c := range p.Conditions {
				if c.ObservedGeneration < route.GetGeneration() {
					continue
				}
				if c.Status == metav1.ConditionFalse && (c.Type == "Accepted" || c.Type == "ResolvedRefs") {
					return verdict{reason: v1alpha1.ReasonRouteRefused, message: bounded(fmt.Sprintf(
						"Gateway %q of spec.exposure.httpRoute.parentRefs does not take HTTPRoute %q (%s): %s", ref.Name, name, c.Reason, c.Message))}
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
				"Gateway %q of spec.exposure.httpRoute.parentRefs has not said whether it takes HTTPRoute %q: check that it exists and that a controller serves it (kubectl get gateway%s).",
				ref.Name, name, namespaceOption(ref.Namespace))}
		}
	}
	return verdict{ok: true, reason: v1alpha1.ReasonAdmitted, message: "Every Gateway has accepted the HTTPRoute."}
}

func namespaceOption(namespace string) string {
	if namespace == "" {
		return ""
	}
	return " -n " + namespace
}
