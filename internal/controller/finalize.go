package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// removalDeadline is how long a deleted resource may wait for the removal of its keys, from when the operator first saw the
	// deletion.
	removalDeadline = 5 * time.Minute
	// requeueAfter is how soon to check again whether the Pods have ended, and whether the keys are removed.
	requeueAfter = 2 * time.Second
)

// keepFinalizer makes sure that a resource has the finalizer if and only if its keys are deleted with it. It returns refused if
// the API server rejects the write.
func (r *Reconciler) keepFinalizer(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (refused, err error) {
	err = r.setFinalizer(ctx, hook, hook.Spec.DeletionPolicy == v1alpha1.DeletionDelete)
	if err != nil && !isTransient(err) {
		return err, nil
	}
	return nil, err
}

// setFinalizer writes only the list of finalizers, and only if it is still the list that was read. Server-side apply would
// not work: it cannot remove a finalizer that a backup or a manifest has restored under another field manager, so the
// resource would never be deleted.
func (r *Reconciler) setFinalizer(ctx context.Context, hook *v1alpha1.HeymarketWebhook, wanted bool) error {
	if slices.Contains(hook.Finalizers, v1alpha1.FinalizerRedisKeys) == wanted {
		return nil
	}
	updated := hook.DeepCopy()
	if wanted {
		updated.Finalizers = append(updated.Finalizers, v1alpha1.FinalizerRedisKeys)
	} else {
		updated.Finalizers = slices.DeleteFunc(updated.Finalizers, func(f string) bool { return f == v1alpha1.FinalizerRedisKeys })
	}
	patch := client.MergeFromWithOptions(hook, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, updated, patch, client.FieldOwner(FieldOwner)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write finalizer: %w", err)
	}
	hook.ObjectMeta = updated.ObjectMeta
	return nil
}

// finalize performs the next step of a deletion: first events are no longer routed, then the receivers end, then their keys are
// removed, then the resource is deleted. A Pod removes the keys; the operator does it if the namespace has its own Redis user,
// which must not see the names of others' keys. It connects to no Redis except its own.
func (r *Reconciler) finalize(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (reconcile.Result, error) {
	switch {
	case !slices.Contains(hook.Finalizers, v1alpha1.FinalizerRedisKeys):
		return reconcile.Result{}, nil
	case hook.Spec.DeletionPolicy != v1alpha1.DeletionDelete:
		return r.removeFinalizer(ctx, hook, func() {})
	}
	left := cmp.Or(r.Settings.removalDeadline, removalDeadline)
	if begun, waits, known := removalBegun(hook); known {
		left = time.Until(begun.Add(left))
		if left <= 0 && waits != "" {
			return r.keepKeys(ctx, hook, waits)
		}
	}
	ending, err := r.namespaceEnding(ctx, hook.Namespace)
	switch {
	case err != nil:
		return reconcile.Result{}, err
	case ending: // No Pod can be created any more, and the running ones are ending.
		return r.keepKeys(ctx, hook, namespaceEndingMessage)
	}
	why, err := r.removeKeys(ctx, hook)
	switch {
	case err != nil && isTransient(err):
		return requeueOnConflict(err)
	case err != nil:
		why = condition.False(v1alpha1.ReasonReceiverNotEnded, "The API server rejects a write that removes the keys from Redis; change the quota or the policy that it names: %s. "+keysStay,
			condition.Bounded(condition.APIMessage(err)))
	case why == nil:
		return r.removeFinalizer(ctx, hook, func() {
			r.event(hook, corev1.EventTypeNormal, v1alpha1.EventRedisKeysRemoved, "Delete", "All keys that begin with %s have been removed from Redis.", contract.RedisPrefix(hook.Namespace, hook.Name))
		})
	}
	if left <= 0 {
		return r.keepKeys(ctx, hook, why.Message)
	}
	return r.awaitRemoval(ctx, hook, *why, left, err)
}

// awaitRemoval reports what the deletion waits for, and requeues after a short delay, or after the time left. deferredErr is
// returned once that has been reported.
func (r *Reconciler) awaitRemoval(ctx context.Context, hook *v1alpha1.HeymarketWebhook, why condition.Condition, left time.Duration, deferredErr error) (reconcile.Result, error) {
	switch err := r.reportDeletion(ctx, hook, why); {
	case err != nil && isTransient(err):
		return requeueOnConflict(err)
	case err != nil && time.Since(hook.DeletionTimestamp.Time) > removalDeadline: // The status cannot hold the start time.
		return r.keepKeys(ctx, hook, why.Message)
	case err != nil || deferredErr != nil:
		return reconcile.Result{}, cmp.Or(err, deferredErr)
	}
	return reconcile.Result{RequeueAfter: max(min(requeueAfter, left), time.Millisecond)}, nil
}

// keepKeys lets the resource be deleted without its keys.
func (r *Reconciler) keepKeys(ctx context.Context, hook *v1alpha1.HeymarketWebhook, why string) (reconcile.Result, error) {
	return r.removeFinalizer(ctx, hook, func() { r.emitKeysKeptEvent(ctx, hook, why) })
}

// keysStay ends the messages about a delayed deletion.
const keysStay = "After five minutes the resource is deleted anyway; its keys stay in Redis."

const namespaceEndingMessage = "the namespace is being deleted, so no Pod can be started to remove them."

// deletionReasons are the reasons of the condition Ready during a deletion.
var deletionReasons = []string{v1alpha1.ReasonReceiverEnding, v1alpha1.ReasonReceiverNotEnded, v1alpha1.ReasonRedisKeysLeft}

// removalBegun returns when the status first reported the deletion, if it did, and what it waits for; "" if only for the
// finalizer, for which a right may be missing. An operator that was stopped starts counting when it is back.
func removalBegun(hook *v1alpha1.HeymarketWebhook) (begun time.Time, waits string, known bool) {
	c := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case c == nil:
	case slices.Contains(deletionReasons, c.Reason):
		return c.LastTransitionTime.Time, c.Message, true
	case c.Reason == v1alpha1.ReasonFinalizerRefused && !c.LastTransitionTime.Before(hook.DeletionTimestamp):
		return c.LastTransitionTime.Time, "", true
	}
	return time.Time{}, "", false
}

// namespaceEnding reports whether the namespace is being deleted.
func (r *Reconciler) namespaceEnding(ctx context.Context, name string) (bool, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := r.Live.Get(ctx, client.ObjectKey{Name: name}, namespace)
	switch {
	case apierrors.IsForbidden(err): // Then it takes as long as if the namespace stayed.
		return false, nil
	case client.IgnoreNotFound(err) != nil:
		return false, fmt.Errorf("read Namespace %s: %w", name, err)
	}
	return !namespace.DeletionTimestamp.IsZero(), nil
}

// removeFinalizer removes the finalizer and then reports once what happened to the keys. If the API server denies the write, the
// status reports it.
func (r *Reconciler) removeFinalizer(ctx context.Context, hook *v1alpha1.HeymarketWebhook, tell func()) (reconcile.Result, error) {
	err := r.setFinalizer(ctx, hook, false)
	switch {
	case err == nil:
		tell()
		return reconcile.Result{}, nil
	case isTransient(err):
		return requeueOnConflict(err)
	}
	if unreported := r.reportDeletion(ctx, hook, *condition.FinalizerRejected(err)); unreported != nil {
		return requeueOnConflict(unreported)
	}
	return reconcile.Result{}, err
}

// requeueOnConflict makes a conflicting write be retried with a newer version of the object.
func requeueOnConflict(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: 100 * time.Millisecond}, nil
	}
	return reconcile.Result{}, err
}

var (
	receiversEnding = condition.False(v1alpha1.ReasonReceiverEnding, "The receiver Pods have not stopped yet; the keys are removed from Redis after that.")
	removingKeys    = condition.False(v1alpha1.ReasonReceiverEnding, "The Pod that removes the keys from Redis has not started yet.")
)

// removeKeys performs the next step of removing the keys. It returns nil if they are removed, or what it waits for. An error that
// is not transient is a rejection by the API server.
func (r *Reconciler) removeKeys(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (*condition.Condition, error) {
	if err := r.endRoutes(ctx, hook); err != nil {
		return nil, err
	}
	key := client.ObjectKey{Namespace: hook.Namespace, Name: contract.ReceiverName(hook.Name)}
	// From the API server: a cache that has missed a Deployment's deletion would block this wait indefinitely.
	deployment := &appsv1.Deployment{}
	err := r.Live.Get(ctx, key, deployment)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("read Deployment %s: %w", key.Name, err)
	case err != nil:
		return r.startRemoval(ctx, hook)
	case !metav1.IsControlledBy(deployment, hook):
		return condition.False(v1alpha1.ReasonRedisKeysLeft, "The keys cannot be removed from Redis, because Deployment %q does not belong to the operator: delete or rename it. "+keysStay, key.Name), nil
	case !deployment.DeletionTimestamp.IsZero():
		return receiversEnding, nil
	case desired.RemovesKeys(deployment) && !r.operatorRemovesKeys(hook):
		return r.askRemoval(ctx, hook)
	}
	// In the foreground: it exists until its ReplicaSets, which could create Pods, are deleted.
	return receiversEnding, deleteChild(ctx, r, "Deployment", deployment, client.PropagationPolicy(metav1.DeletePropagationForeground), client.DisableReadYourWritesConsistency)
}

// endRoutes deletes the children that route events to the receiver.
func (r *Reconciler) endRoutes(ctx context.Context, hook *v1alpha1.HeymarketWebhook) error {
	return r.eachRoute(func(c *desired.Child) error {
		route, _, err := r.readChild(ctx, hook, c, false, false)
		if err != nil || route == nil || !route.GetDeletionTimestamp().IsZero() {
			return err
		}
		return deleteChild(ctx, r, c.Kind, route)
	})
}

// startRemoval starts the Pod that removes the keys, once no other Pod of the webhook exists that could write some.
func (r *Reconciler) startRemoval(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (*condition.Condition, error) {
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	if err := r.Live.List(ctx, pods, client.InNamespace(hook.Namespace), client.MatchingLabels(contract.PodLabels(hook.Name)), client.Limit(1)); err != nil {
		return nil, fmt.Errorf("list Pods: %w", err)
	}
	if len(pods.Items) > 0 {
		return receiversEnding, nil
	}
	if r.operatorRemovesKeys(hook) {
		return r.removeSharedKeys(ctx, hook)
	}
	if why, err := r.redisMissing(ctx, hook); why != nil || err != nil {
		return why, err
	}
	removal, err := desired.BuildRemoval(desired.Input{
		Webhook: hook, SharedRedis: r.Redis(), Image: r.Settings.ReceiverImage, UserID: r.Settings.ReceiverUserID, ReceiverDefaults: r.Settings.ReceiverDefaults,
		TargetAddresses: r.Settings.TargetAddresses,
	})
	if err != nil {
		return condition.False(v1alpha1.ReasonRedisKeysLeft, "The keys cannot be removed from Redis: %s. "+keysStay, condition.Bounded(err.Error())), nil
	}
	secret, taken, err := r.readChild(ctx, hook, desired.ConfigSecret.Child, true, true)
	switch {
	case err != nil:
		return nil, err
	case taken != nil:
		return condition.False(v1alpha1.ReasonRedisKeysLeft, "%s %s", condition.NameTaken(*taken).Message, keysStay), nil
	}
	f, w := condition.Facts{Webhook: hook, Children: desired.Children{}}, condition.Writes{}
	if secret != nil {
		f.Children[desired.ConfigSecret.Child] = secret
	}
	if _, err := r.applyChild(ctx, f, &w, desired.ConfigSecret.Child, removal.ConfigSecret); err != nil {
		return nil, err
	}
	if _, err := r.applyChild(ctx, f, &w, desired.Deployment.Child, removal.Deployment); err != nil {
		return nil, err
	}
	return removingKeys, w.Err
}

// askRemoval queries the progress of the Pod that removes the keys. Anything in the namespace may answer: the answer decides only
// about the keys of that namespace's own webhook.
func (r *Reconciler) askRemoval(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (*condition.Condition, error) {
	pods, err := listPods(ctx, r.Client, hook)
	if err != nil {
		return nil, err
	}
	why := removingKeys
	for _, report := range askPods(ctx, r.Pods, append(pods.ready, pods.waiting...)) {
		switch {
		case report == nil || report.Removal == nil:
		case report.Removal.Done:
			return nil, nil //nolint:nilnil // nothing left to wait for
		case len(report.Problems) > 0 && report.Problems[0].Known():
			why = condition.False(v1alpha1.ReasonRedisKeysLeft, "The keys cannot be removed from Redis: %s The Redis user needs SCAN and UNLINK. %s", report.Problems[0].Message(), keysStay)
		}
	}
	if why != removingKeys {
		return why, nil
	}
	missing, err := r.redisMissing(ctx, hook)
	if missing != nil || err != nil {
		return missing, err
	}
	return why, nil
}

// redisMissing returns which key of a Secret is missing without which the Pod that removes the keys cannot start; nil if none is.
func (r *Reconciler) redisMissing(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (*condition.Condition, error) {
	for _, ref := range desired.RedisReferences(hook) {
		secret, err := r.readSecret(ctx, client.ObjectKey{Namespace: hook.Namespace, Name: ref.Secret}, ref.Key)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read Secret %s of %s: %w", ref.Secret, ref.Field, err)
		}
		if found := err == nil && secret.Data[ref.Key] != nil; !found {
			return condition.False(v1alpha1.ReasonRedisKeysLeft, "The keys cannot be removed from Redis: key %q of Secret %q of %s does not exist. Restore it, or set spec.deletionPolicy to Retain. "+keysStay,
				ref.Key, ref.Secret, ref.Field), nil
		}
	}
	return nil, nil //nolint:nilnil // nothing is missing
}

// reportDeletion writes to the status what the deletion waits for.
func (r *Reconciler) reportDeletion(ctx context.Context, hook *v1alpha1.HeymarketWebhook, why condition.Condition) error {
	updated := hook.DeepCopy()
	updated.Status.ObservedGeneration = hook.Generation
	if _, _, known := removalBegun(hook); !known {
		// It is False from now on, because of the deletion, see removalBegun.
		meta.RemoveStatusCondition(&updated.Status.Conditions, v1alpha1.ConditionReady)
	}
	condition.Set(&updated.Status, v1alpha1.ConditionReady, why)
	if equality.Semantic.DeepEqual(hook.Status, updated.Status) || r.pace.take(hook.UID, time.Now()) > 0 {
		return nil // A write that is too early after others is reported in a later round.
	}
	patch := client.MergeFromWithOptions(hook, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, updated, patch, client.FieldOwner(FieldOwner)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("write status: %w", err))
	}
	for _, e := range condition.DeletionEvents(&hook.Status, &updated.Status) {
		r.event(hook, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
	return nil
}

// emitKeysKeptEvent reports that the keys stay, why, and how to remove them. A namespace that is being deleted accepts no events,
// so then the event refers to the Namespace; it is logged in any case.
func (r *Reconciler) emitKeysKeptEvent(ctx context.Context, hook *v1alpha1.HeymarketWebhook, why string) {
	prefix := contract.RedisPrefix(hook.Namespace, hook.Name)
	var about runtime.Object = hook
	if why == namespaceEndingMessage {
		about = &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: hook.Namespace}}
	}
	r.Events.Eventf(about, nil, corev1.EventTypeWarning, v1alpha1.EventRedisKeysKept, "Delete", "%s", fmt.Sprintf(
		"HeymarketWebhook %s is deleted, and its keys, which begin with %s, are still in Redis. Remove them with: redis-cli --scan --pattern '%s*' | xargs redis-cli UNLINK. They stayed because: %s",
		hook.Name, prefix, prefix, why))
	log.FromContext(ctx).Info("A HeymarketWebhook is deleted, and its keys are still in Redis", "prefix", prefix, "reason", why)
}
