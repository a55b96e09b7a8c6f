package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// setTokens keeps the last use of each referenced token, even if it moves to another field, and updates it from Pods that
// serve the wanted configuration: in others, the current token may be the previous one by now.
func setTokens(after *v1alpha1.HeymarketWebhookStatus, hook *v1alpha1.HeymarketWebhook, reports []contract.Status) {
	before := hook.Status.Token
	known := map[v1alpha1.TokenReference]*metav1.Time{}
	if before != nil {
		known[before.SecretKeyRef] = before.LastUsed
		if p := before.PreviousSecretKeyRef; p != nil {
			known[*p] = before.PreviousLastUsed
		}
	}
	used := map[string]time.Time{}
	for _, r := range reports {
		for _, t := range r.Tokens {
			if t.LastUsed.After(used[t.Name]) {
				used[t.Name] = t.LastUsed
			}
		}
	}
	spec := hook.Spec.Token
	after.Token = &v1alpha1.TokenStatus{
		SecretKeyRef:         spec.SecretKeyRef,
		LastUsed:             moved(known[spec.SecretKeyRef], used["current"]),
		PreviousSecretKeyRef: spec.PreviousSecretKeyRef,
	}
	last := after.Token.LastUsed
	if p := spec.PreviousSecretKeyRef; p != nil {
		after.Token.PreviousLastUsed = moved(known[*p], used["previous"])
		if last == nil || last.Before(after.Token.PreviousLastUsed) {
			last = after.Token.PreviousLastUsed
		}
	}
	after.LastEventTime = hook.Status.LastEventTime
	if last != nil {
		after.LastEventTime = moved(after.LastEventTime, last.Time)
	}
}

// emitTokenEvents records an event when a rotation ends.
func (r *Reconciler) emitTokenEvents(hook *v1alpha1.HeymarketWebhook, before, after *v1alpha1.HeymarketWebhookStatus) {
	if before.Token != nil && before.Token.PreviousSecretKeyRef != nil && after.Token != nil && after.Token.PreviousSecretKeyRef == nil {
		r.event(hook, corev1.EventTypeNormal, v1alpha1.EventRotationFinished, "Rotate",
			"The previous token is no longer accepted: only the one in Secret %q is accepted.", after.Token.SecretKeyRef.Name)
	}
}

// serving returns the reports of receivers that serve one of the configurations. At the addresses in an EndpointSlice,
// receivers of another namespace may answer: their figures must not appear here.
func serving(reports []contract.Status, digests ...string) []contract.Status {
	return slices.DeleteFunc(slices.Clone(reports), func(r contract.Status) bool { return !slices.Contains(digests, r.ConfigDigest) })
}

// lastUsedStep is by how much a time in the status must be outdated before it is written again.
const lastUsedStep = 5 * time.Minute

// moved returns the later time if it is later by lastUsedStep, so that a busy webhook does not write for every event.
func moved(before *metav1.Time, seen time.Time) *metav1.Time {
	if seen.IsZero() || before != nil && seen.Sub(before.Time) < lastUsedStep {
		return before
	}
	return new(metav1.NewTime(seen.Truncate(time.Second).Local()))
}
