package controller

import (
	"context"
	"fmt"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// children are the child objects as they are, nil where there is none.
type children struct {
	urlSecret, configSecret *corev1.Secret
	service                 *corev1.Service
	policy                  *networkingv1.NetworkPolicy
	deployment              *appsv1.Deployment
	budget                  *policyv1.PodDisruptionBudget
	autoscaler              *autoscalingv2.HorizontalPodAutoscaler
	scaledObject            *unstructured.Unstructured
	ingress                 *networkingv1.Ingress
	route                   *unstructured.Unstructured
}

func (r *Reconciler) readChildren(ctx context.Context, now *round) error {
	name := client.ObjectKey{Namespace: now.hook.Namespace, Name: desired.ReceiverName(now.hook.Name)}
	urlName := client.ObjectKey{Namespace: now.hook.Namespace, Name: desired.URLSecretName(now.hook.Name)}
	wantsRoute := now.hook.Spec.Exposure.Type == v1alpha1.ExposureHTTPRoute
	wantsIngress := now.hook.Spec.Exposure.Type != v1alpha1.ExposureNone && !wantsRoute
	wantsBudget := desired.MinReplicas(now.hook) > 1
	wantsAutoscaler := now.hook.Spec.Receiver.Autoscaling != nil

	var err error
	if now.children.urlSecret, err = readChild(ctx, r, now, "Secret", urlName, &corev1.Secret{}, true); err != nil {
		return err
	}
	if now.children.configSecret, err = readChild(ctx, r, now, "Secret", name, &corev1.Secret{}, true); err != nil {
		return err
	}
	if now.children.service, err = readChild(ctx, r, now, "Service", name, &corev1.Service{}, true); err != nil {
		return err
	}
	if now.children.policy, err = readChild(ctx, r, now, "NetworkPolicy", name, &networkingv1.NetworkPolicy{}, r.Settings.NetworkPolicy != nil); err != nil {
		return err
	}
	if now.children.deployment, err = readChild(ctx, r, now, "Deployment", name, &appsv1.Deployment{}, true); err != nil {
		return err
	}
	if now.children.budget, err = readChild(ctx, r, now, "PodDisruptionBudget", name, &policyv1.PodDisruptionBudget{}, wantsBudget); err != nil {
		return err
	}
	if now.children.autoscaler, err = readChild(ctx, r, now, "HorizontalPodAutoscaler", name, &autoscalingv2.HorizontalPodAutoscaler{}, wantsAutoscaler); err != nil {
		return err
	}
	if now.children.ingress, err = readChild(ctx, r, now, "Ingress", name, &networkingv1.Ingress{}, wantsIngress); err != nil {
		return err
	}
	wantsScaledObject := wantsAutoscaler && now.hook.Spec.Receiver.Autoscaling.BacklogPerReplica != nil
	if now.children.scaledObject, err = r.readExtension(ctx, now, desired.ScaledObjectKind, name, wantsScaledObject); err != nil {
		return err
	}
	now.noGateways = wantsRoute && !r.Extensions.Served(desired.HTTPRouteKind)
	now.children.route, err = r.readExtension(ctx, now, desired.HTTPRouteKind, name, wantsRoute)
	return err
}

// readChild returns the object, or nil if there is none. What the cache does not know is asked of the API server if the
// child is wanted: it may be too new for the cache, may have lost its label, or may be somebody else's. An object that
// the operator made and that has lost its owner is adopted. Any other that is not controlled by this resource is a refusal,
// and not ours to read, change or delete.
func readChild[T client.Object](
	ctx context.Context, r *Reconciler, now *round, kind string, key client.ObjectKey, obj T, wanted bool,
) (T, error) {
	var none T
	err := r.Client.Get(ctx, key, obj)
	if err == nil && isHollow(obj) {
		reflect.ValueOf(obj).Elem().SetZero()
		err = r.Live.Get(ctx, key, obj)
	}
	if apierrors.IsNotFound(err) && wanted {
		err = r.Live.Get(ctx, key, obj)
	}
	switch {
	case apierrors.IsNotFound(err):
		return none, nil
	case err != nil:
		return none, fmt.Errorf("read %s %s: %w", kind, key.Name, err)
	case metav1.IsControlledBy(obj, now.hook):
		return obj, nil
	}
	adopted, err := r.adopt(ctx, now.hook, obj)
	switch {
	case err != nil:
		return none, fmt.Errorf("adopt %s %s: %w", kind, key.Name, err)
	case adopted:
		return obj, nil
	case !wanted:
		return none, nil
	}
	now.unwatched = true
	switch {
	case !obj.GetDeletionTimestamp().IsZero():
		now.refuse(v1alpha1.ReasonChildNameTaken, "%s %q belongs to an earlier HeymarketWebhook of this name and is about to be removed.", kind, key.Name)
	case key.Name == desired.URLSecretName(now.hook.Name):
		now.refuse(v1alpha1.ReasonChildNameTaken,
			"%s %q exists and was not made by the operator, so it is left alone. If it holds the URL that Heymarket sends to, keep a copy of it before you rename it; or give the HeymarketWebhook another name.",
			kind, key.Name)
	default:
		now.refuse(v1alpha1.ReasonChildNameTaken,
			"%s %q exists and does not belong to this HeymarketWebhook, so it is left alone: delete or rename it, or give the HeymarketWebhook another name.",
			kind, key.Name)
	}
	return none, nil
}
