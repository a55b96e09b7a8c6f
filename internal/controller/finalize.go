package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// removalDeadline is how long after the deletion a resource may be held back by its keys.
	removalDeadline = 5 * time.Minute
	// removalTimeout bounds one try to remove the keys. It is below roundTimeout.
	removalTimeout = 45 * time.Second
	// How soon to look again whether the Pods have ended, and whether the keys can be removed.
	podsAgain = 2 * time.Second
	keysAgain = 10 * time.Second
)

// RedisKeys removes what a webhook has stored in Redis.
type RedisKeys interface {
	// Remove removes all keys of the webhook namespace/name from the Redis at url and returns how many there were. ca holds
	// the PEM certificates to trust, nil for the system's. An error repeats no password. After one the same call is right.
	Remove(ctx context.Context, url string, ca []byte, namespace, name string) (int, error)
}

// RedisKeysFunc is a function that is RedisKeys.
type RedisKeysFunc func(ctx context.Context, url string, ca []byte, namespace, name string) (int, error)

// Remove implements RedisKeys.
func (f RedisKeysFunc) Remove(ctx context.Context, url string, ca []byte, namespace, name string) (int, error) {
	return f(ctx, url, ca, namespace, name)
}

// keepFinalizer sees to it that a resource has the finalizer if and only if its keys go with it. It returns why not if the
// API server does not let it.
func (r *Reconciler) keepFinalizer(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (refused, err error) {
	err = r.setFinalizer(ctx, hook, hook.Spec.DeletionPolicy == v1alpha1.DeletionDelete)
	if err != nil && !passing(err) {
		return err, nil
	}
	return nil, err
}

// finalizerRefused is the message of an error that is not passing.
func finalizerRefused(err error) string {
	return fmt.Sprintf("The API server does not let the operator write the finalizer %s, which goes with spec.deletionPolicy; change the policy that it names: %s",
		v1alpha1.FinalizerRedisKeys, bounded(apiMessage(err)))
}

// refuseFinalizer notes what keepFinalizer was told: a receiver would store events of which nobody knows whether they go with
// the resource.
func (now *round) refuseFinalizer(err error) {
	if err == nil {
		return
	}
	now.refuse(v1alpha1.ReasonFinalizerRefused, "%s", finalizerRefused(err))
	now.trouble = err
}

// setFinalizer writes nothing but the list of finalizers, and only over the list that it has read. Server-side apply would
// not do: it could not take away a finalizer that a backup or a manifest has brought back under another field owner, and
// would hold the resource for ever.
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

// finalize makes one round of a resource that is being deleted: no more events come in, then the receivers end, then
// their keys go, then the resource.
func (r *Reconciler) finalize(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (reconcile.Result, error) {
	if !slices.Contains(hook.Finalizers, v1alpha1.FinalizerRedisKeys) {
		return reconcile.Result{}, nil
	}
	if hook.Spec.DeletionPolicy != v1alpha1.DeletionDelete {
		return r.letGo(ctx, hook, func() {})
	}
	begun, ended, trouble := r.endReceiver(ctx, hook)
	left := time.Until(begun.Add(cmp.Or(r.Settings.removalDeadline, removalDeadline)))
	why := &verdict{reason: v1alpha1.ReasonReceiverEnding, message: "The receiver Pods have to end before the keys are removed from Redis."}
	next := podsAgain
	switch {
	case trouble != nil && passing(trouble):
		return soon(trouble)
	case trouble != nil:
		why = &verdict{reason: v1alpha1.ReasonReceiverNotEnded, message: fmt.Sprintf(
			"The receiver has to end before the keys are removed from Redis, and the API server does not let the operator end it; change the policy that it names: %s. "+
				"After five minutes the resource goes without that.", bounded(apiMessage(trouble)))}
	case ended:
		next = keysAgain
		var err error
		if why, err = r.removeKeys(ctx, hook); err != nil {
			return soon(err)
		}
	}
	switch {
	case why == nil:
		return r.letGo(ctx, hook, func() {
			r.event(hook, corev1.EventTypeNormal, v1alpha1.EventRedisKeysRemoved, "Delete", "All keys that begin with %s are removed from Redis.", keyPrefix(hook))
		})
	case left <= 0:
		return r.letGo(ctx, hook, func() { r.tellKeysKept(ctx, hook, *why) })
	}
	if err := r.reportDeletion(ctx, hook, *why); err != nil {
		return soon(err)
	}
	if trouble != nil {
		return reconcile.Result{}, trouble
	}
	return reconcile.Result{RequeueAfter: max(min(next, left), time.Millisecond)}, nil
}

// letGo takes the finalizer away and then tells what came of the keys, once. If the API server does not let it, the status
// tells.
func (r *Reconciler) letGo(ctx context.Context, hook *v1alpha1.HeymarketWebhook, tell func()) (reconcile.Result, error) {
	err := r.setFinalizer(ctx, hook, false)
	switch {
	case err == nil:
		tell()
		return reconcile.Result{}, nil
	case passing(err):
		return soon(err)
	}
	if unreported := r.reportDeletion(ctx, hook, verdict{reason: v1alpha1.ReasonFinalizerRefused, message: finalizerRefused(err)}); unreported != nil {
		return soon(unreported)
	}
	return reconcile.Result{}, err
}

// soon has a write that came too late tried again upon a newer view.
func soon(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: 100 * time.Millisecond}, nil
	}
	return reconcile.Result{}, err
}

// endReceiver removes what leads to the receiver and the receiver itself. It returns whether all Pods are gone, and since
// when that has been waited for: an operator that was away begins to wait when it comes back.
func (r *Reconciler) endReceiver(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (begun time.Time, ended bool, err error) {
	now := &round{hook: hook}
	key := client.ObjectKey{Namespace: hook.Namespace, Name: desired.ReceiverName(hook.Name)}
	begun = hook.DeletionTimestamp.Time
	ingress, err := readChild(ctx, r, now, "Ingress", key, &networkingv1.Ingress{}, false)
	if err != nil {
		return begun, false, err
	}
	if err := endChild(ctx, r, "Ingress", ingress); err != nil {
		return begun, false, err
	}
	route, err := r.readExtension(ctx, now, desired.HTTPRouteKind, key, false)
	if err != nil {
		return begun, false, err
	}
	if err := endChild(ctx, r, "HTTPRoute", route); err != nil {
		return begun, false, err
	}
	// From the API server: a cache that has missed the end of a Deployment would be waited for, for ever.
	deployment := &appsv1.Deployment{}
	err = r.Live.Get(ctx, key, deployment)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return begun, false, fmt.Errorf("read Deployment %s: %w", key.Name, err)
	case err != nil || !metav1.IsControlledBy(deployment, hook): // It is gone, or another's.
	case !deployment.DeletionTimestamp.IsZero():
		return deployment.DeletionTimestamp.Time, false, nil
	default:
		// In the foreground: it stays until its ReplicaSets are gone, which could make Pods until then.
		err := deleteChild(ctx, r, "Deployment", deployment, client.PropagationPolicy(metav1.DeletePropagationForeground), client.DisableReadYourWritesConsistency)
		if err != nil {
			return begun, false, err
		}
		return time.Now(), false, nil
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	if err := r.Live.List(ctx, pods, client.InNamespace(hook.Namespace), client.MatchingLabels(desired.PodLabels(hook.Name)), client.Limit(1)); err != nil {
		return begun, false, fmt.Errorf("list Pods: %w", err)
	}
	return begun, len(pods.Items) == 0, nil
}

// endChild deletes a child of a resource that is being deleted, unless it is on its way already.
func endChild[L client.Object](ctx context.Context, r *Reconciler, kind string, child L) error {
	if isNil(child) || !child.GetDeletionTimestamp().IsZero() {
		return nil
	}
	return deleteChild(ctx, r, kind, child)
}

// removeKeys returns nil if the keys are gone, or why they are not.
func (r *Reconciler) removeKeys(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (*verdict, error) {
	url, ca, err := r.redisOf(ctx, hook)
	if missing, ok := errors.AsType[missingSecret](err); ok {
		return &verdict{reason: v1alpha1.ReasonRedisKeysLeft, message: fmt.Sprintf(
			"The keys cannot be removed from Redis: %s. Bring it back, or set spec.deletionPolicy to Retain; after five minutes the resource goes without that.", missing)}, nil
	}
	switch {
	case err != nil && passing(err):
		return nil, err
	case err != nil:
		return &verdict{reason: v1alpha1.ReasonRedisKeysLeft, message: fmt.Sprintf(
			"The keys cannot be removed from Redis, because the API server does not let the operator read where it is: %s. After five minutes the resource goes without that.",
			bounded(apiMessage(err)))}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, removalTimeout)
	defer cancel()
	removed, err := r.Keys.Remove(ctx, url, ca, hook.Namespace, hook.Name)
	if err != nil {
		log.FromContext(ctx).Error(err, "Cannot remove the keys of a deleted HeymarketWebhook from Redis")
		return &verdict{
			reason: v1alpha1.ReasonRedisKeysLeft,
			message: "The keys cannot be removed from Redis: check that it runs, that its certificate is signed by an authority that the operator trusts, that its user may use SCAN and UNLINK, and that no NetworkPolicy keeps the operator from it; " +
				"the log of the operator says more. After five minutes the resource goes without that.",
		}, nil
	}
	log.FromContext(ctx).Info("Removed the keys of a deleted HeymarketWebhook from Redis", "keys", removed)
	return nil, nil
}

// missingSecret says which key of a Secret is missing.
type missingSecret struct{ desired.Reference }

func (m missingSecret) Error() string {
	return fmt.Sprintf("key %q of Secret %q of %s does not exist", m.Key, m.Secret, m.Field)
}

// redisOf returns what to reach the Redis of a resource by. A missingSecret is an error of a person.
func (r *Reconciler) redisOf(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (url string, ca []byte, err error) {
	if hook.Spec.Redis == nil {
		shared := r.Redis()
		return shared.URL, shared.CA, nil
	}
	for i, ref := range desired.RedisReferences(hook) {
		secret := &corev1.Secret{}
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: hook.Namespace, Name: ref.Secret}, secret)
		if client.IgnoreNotFound(err) != nil {
			return "", nil, fmt.Errorf("read Secret %s of %s: %w", ref.Secret, ref.Field, err)
		}
		value, found := secret.Data[ref.Key]
		switch {
		case !found:
			return "", nil, missingSecret{ref}
		case i == 0:
			url = string(value)
		default:
			ca = value
		}
	}
	return url, ca, nil
}

// reportDeletion tells in the status what the deletion waits for.
func (r *Reconciler) reportDeletion(ctx context.Context, hook *v1alpha1.HeymarketWebhook, why verdict) error {
	updated := hook.DeepCopy()
	updated.Status.ObservedGeneration = hook.Generation
	setCondition(&updated.Status, v1alpha1.ConditionReady, why)
	if equality.Semantic.DeepEqual(hook.Status, updated.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(hook, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, updated, patch, client.FieldOwner(FieldOwner)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("write status: %w", err))
	}
	r.tellCondition(hook, &hook.Status, &updated.Status, v1alpha1.ConditionReady, "Delete", func(reason string) bool {
		return reason != v1alpha1.ReasonReceiverEnding
	})
	return nil
}

// tellKeysKept says what stays behind. A namespace that is being deleted takes no events, so the log says it too.
func (r *Reconciler) tellKeysKept(ctx context.Context, hook *v1alpha1.HeymarketWebhook, why verdict) {
	prefix := keyPrefix(hook)
	r.event(hook, corev1.EventTypeWarning, v1alpha1.EventRedisKeysKept, "Delete",
		"The resource is gone, and its keys, which begin with %s, are still in Redis. Remove them with: redis-cli --scan --pattern '%s*' | xargs redis-cli UNLINK. They stayed because: %s",
		prefix, prefix, why.message)
	log.FromContext(ctx).Info("A HeymarketWebhook is gone, and its keys are still in Redis", "prefix", prefix, "reason", why.message)
}

// keyPrefix is what the keys of a webhook begin with; docs/redis.md promises it.
func keyPrefix(hook *v1alpha1.HeymarketWebhook) string {
	return fmt.Sprintf("hmw:{%s/%s}:", hook.Namespace, hook.Name)
}
