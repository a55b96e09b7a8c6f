package controller

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// countPeriod is how often the counts of one status may change.
const countPeriod = time.Minute

// setTargets sets the targets' status from the Pods' reports. It keeps the previous counts if no Pod has newer ones, or if they
// are younger than countPeriod, so that a busy webhook costs at most a write per minute and an idle one none.
func setTargets(after *v1alpha1.HeymarketWebhookStatus, hook *v1alpha1.HeymarketWebhook, reports []contract.Status, now time.Time) {
	before := &hook.Status
	after.Targets = nil
	for _, t := range hook.Spec.Targets {
		if old := targetStatus(before, t.Name); old != nil {
			after.Targets = append(after.Targets, *old)
		}
	}
	reports = slices.DeleteFunc(slices.Clone(reports), func(r contract.Status) bool { return r.Backlog == nil && r.Redis != contract.RedisOK })
	if len(reports) == 0 {
		return
	}
	var reported [][]contract.TargetStatus
	for _, r := range reports {
		reported = append(reported, r.Targets)
	}
	seen := contract.MergeTargets(reported...)
	var pending, deadLetters int64
	var targets []v1alpha1.TargetStatus
	for _, t := range hook.Spec.Targets {
		i := slices.IndexFunc(seen, func(s contract.TargetStatus) bool { return s.Name == t.Name })
		if i < 0 {
			continue // Its Pods do not serve the configuration yet.
		}
		pending += seen[i].Pending
		deadLetters += seen[i].DeadLetters
		targets = append(targets, statusOf(seen[i], targetStatus(before, t.Name)))
	}
	pending, deadLetters = roundDown(pending), roundDown(deadLetters)
	same := ptr.Equal(before.Pending, &pending) && ptr.Equal(before.DeadLetters, &deadLetters) && equality.Semantic.DeepEqual(targets, after.Targets)
	if same || before.CountTime != nil && now.Sub(before.CountTime.Time) < countPeriod {
		return
	}
	after.Pending, after.DeadLetters, after.Targets = &pending, &deadLetters, targets
	after.CountTime = new(metav1.NewTime(now))
}

// waitingStep is by how much a time must differ from the status before it is written again: retries change often.
const waitingStep = 5 * time.Minute

// statusOf returns a report about a target as the status has it: counts are rounded, and small differences of times from before
// are ignored.
func statusOf(t contract.TargetStatus, before *v1alpha1.TargetStatus) v1alpha1.TargetStatus {
	if before == nil {
		before = &v1alpha1.TargetStatus{}
	}
	s := v1alpha1.TargetStatus{
		Name: t.Name, Pending: roundDown(t.Pending), DeadLetters: roundDown(t.DeadLetters), Circuit: v1alpha1.Circuit(t.Circuit),
		// A Pod's time is lost when it ends, so an earlier one in the reports changes nothing.
		LastDelivered: moved(before.LastDelivered, t.LastDelivered),
		OldestPending: steadyTime(before.OldestPending, t.OldestPending),
		NextAttempt:   steadyTime(before.NextAttempt, t.NextAttempt),
	}
	if e := t.LastError; e != nil {
		var since *metav1.Time
		if before.LastError != nil && before.LastError.Class == string(e.Class) {
			since = &before.LastError.Since
		}
		s.LastError = &v1alpha1.TargetError{Class: string(e.Class), Since: *steadyTime(since, e.Since)}
	}
	return s
}

// steadyTime returns before, unless seen differs from it by waitingStep or more; nil if seen is zero.
func steadyTime(before *metav1.Time, seen time.Time) *metav1.Time {
	switch {
	case seen.IsZero():
		return nil
	case before != nil && seen.Sub(before.Time).Abs() < waitingStep:
		return before
	}
	return new(metav1.NewTime(seen.Truncate(time.Second).Local()))
}

// roundDown keeps the first digit: 0 to 9, 10, 20 … 90, 100, 200 and so on. Small numbers are exact, and large ones rarely
// change.
func roundDown(n int64) int64 {
	unit := int64(1)
	for n/unit >= 10 {
		unit *= 10
	}
	return n / unit * unit
}

func targetStatus(s *v1alpha1.HeymarketWebhookStatus, name string) *v1alpha1.TargetStatus {
	for i := range s.Targets {
		if s.Targets[i].Name == name {
			return &s.Targets[i]
		}
	}
	return nil
}

// emitTargetEvents records an event when a circuit opens or closes, and when a target gets its first dead letter.
func (r *Reconciler) emitTargetEvents(hook *v1alpha1.HeymarketWebhook, before, after *v1alpha1.HeymarketWebhookStatus) {
	for i := range after.Targets {
		is := &after.Targets[i]
		was := targetStatus(before, is.Name)
		if was == nil {
			was = &v1alpha1.TargetStatus{Name: is.Name, Circuit: v1alpha1.CircuitClosed}
		}
		switch {
		case was.Circuit == is.Circuit:
		case is.Circuit == v1alpha1.CircuitClosed:
			r.targetEvent(hook, is.Name, corev1.EventTypeNormal, v1alpha1.EventCircuitClosed, "Target %q accepts events again.", is.Name)
		case is.Circuit == v1alpha1.CircuitGone:
			r.targetEvent(hook, is.Name, corev1.EventTypeWarning, v1alpha1.EventCircuitOpened,
				"Target %q answers 410 Gone, so it gets no more events: remove it from spec.targets, or set the right URL. Its events are kept meanwhile.", is.Name)
		default:
			r.targetEvent(hook, is.Name, corev1.EventTypeWarning, v1alpha1.EventCircuitOpened,
				"Target %q fails, so it gets fewer attempts until it answers again: see the log of Deployment %q. Its events are kept meanwhile.",
				is.Name, contract.ReceiverName(hook.Name))
		}
		if was.DeadLetters == 0 && is.DeadLetters > 0 {
			r.targetEvent(hook, is.Name, corev1.EventTypeWarning, v1alpha1.EventDeadLetters,
				"Target %q has dead letters, events that are no longer retried: see the log of Deployment %q for the reason, fix the target, and replay them.",
				is.Name, contract.ReceiverName(hook.Name))
		}
	}
}

// targetEvent records an event about one target. Its reference names the target as the kubelet's names a container: recorders
// merge events with the same object, reason and action, whatever their texts are.
func (r *Reconciler) targetEvent(hook *v1alpha1.HeymarketWebhook, target, kind, reason, format string, args ...any) {
	about := &corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "HeymarketWebhook", Namespace: hook.Namespace, Name: hook.Name, UID: hook.UID,
		ResourceVersion: hook.ResourceVersion, FieldPath: fmt.Sprintf("spec.targets{%s}", target),
	}
	r.Events.Eventf(about, nil, kind, reason, "Deliver", "%s", fmt.Sprintf(format, args...))
}
