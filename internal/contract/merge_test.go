package contract_test

import (
	"reflect"
	"testing"
	"time"

	"heymarket.dev/operator/internal/contract"
)

// Two receivers see the same queue, and each its own attempts.
func TestMergeTargets(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	older := &contract.TargetError{Class: contract.ErrorTLS, Since: ago(time.Hour)}
	newer := &contract.TargetError{Class: contract.ErrorTimeout, Since: ago(time.Minute)}
	first := contract.TargetStatus{
		Name: "crm", Pending: 4, DeadLetters: 7, Circuit: contract.CircuitOpen, LastDelivered: ago(time.Hour),
		OldestPending: ago(time.Hour), LastError: newer, NextAttempt: ago(-time.Minute),
	}
	second := contract.TargetStatus{
		Name: "crm", Pending: 5, DeadLetters: 6, Circuit: contract.CircuitClosed, LastDelivered: ago(time.Minute),
		OldestPending: ago(2 * time.Hour), LastError: older, NextAttempt: ago(-time.Hour),
	}
	both := contract.TargetStatus{
		Name: "crm", Pending: 5, DeadLetters: 7, Circuit: contract.CircuitOpen, LastDelivered: ago(time.Minute),
		OldestPending: ago(2 * time.Hour), LastError: older, NextAttempt: ago(-time.Minute),
	}
	nothing := contract.TargetStatus{Name: "crm", Circuit: contract.CircuitClosed}
	gone := contract.TargetStatus{Name: "crm", Circuit: contract.CircuitGone}
	goneToo := both
	goneToo.Circuit = contract.CircuitGone
	for name, tc := range map[string]struct{ a, b, want contract.TargetStatus }{
		"two":          {first, second, both},
		"with nothing": {first, nothing, first},
		"gone":         {both, gone, goneToo},
	} {
		for _, reports := range [][]contract.TargetStatus{{tc.a, tc.b}, {tc.b, tc.a}} {
			if got := reports[0].With(reports[1]); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%s: %+v, want %+v", name, got, tc.want)
			}
		}
	}
	audit := contract.TargetStatus{Name: "audit", Pending: 1}
	got := contract.MergeTargets([]contract.TargetStatus{first}, nil, []contract.TargetStatus{audit, second})
	if want := []contract.TargetStatus{both, audit}; !reflect.DeepEqual(got, want) {
		t.Errorf("merged %+v, want %+v", got, want)
	}
}
