package controller

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

const (
	// waitingStep is by how much a time must differ from the status before it is written again: retries change often.
	waitingStep = 5 * time.Minute
	// furthestAttempt bounds how far in the future a reported attempt may be; a backoff is shorter.
	furthestAttempt = 7 * 24 * time.Hour
)

// setWaiting sets since when events wait for a target, why, and until when, from its Pods' reports. Small differences from
// before are ignored.
func setWaiting(s, before *v1alpha1.TargetStatus, reports []contract.Status, now time.Time) {
	if before == nil {
		before = &v1alpha1.TargetStatus{}
	}
	var oldest, next time.Time
	var failure *contract.TargetError
	for _, r := range reports {
		for _, t := range r.Targets {
			if t.Name != s.Name {
				continue
			}
			oldest = earliest(oldest, t.OldestPending, now.Add(waitingStep))
			next = earliest(next, t.NextAttempt, now.Add(furthestAttempt))
			if e := t.LastError; e != nil && slices.Contains(contract.ErrorClasses(), e.Class) && e.Since.Before(now.Add(waitingStep)) &&
				(failure == nil || e.Since.Before(failure.Since)) {
				failure = e
			}
		}
	}
	s.OldestPending, s.NextAttempt = steadyTime(before.OldestPending, oldest), steadyTime(before.NextAttempt, next)
	if failure == nil {
		return
	}
	s.LastError = &v1alpha1.TargetError{Class: string(failure.Class)}
	var since *metav1.Time
	if before.LastError != nil && before.LastError.Class == s.LastError.Class {
		since = &before.LastError.Since
	}
	s.LastError.Since = *steadyTime(since, failure.Since)
}

// earliest returns the earlier of two times, ignoring zero times and times later than last: anything can answer at a Pod's
// address.
func earliest(a, b, last time.Time) time.Time {
	if b.IsZero() || b.After(last) || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
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
