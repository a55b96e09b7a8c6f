// Package condition decides what the status of a HeymarketWebhook reports. Each condition has a file with its reasons and
// messages, the reasons that emit an event, and when to check again. The functions are pure: they return a Condition for Facts
// that were read and the results of Writes.
package condition

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
)

// Condition is the result of evaluating one condition. Its message is stable: without times, counts or UIDs.
type Condition struct {
	OK              bool
	Reason, Message string
	// Again is when to check again if no watch reports a change; 0 means never.
	Again time.Duration
}

// kind is a row of all.
type kind struct {
	name string
	// action is the action in the condition's events.
	action string
	// of returns the condition, nil if it does not apply.
	of func(Facts, Writes) *Condition
	// alarming reports whether a reason emits an event.
	alarming func(reason string) bool
	// advisory conditions do not count for Ready.
	advisory bool
	// warning is a reason that emits an event although the condition is True; empty: none does.
	warning string
}

// all are the conditions, in the order in which Ready looks for one that is False.
var all = []kind{
	{v1alpha1.ConditionAccepted, "Check", Accepted, acceptedAlarms, false, ""},
	{v1alpha1.ConditionAvailable, "RollOut", Available, availableAlarms, false, ""},
	{v1alpha1.ConditionExposed, "Expose", Exposed, exposedAlarms, false, ""},
	{v1alpha1.ConditionDurable, "Store", Durable, durableAlarms, false, ""},
	{v1alpha1.ConditionScaled, "Scale", Scaled, scaledAlarms, false, ""},
	{v1alpha1.ConditionReachable, "Probe", Reachable, reachableAlarms, true, v1alpha1.ReasonCertificateEnding},
}

// Known reports whether the operator sets a condition of this name.
func Known(name string) bool {
	return name == v1alpha1.ConditionReady || slices.ContainsFunc(all, func(k kind) bool { return k.name == name })
}

// SetAll sets the conditions of a status, and returns when to check again; 0 means never.
func SetAll(status *v1alpha1.HeymarketWebhookStatus, f Facts, w Writes) (again time.Duration) {
	ready := Condition{OK: true, Reason: v1alpha1.ReasonReady, Message: "The receiver is serving and reachable."}
	for _, k := range all {
		c := k.of(f, w)
		if c == nil {
			meta.RemoveStatusCondition(&status.Conditions, k.name)
			continue
		}
		Set(status, k.name, *c)
		if !c.OK && ready.OK && !k.advisory {
			ready = Condition{Reason: c.Reason, Message: "Not " + k.name + ": " + c.Message}
		}
		again = sooner(again, c.Again)
	}
	Set(status, v1alpha1.ConditionReady, ready)
	return again
}

// Set sets one condition of a status. Its time of transition changes only with its status.
func Set(s *v1alpha1.HeymarketWebhookStatus, name string, c Condition) {
	status := metav1.ConditionFalse
	if c.OK {
		status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: name, Status: status, ObservedGeneration: s.ObservedGeneration, Reason: c.Reason, Message: c.Message,
	})
}

// Event is an event about a HeymarketWebhook.
type Event struct{ Type, Reason, Action, Message string }

// Events returns the events for the changes between two statuses.
func Events(before, after *v1alpha1.HeymarketWebhookStatus) (events []Event) {
	for _, k := range all {
		events = append(events, changes(before, after, k)...)
	}
	return events
}

// DeletionEvents returns the events for the changes in the status of a HeymarketWebhook that is being deleted.
func DeletionEvents(before, after *v1alpha1.HeymarketWebhookStatus) []Event {
	return changes(before, after, kind{name: v1alpha1.ConditionReady, action: "Delete", alarming: except(v1alpha1.ReasonReceiverEnding)})
}

// changes returns an event when a condition fails or warns, when its reason changes, and when it becomes True again. A new
// resource without a problem causes none.
func changes(before, after *v1alpha1.HeymarketWebhookStatus, k kind) []Event {
	failing := func(c *metav1.Condition) bool {
		warns := c != nil && (c.Status == metav1.ConditionFalse || c.Reason == k.warning)
		return warns && k.alarming(c.Reason)
	}
	was, is := meta.FindStatusCondition(before.Conditions, k.name), meta.FindStatusCondition(after.Conditions, k.name)
	switch {
	case failing(is) && (!failing(was) || was.Reason != is.Reason):
		return []Event{{corev1.EventTypeWarning, is.Reason, k.action, is.Message}}
	case is != nil && is.Status == metav1.ConditionTrue && failing(was):
		return []Event{{corev1.EventTypeNormal, is.Reason, k.action, is.Message}}
	}
	return nil
}

func only(reasons ...string) func(string) bool {
	return func(reason string) bool { return slices.Contains(reasons, reason) }
}

func except(reasons ...string) func(string) bool {
	return func(reason string) bool { return !slices.Contains(reasons, reason) }
}

// False returns a condition that is False.
func False(reason, format string, args ...any) *Condition {
	return &Condition{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// True returns a condition that is True.
func True(reason, format string, args ...any) *Condition {
	return &Condition{OK: true, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func (c *Condition) again(d time.Duration) *Condition {
	c.Again = d
	return c
}

// sooner returns the shorter of two delays, of which 0 means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Bounded truncates a message of the API server to a length that a status can hold.
func Bounded(s string) string {
	const limit = 1024
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

// APIMessage returns the API server's message in an error, "" if err does not come from it.
func APIMessage(err error) string {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return status.Status().Message
	}
	return ""
}
