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

// circuits are ordered from the best to the worst.
var circuits = []v1alpha1.Circuit{v1alpha1.CircuitClosed, v1alpha1.CircuitOpen, v1alpha1.CircuitGone}

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
	var pending, deadLetters int64
	var targets []v1alpha1.TargetStatus
	for _, t := range hook.Spec.Targets {
		s, known := counted(t.Name, reports)
		if !known {
			continue // Its Pods do not serve the configuration yet.
		}
		pending += s.Pending
		deadLetters += s.DeadLetters
		s.Pending, s.DeadLetters = roundDown(s.Pending), roundDown(s.DeadLetters)
		was := targetStatus(before, t.Name)
		s.LastDelivered = lastDelivered(was, t.Name, reports, now)
		setWaiting(&s, was, reports, now)
		targets = append(targets, s)
	}
	pending, deadLetters = roundDown(pending), roundDown(deadLetters)
	same := ptr.Equal(before.Pending, &pending) && ptr.Equal(before.DeadLetters, &deadLetters) && equality.Semantic.DeepEqual(targets, after.Targets)
	if same || before.CountTime != nil && now.Sub(before.CountTime.Time) < countPeriod {
		return
	}
	after.Pending, after.DeadLetters, after.Targets = &pending, &deadLetters, targets
	after.CountTime = new(metav1.NewTime(now))
}

// counted merges the Pods' reports about one target: the backlog is common to all Pods, the circuit is per Pod.
func counted(name string, reports []contract.Status) (out v1alpha1.TargetStatus, known bool) {
	out = v1alpha1.TargetStatus{Name: name, Circuit: v1alpha1.CircuitClosed}
	for _, r := range reports {
		for _, t := range r.Targets {
			if t.Name != name {
				continue
			}
			known = true
			out.Pending = max(out.Pending, t.Pending)
			out.DeadLetters = max(out.DeadLetters, t.DeadLetters)
			if c := v1alpha1.Circuit(t.Circuit); slices.Index(circuits, c) > slices.Index(circuits, out.Circuit) {
				out.Circuit = c
			}
		}
	}
	return out, known
}

// lastDelivered returns the latest time in the reports or the previous status. A Pod's time is lost when it ends.
func lastDelivered(before *v1alpha1.TargetStatus, name string, reports []contract.Status, now time.Time) *metav1.Time {
	var last time.Time
	for _, r := range reports {
		for _, t := range r.Targets {
			if t.Name == name {
				last = newest(last, t.LastDelivered, now)
			}
		}
	}
	if before == nil {
		return moved(nil, last)
	}
	return moved(before.LastDelivered, last)
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
