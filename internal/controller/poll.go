package controller

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// pollPeriod is how often the Pods of a settled resource are queried.
const pollPeriod = time.Minute

// needsReconcile reports whether the Pods of a resource report something that differs from its status and that the status may
// adopt now, or a Gateway was deleted or created. If the Pods are not ready, only their verdict on Redis counts.
func (r *Reconciler) needsReconcile(ctx context.Context, caches client.Reader, key client.ObjectKey) bool {
	hook := &v1alpha1.HeymarketWebhook{}
	if err := caches.Get(ctx, key, hook); err != nil {
		return false // Deleted in the meantime.
	}
	if !hook.DeletionTimestamp.IsZero() {
		return false
	}
	if r.gatewaysChanged(ctx, hook) {
		return true
	}
	addresses, err := listPods(ctx, caches, hook)
	if err != nil {
		return false // Fails only if the cache is shut down.
	}
	if !meta.IsStatusConditionTrue(hook.Status.Conditions, v1alpha1.ConditionAvailable) {
		if len(addresses.ready) > 0 {
			return false
		}
		// Pods are listed before they answer, and no watch reports when they do.
		reports := answers(askPods(ctx, r.Pods, addresses.waiting))
		return len(reports) > 0 && reportsDurability(hook, reports)
	}
	if len(addresses.ready) == 0 {
		return false
	}
	handedOut := &corev1.Secret{}
	if err := caches.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: contract.ReceiverName(key.Name)}, handedOut); err != nil {
		return true
	}
	answered := askPods(ctx, r.Pods, addresses.ready)
	noteRedisUser(r.Users, hook, string(handedOut.Data[desired.KeyRedisURL]), answered)
	switch {
	case ctx.Err() != nil:
		return false
	case slices.Contains(answered, nil), reportsDurability(hook, answers(answered)):
		return true
	}
	reports := answers(answered)
	digest := configDigest(handedOut)
	after := hook.Status.DeepCopy()
	setTargets(after, hook, serving(reports, digest), time.Now())
	if meta.IsStatusConditionTrue(hook.Status.Conditions, v1alpha1.ConditionAccepted) {
		setTokens(after, hook, serving(reports, digest))
	}
	return !equality.Semantic.DeepEqual(&hook.Status, after)
}

// reportsDurability reports whether Pods that answered have a verdict on Redis that the status lacks.
func reportsDurability(hook *v1alpha1.HeymarketWebhook, reports []contract.Status) bool {
	durable := condition.Durable(condition.Facts{Now: time.Now(), Webhook: hook, Reports: reports}, condition.Writes{})
	is := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionDurable)
	return is == nil || is.Reason != durable.Reason || is.Message != durable.Message
}
