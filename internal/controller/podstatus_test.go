package controller

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
)

func TestReportsAreCutToBounds(t *testing.T) {
	t.Parallel()
	s := contract.Status{Problems: make([]contract.Problem, 5000), Tokens: make([]contract.TokenStatus, 5000), Targets: make([]contract.TargetStatus, 5000)}
	s.Targets[0].Pending, s.Targets[0].DeadLetters, s.Targets[1].Pending = -5, 1<<62, 7
	got := plausible(s, time.Now())
	if len(got.Problems) > 32 || len(got.Tokens) > 16 || len(got.Targets) != 16 {
		t.Errorf("%d problems, %d tokens, %d targets are kept", len(got.Problems), len(got.Tokens), len(got.Targets))
	}
	if got.Targets[0].Pending != 0 || got.Targets[0].DeadLetters != mostCounted || got.Targets[1].Pending != 7 {
		t.Errorf("counts are %+v", got.Targets[:2])
	}
}

func TestPlausibleReports(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	failed := func(class contract.ErrorClass, since time.Time) contract.TargetStatus {
		return contract.TargetStatus{Circuit: contract.CircuitClosed, LastError: &contract.TargetError{Class: class, Since: since}}
	}
	none := contract.TargetStatus{Circuit: contract.CircuitClosed}
	year0 := time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600))
	year9999 := time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600))
	for name, tc := range map[string]struct{ reported, want contract.TargetStatus }{
		"a receiver's": {
			contract.TargetStatus{
				Circuit: contract.CircuitGone, LastDelivered: now.Add(time.Minute), OldestPending: now.Add(-24 * time.Hour), NextAttempt: now.Add(6 * 24 * time.Hour),
				LastError: &contract.TargetError{Class: contract.ErrorGone, Since: now.Add(-time.Hour)},
			},
			contract.TargetStatus{
				Circuit: contract.CircuitGone, LastDelivered: now.Add(time.Minute), OldestPending: now.Add(-24 * time.Hour), NextAttempt: now.Add(6 * 24 * time.Hour),
				LastError: &contract.TargetError{Class: contract.ErrorGone, Since: now.Add(-time.Hour)},
			},
		},
		"no circuit":              {contract.TargetStatus{}, none},
		"an unknown circuit":      {contract.TargetStatus{Circuit: "\x1b[31m"}, none},
		"an unknown class":        {failed("\x1b[31m", now), none},
		"an error without a time": {failed(contract.ErrorTimeout, time.Time{}), none},
		"an error of year 0":      {failed(contract.ErrorTimeout, year0), none},
		"an error to come":        {failed(contract.ErrorTimeout, now.Add(time.Hour)), none},
		"times to come": {
			contract.TargetStatus{LastDelivered: now.Add(time.Hour), OldestPending: now.Add(time.Hour), NextAttempt: now.Add(8 * 24 * time.Hour)}, none,
		},
		"times of year 0":    {contract.TargetStatus{LastDelivered: year0, OldestPending: year0, NextAttempt: year0}, none},
		"times of year 9999": {contract.TargetStatus{LastDelivered: year9999, OldestPending: year9999, NextAttempt: year9999}, none},
	} {
		got := plausible(contract.Status{Targets: []contract.TargetStatus{tc.reported}}, now)
		if diff := cmp.Diff(tc.want, got.Targets[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for reported, want := range map[time.Time]time.Time{now.Add(time.Minute): now.Add(time.Minute), now.Add(time.Hour): {}, year0: {}} {
		got := plausible(contract.Status{Tokens: []contract.TokenStatus{{Name: contract.TokenCurrent, LastUsed: reported}}}, now)
		if !got.Tokens[0].LastUsed.Equal(want) {
			t.Errorf("a token used at %s is reported as used at %s", reported, got.Tokens[0].LastUsed)
		}
	}
}

// Whatever two Pods of a namespace answer, the operator writes a status that the API server can store.
func FuzzReports(f *testing.F) {
	f.Add([]byte(`{"configDigest":"d","redis":"ok","durable":true,"backlog":3,"tokens":[{"name":"current","lastUsed":"2026-11-28T11:00:00Z"}],`+
		`"targets":[{"name":"crm","pending":3,"circuit":"Open","lastDelivered":"2026-11-28T11:00:00Z","oldestPending":"2026-11-28T10:00:00Z",`+
		`"nextAttempt":"2026-11-28T12:10:00Z","lastError":{"class":"Timeout","since":"2026-11-28T10:00:00Z"}}]}`), []byte(`{"configDigest":"d","redis":"connecting"}`))
	f.Add([]byte(`{"configDigest":"d","redis":"ok","targets":[{"name":"crm","lastError":{"class":"Timeout"}}]}`), []byte(`{}`))
	f.Add([]byte(`{"configDigest":"d","redis":"ok","targets":[{"name":"crm","oldestPending":"0000-01-01T00:00:00+01:00"}]}`), []byte(`{}`))
	f.Add([]byte(`{"configDigest":"d","redis":"ok","targets":[{"name":"crm","nextAttempt":"9999-12-31T23:59:59-01:00"}]}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
		hook := &v1alpha1.HeymarketWebhook{}
		hook.Spec.Targets = []v1alpha1.Target{{Name: "crm"}}
		for range 2 { // the second time beside a status
			var reports []contract.Status
			for _, text := range [][]byte{first, second} {
				var report contract.Status
				if json.NewDecoder(bytes.NewReader(text)).Decode(&report) == nil {
					reports = append(reports, plausible(report, now))
				}
			}
			after := hook.Status.DeepCopy()
			setTargets(after, hook, reports, now)
			setTokens(after, hook, reports)
			condition.Durable(condition.Facts{Now: now, Webhook: hook, Reports: reports}, condition.Writes{DeploymentWritten: true})
			text, err := json.Marshal(after)
			if err != nil {
				t.Fatal(err)
			}
			var stored v1alpha1.HeymarketWebhookStatus
			if err := json.Unmarshal(text, &stored); err != nil {
				t.Fatalf("the API server cannot read %s: %v", text, err)
			}
			if !equality.Semantic.DeepEqual(*after, stored) {
				t.Fatalf("%s (-written +stored):\n%s", text, cmp.Diff(*after, stored))
			}
			hook.Status = stored
			hook.Status.CountTime = new(metav1.NewTime(now.Add(-time.Hour)))
		}
	})
}
