package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// report writes the status if it differs, records events, and returns when to check again.
func (r *Reconciler) report(ctx context.Context, f condition.Facts, w condition.Writes) (reconcile.Result, error) {
	hook, deferredErr := f.Webhook, cmp.Or(w.Err, f.FinalizerErr)
	after, again := status(f, w)
	if !equality.Semantic.DeepEqual(hook.Status, after) {
		// A change of the spec is reported at once: it costs the tenant a write as well.
		if wait := r.pace.take(hook.UID, f.Now); wait > 0 && hook.Status.ObservedGeneration == after.ObservedGeneration {
			return reconcile.Result{RequeueAfter: wait}, deferredErr
		}
		updated := hook.DeepCopy()
		updated.Status = after
		// The lock prevents a status based on an outdated resource from overwriting a newer one.
		patch := client.MergeFromWithOptions(hook, client.MergeFromWithOptimisticLock{})
		err := r.Client.Status().Patch(ctx, updated, patch, client.FieldOwner(FieldOwner))
		switch {
		case apierrors.IsNotFound(err):
			return reconcile.Result{}, nil // Deleted in the meantime.
		case apierrors.IsConflict(err):
			return requeueOnConflict(err)
		case err != nil:
			return reconcile.Result{}, errors.Join(fmt.Errorf("write status: %w", err), deferredErr) // The log has what the status lacks.
		}
		r.emitEvents(hook, &hook.Status, &after)
	}
	if deferredErr != nil {
		return reconcile.Result{}, deferredErr
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// status returns the whole status, and when to check again. Transition times of unchanged conditions are kept.
func status(f condition.Facts, w condition.Writes) (v1alpha1.HeymarketWebhookStatus, time.Duration) {
	after := *f.Webhook.Status.DeepCopy()
	after.ObservedGeneration = f.Webhook.Generation
	setTargets(&after, f.Webhook, serving(f.Reports, f.Want.ConfigDigest, desired.DigestOf(condition.Data(desired.ConfigSecret.In(f.Children)))), f.Now)
	// A configuration that is not accepted, or not stored, is not the one that the Pods serve.
	if condition.MayWrite(f, w) && f.Want.Deployment != nil {
		setTokens(&after, f.Webhook, serving(f.Reports, f.Want.ConfigDigest))
		after.URL = desired.MaskedURL(f.Input)
		after.Host = f.Input.Host
		after.Image = f.Input.Image
		after.URLRevision = f.Input.Revision
		after.PreviousURLUntil = nil
		if _, last := desired.PreviousUntil(f.Input); !last.IsZero() {
			after.PreviousURLUntil = new(metav1.NewTime(last.Local()))
		}
	}
	again := condition.SetAll(&after, f, w)
	return after, again
}

// emitEvents records changes that people must know and would not notice otherwise.
func (r *Reconciler) emitEvents(hook *v1alpha1.HeymarketWebhook, before, after *v1alpha1.HeymarketWebhookStatus) {
	for _, e := range condition.Events(before, after) {
		r.event(hook, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
	r.emitURLEvents(hook, before, after)
	r.emitTokenEvents(hook, before, after)
	r.emitTargetEvents(hook, before, after)
}

// emitURLEvents records an event when a person must enter another URL in the Heymarket app, and when the previous URL
// expires.
func (r *Reconciler) emitURLEvents(hook *v1alpha1.HeymarketWebhook, before, after *v1alpha1.HeymarketWebhookStatus) {
	secret := contract.URLSecretName(hook.Name)
	switch {
	case before.URL == "" || after.URL == "": // There was none, or there is none yet.
	case after.URLRevision != before.URLRevision:
		r.event(hook, corev1.EventTypeNormal, v1alpha1.EventURLRenewed, "Renew",
			"The URL has a new secret part: copy it from Secret %q into the Heymarket app. The previous URL is accepted for spec.exposure.previousURLFor, %s.",
			secret, hook.Spec.Exposure.PreviousURLFor)
	case after.URL != before.URL:
		r.event(hook, corev1.EventTypeWarning, v1alpha1.EventURLChanged, "Expose",
			"Host or path of the URL have changed: copy the new URL from Secret %q into the Heymarket app. Events sent to the earlier URL may not arrive.", secret)
	}
	if before.PreviousURLUntil != nil && after.PreviousURLUntil == nil {
		r.event(hook, corev1.EventTypeNormal, v1alpha1.EventPreviousURLWithdrawn, "Renew",
			"The previous URL is no longer accepted: only the one in Secret %q is accepted.", secret)
	}
}

// event records one event. Its text is stable, so that repeated events are counted and not listed.
func (r *Reconciler) event(hook *v1alpha1.HeymarketWebhook, kind, reason, action, format string, args ...any) {
	r.Events.Eventf(hook, nil, kind, reason, action, "%s", fmt.Sprintf(format, args...))
}
