package controller

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

func TestStatusOfATarget(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *metav1.Time { return new(metav1.NewTime(now.Add(d).Local())) }
	report := func(oldest, since, next time.Duration, class contract.ErrorClass) contract.Status {
		target := contract.TargetStatus{Name: "crm", OldestPending: now.Add(oldest), NextAttempt: now.Add(next)}
		if class != "" {
			target.LastError = &contract.TargetError{Class: class, Since: now.Add(since)}
		}
		return contract.Status{Targets: []contract.TargetStatus{{Name: "erp", OldestPending: now.Add(-time.Hour)}, target}}
	}
	waiting := &v1alpha1.TargetStatus{
		Name: "crm", OldestPending: at(-20 * time.Minute), NextAttempt: at(2 * time.Minute),
		LastError: &v1alpha1.TargetError{Class: "Timeout", Since: *at(-21 * time.Minute)},
	}
	for name, tc := range map[string]struct {
		before  *v1alpha1.TargetStatus
		reports []contract.Status
		want    *v1alpha1.TargetStatus
	}{
		"nothing waits any more": {waiting, []contract.Status{{Targets: []contract.TargetStatus{{Name: "erp"}, {Name: "crm"}}}}, &v1alpha1.TargetStatus{Name: "crm"}},
		"first":                  {nil, []contract.Status{report(-20*time.Minute, -21*time.Minute, 2*time.Minute, contract.ErrorTimeout)}, waiting},
		"little has moved": {
			waiting, []contract.Status{report(-18*time.Minute, -17*time.Minute, 6*time.Minute, contract.ErrorTimeout)}, waiting,
		},
		"the oldest of two Pods": {
			nil, []contract.Status{
				report(-2*time.Minute, -3*time.Minute, 8*time.Minute, contract.ErrorServer),
				report(-20*time.Minute, -21*time.Minute, 2*time.Minute, contract.ErrorTimeout),
			}, waiting,
		},
		"another class, later": {
			waiting,
			[]contract.Status{report(-20*time.Minute, -time.Minute, 9*time.Minute, contract.ErrorServer)},
			&v1alpha1.TargetStatus{
				Name: "crm", OldestPending: waiting.OldestPending, NextAttempt: at(9 * time.Minute),
				LastError: &v1alpha1.TargetError{Class: "ServerError", Since: *at(-time.Minute)},
			},
		},
		"another class, soon after": {
			waiting,
			[]contract.Status{report(-20*time.Minute, -19*time.Minute, 2*time.Minute, contract.ErrorServer)},
			&v1alpha1.TargetStatus{
				Name: "crm", OldestPending: waiting.OldestPending, NextAttempt: waiting.NextAttempt,
				LastError: &v1alpha1.TargetError{Class: "ServerError", Since: *at(-19 * time.Minute)},
			},
		},
	} {
		var targets [][]contract.TargetStatus
		for _, r := range tc.reports {
			targets = append(targets, r.Targets)
		}
		got := statusOf(contract.MergeTargets(targets...)[1], tc.before)
		if diff := cmp.Diff(tc.want, &got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
