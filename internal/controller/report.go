package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// How soon to look again where no watch tells.
const (
	askAgain = 3 * time.Second
	// askLater applies once the Pods have not come round for askPatience.
	askLater    = 30 * time.Second
	askPatience = 5 * time.Minute
	lookAgain   = 30 * time.Second
	// kedaAgain is how soon to look whether KEDA still takes a ScaledObject that it has taken.
	kedaAgain = 5 * time.Minute
)

// report writes the status if it differs, tells people what they must know, and says when to look again.
func (r *Reconciler) report(ctx context.Context, now *round, want desired.Objects, seen observation) (reconcile.Result, error) {
	before := now.hook.Status
	after := status(now, want, seen, time.Now())
	if !equality.Semantic.DeepEqual(before, after) {
		// A change of the spec is reported at once: it costs the tenant a write as well.
		if wait := r.pace.take(now.hook.UID, time.Now()); wait > 0 && before.ObservedGeneration == after.ObservedGeneration {
			return reconcile.Result{RequeueAfter: wait}, now.trouble
		}
		updated := now.hook.DeepCopy()
		updated.Status = after
		// The lock keeps a status that was made from an old view of the resource from undoing a newer one.
		patch := client.MergeFromWithOptions(now.hook, client.MergeFromWithOptimisticLock{})
		err := r.Client.Status().Patch(ctx, updated, patch, client.FieldOwner(FieldOwner))
		switch {
		case apierrors.IsConflict(err):
			return reconcile.Result{RequeueAfter: 100 * time.Millisecond}, nil
		case err != nil:
			if client.IgnoreNotFound(err) == nil {
				return reconcile.Result{}, nil // Deleted meanwhile.
			}
			return reconcile.Result{}, errors.Join(fmt.Errorf("write status: %w", err), now.trouble) // What the status does not tell, the log does.
		}
		r.tell(now.hook, &before, &after)
	}
	if now.trouble != nil {
		return reconcile.Result{}, now.trouble
	}
	return reconcile.Result{RequeueAfter: again(now, seen, after)}, nil
}

// verdict is the outcome of the condition Accepted.
func (now *round) verdict() verdict {
	switch {
	case now.refusal != nil:
		return *now.refusal
	case now.missing != nil:
		return *now.missing
	}
	accepted := verdict{ok: true, reason: v1alpha1.ReasonAccepted, message: "The resource and everything that it refers to is good." + now.hint}
	if n := now.hook.Spec.Receiver.Replicas; n != nil && *n != desired.DefaultReplicas && now.hook.Spec.Receiver.Autoscaling != nil {
		accepted.message += " spec.receiver.replicas has no effect beside spec.receiver.autoscaling: remove it, and set minReplicas and maxReplicas there."
	}
	return accepted
}

// status is the whole status. Times of transition are those of before where nothing has changed.
func status(now *round, want desired.Objects, seen observation, at time.Time) v1alpha1.HeymarketWebhookStatus {
	before := now.hook.Status
	accepted := now.verdict()
	after := v1alpha1.HeymarketWebhookStatus{
		ObservedGeneration: now.hook.Generation,
		Conditions:         append([]metav1.Condition(nil), before.Conditions...),
		URL:                before.URL,
		Host:               before.Host,
		Image:              before.Image,
		URLRevision:        before.URLRevision,
		PreviousURLUntil:   before.PreviousURLUntil,
	}
	// What is not accepted, or not stored, is not what the Pods serve.
	after.Token, after.LastEventTime = before.Token, before.LastEventTime
	figures(now.hook, &after, serving(seen.reports, want.ConfigDigest, desired.DigestOf(data(desired.ConfigSecret.In(now.children)))), at)
	if now.writes() && want.Deployment != nil {
		tokens(now.hook, &after, seen.reports, want.ConfigDigest, at)
		after.URL = desired.MaskedURL(now.input)
		after.Host = now.input.Host
		after.Image = now.input.Image
		after.URLRevision = now.input.Revision
		after.PreviousURLUntil = nil
		if _, last := desired.PreviousUntil(now.input); !last.IsZero() {
			after.PreviousURLUntil = new(metav1.NewTime(last.Local()))
		}
	}
	ready := verdict{ok: true, reason: v1alpha1.ReasonReady, message: "The receiver is serving and reachable."}
	for _, c := range []struct {
		name string
		*verdict
	}{
		{v1alpha1.ConditionAccepted, &accepted},
		{v1alpha1.ConditionAvailable, &seen.available},
		{v1alpha1.ConditionExposed, &seen.exposed},
		{v1alpha1.ConditionDurable, &seen.durable},
		{v1alpha1.ConditionScaled, seen.scaled},
	} {
		if c.verdict == nil {
			meta.RemoveStatusCondition(&after.Conditions, c.name)
			continue
		}
		setCondition(&after, c.name, *c.verdict)
		if !c.ok && ready.ok {
			ready = verdict{reason: c.reason, message: "Not " + c.name + ": " + c.message}
		}
	}
	setCondition(&after, v1alpha1.ConditionReady, ready)
	return after
}

func setCondition(s *v1alpha1.HeymarketWebhookStatus, name string, v verdict) {
	c := metav1.Condition{
		Type:               name,
		Status:             metav1.ConditionFalse,
		ObservedGeneration: s.ObservedGeneration,
		Reason:             v.reason,
		Message:            v.message,
	}
	if v.ok {
		c.Status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&s.Conditions, c)
}

// tell records what people must know and would not see otherwise.
func (r *Reconciler) tell(hook *v1alpha1.HeymarketWebhook, before, after *v1alpha1.HeymarketWebhookStatus) {
	r.tellCondition(hook, before, after, v1alpha1.ConditionAccepted, "Check", nil)
	r.tellCondition(hook, before, after, v1alpha1.ConditionDurable, "Store", func(reason string) bool {
		return reason == v1alpha1.ReasonNotDurable || reason == v1alpha1.ReasonRedisUnreachable || reason == v1alpha1.ReasonDeadLettersFull
	})
	r.tellCondition(hook, before, after, v1alpha1.ConditionAvailable, "RollOut", func(reason string) bool {
		return reason == v1alpha1.ReasonPodsRefused || reason == v1alpha1.ReasonRolloutStuck || reason == v1alpha1.ReasonChildFailed || reason == v1alpha1.ReasonChildOverwritten ||
			reason == v1alpha1.ReasonDeploymentPaused || reason == v1alpha1.ReasonScaledToZero
	})
	r.tellCondition(hook, before, after, v1alpha1.ConditionExposed, "Expose", func(reason string) bool {
		// What is pending is on its way, and what is not exposed yet has its own event.
		return !slices.Contains(pendingExposure, reason) && reason != v1alpha1.ReasonNotExposed
	})
	r.tellAddress(hook, before, after)
	r.tellCondition(hook, before, after, v1alpha1.ConditionScaled, "Scale", func(reason string) bool {
		return reason == v1alpha1.ReasonKEDAMissing || reason == v1alpha1.ReasonScaledObjectRefused || reason == v1alpha1.ReasonChildFailed || reason == v1alpha1.ReasonChildOverwritten
	})
	r.tellTraffic(hook, before, after)
}

// tellAddress records an event when a person has to type another URL into the Heymarket app, and when time for that is up.
func (r *Reconciler) tellAddress(hook *v1alpha1.HeymarketWebhook, before, after *v1alpha1.HeymarketWebhookStatus) {
	secret := desired.URLSecretName(hook.Name)
	switch {
	case before.URL == "" || after.URL == "": // There was none, or there is none yet.
	case after.URLRevision != before.URLRevision:
		r.event(hook, corev1.EventTypeNormal, v1alpha1.EventURLRenewed, "Renew",
			"The URL has a new secret part: copy it from Secret %q into the Heymarket app. The previous URL is accepted for spec.exposure.previousURLFor, %s.",
			secret, hook.Spec.Exposure.PreviousURLFor)
	case after.URL != before.URL:
		r.event(hook, corev1.EventTypeWarning, v1alpha1.EventURLChanged, "Expose",
			"Host or path of the URL have changed: copy the new URL from Secret %q into the Heymarket app. What is still sent to the earlier one may not arrive.", secret)
	}
	if before.PreviousURLUntil != nil && after.PreviousURLUntil == nil {
		r.event(hook, corev1.EventTypeNormal, v1alpha1.EventPreviousURLWithdrawn, "Renew",
			"The previous URL is withdrawn: only the one in Secret %q is accepted.", secret)
	}
}

// tellCondition records an event when a condition fails, when its reason changes, and when it is good again. A new
// resource that is good at once makes no noise. alarming says which reasons are worth an event; nil means all.
func (r *Reconciler) tellCondition(
	hook *v1alpha1.HeymarketWebhook, before, after *v1alpha1.HeymarketWebhookStatus, name, action string, alarming func(reason string) bool,
) {
	failing := func(c *metav1.Condition) bool {
		return c != nil && c.Status == metav1.ConditionFalse && (alarming == nil || alarming(c.Reason))
	}
	was, is := meta.FindStatusCondition(before.Conditions, name), meta.FindStatusCondition(after.Conditions, name)
	switch {
	case failing(is) && (!failing(was) || was.Reason != is.Reason):
		r.event(hook, corev1.EventTypeWarning, is.Reason, action, "%s", is.Message)
	case is != nil && is.Status == metav1.ConditionTrue && failing(was):
		r.event(hook, corev1.EventTypeNormal, is.Reason, action, "%s", is.Message)
	}
}

// again says when to look again although nothing has happened; zero means never.
func again(now *round, seen observation, after v1alpha1.HeymarketWebhookStatus) time.Duration {
	ask := askingAgain(now, seen, after)
	if now.nextWrite > 0 && (ask == 0 || now.nextWrite < ask) {
		ask = now.nextWrite
	}
	until, _ := desired.PreviousUntil(now.input)
	if until.IsZero() || !now.accepted() {
		return ask
	}
	// A previous URL is withdrawn when its time comes.
	withdraw := max(time.Until(until), time.Second)
	if ask == 0 {
		return withdraw
	}
	return min(ask, withdraw)
}

func askingAgain(now *round, seen observation, after v1alpha1.HeymarketWebhookStatus) time.Duration {
	switch {
	case seen.ask:
		since := meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionAvailable).LastTransitionTime
		if time.Since(since.Time) > askPatience {
			return askLater
		}
		return askAgain
	case now.unwatched:
		return lookAgain
	case seen.scaled != nil && seen.scaled.ok:
		return kedaAgain
	default:
		return 0
	}
}
