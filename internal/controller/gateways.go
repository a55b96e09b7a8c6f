package controller

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// readGateways reads which Gateways of the HTTPRoute do not exist. Some controllers leave a route as it was when its Gateway is
// deleted, so that the status of the route alone does not show it.
func (r *Reconciler) readGateways(ctx context.Context, f *condition.Facts) error {
	if f.NoGatewayAPI || f.Webhook.Spec.Exposure.Type != v1alpha1.ExposureHTTPRoute {
		return nil
	}
	for _, ref := range desired.ParentRefs(f.Webhook, f.Input.Gateways) {
		key := desired.GatewayKey(ref, f.Webhook.Namespace)
		if slices.Contains(f.MissingGateways, key) {
			continue
		}
		gateway := &metav1.PartialObjectMetadata{}
		gateway.SetGroupVersionKind(desired.GatewayKind)
		err := r.Live.Get(ctx, key, gateway)
		switch {
		case apierrors.IsNotFound(err):
			f.MissingGateways = append(f.MissingGateways, key)
		case err != nil:
			// For example without the right to read it. Then only its controller's report counts.
			log.FromContext(ctx).V(1).Info("Cannot determine whether a Gateway exists", "gateway", key.String(), "error", err.Error())
		}
	}
	return nil
}

// gatewaysChanged reports whether a Gateway of the HTTPRoute was deleted or created since the status was written. No watch reports
// it, because the operator may not be allowed to read the Gateways of all namespaces.
func (r *Reconciler) gatewaysChanged(ctx context.Context, hook *v1alpha1.HeymarketWebhook) bool {
	f := condition.Facts{Webhook: hook, Input: desired.Input{Gateways: r.Settings.Gateways}, NoGatewayAPI: !r.OptionalKinds.Served(desired.HTTPRouteKind)}
	is := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionExposed)
	if is == nil || is.Status != metav1.ConditionTrue && is.Reason != v1alpha1.ReasonGatewayMissing || r.readGateways(ctx, &f) != nil {
		return false
	}
	if missing := condition.GatewayMissing(f); missing != nil {
		return is.Message != missing.Message
	}
	return is.Reason == v1alpha1.ReasonGatewayMissing
}
