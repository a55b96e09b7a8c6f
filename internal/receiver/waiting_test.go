package receiver

import (
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/redishealth"
	"heymarket.dev/operator/internal/receiver/retry"
	"heymarket.dev/operator/internal/receiver/stream"
)

// Of several targets, each has the age, the error and the next attempt of its own events.
func TestWhatEachTargetWaitsFor(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Hour)
	r := &Receiver{deliveries: &deliveries{}, store: stream.New("staging", "support", "a")}
	r.redis = redishealth.New(r.store, slog.New(slog.DiscardHandler), nil)
	r.inForce.Store(&files{config: config.Config{Targets: []config.Target{{Name: "archive"}, {Name: "crm"}, {Name: "erp"}}}})
	failed := delivery.Outcome{Status: http.StatusServiceUnavailable}
	r.deliveries.health.Attempted("archive", failed, now.Add(-10*time.Minute))
	r.deliveries.health.Attempted("crm", failed, now.Add(-25*time.Minute))
	r.deliveries.health.Delivered("erp", now.Add(-3*time.Minute))
	for _, name := range []string{"archive", "crm", "erp"} {
		gate := forward.NewGate(0, retry.Policy{}, nil)
		r.gates.Store(name, gate)
		for range 20 {
			gate.Admit(1, now)
			if name == "crm" {
				gate.Report(failed, now)
			}
		}
	}
	gone, _ := r.gates.Load("archive")
	gone.(*forward.Gate).Report(delivery.Outcome{Status: http.StatusGone}, now)
	held, _ := r.gates.Load("crm")
	until := held.(*forward.Gate).Held()
	if !until.After(now) {
		t.Fatal("the target that fails is not held")
	}
	soon, late := time.Duration(0), 90*time.Second
	accounts := map[string]stream.Account{
		"archive": {},
		"crm":     {Pending: 3, DeadLetters: 1, NextRetry: &soon, Oldest: map[delivery.Lane]time.Duration{delivery.Consent: 2 * time.Minute, delivery.General: 20 * time.Minute}},
		"erp":     {Pending: 1, NextRetry: &late, Oldest: map[delivery.Lane]time.Duration{delivery.Consent: 5 * time.Second}},
	}
	crmFails := &contract.TargetError{Class: contract.ErrorServer, Since: now.Add(-25 * time.Minute)}
	for _, want := range []contract.TargetStatus{
		{Name: "archive", Circuit: contract.CircuitGone},
		{Name: "crm", Pending: 3, DeadLetters: 1, Circuit: contract.CircuitClosed, OldestPending: now.Add(-20 * time.Minute), NextAttempt: until, LastError: crmFails},
		{Name: "erp", Pending: 1, Circuit: contract.CircuitClosed, OldestPending: now.Add(-5 * time.Second), NextAttempt: now.Add(late), LastDelivered: now.Add(-3 * time.Minute)},
	} {
		if diff := cmp.Diff(want, r.target(want.Name, accounts[want.Name], now)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	late = 0 // which is before the attempts are let through again
	accounts["crm"] = stream.Account{Pending: 1, NextRetry: new(time.Hour)}
	if at := r.target("crm", accounts["crm"], now).NextAttempt; !at.Equal(now.Add(time.Hour)) {
		t.Errorf("an attempt that is due after the pause is reported for %s, want in an hour", at)
	}
	// While Redis is away, what failed last is still the reason for what waits, as far as is known.
	for away, want := range map[error][]contract.ErrorClass{
		nil:                {"", contract.ErrorServer, ""},
		errors.New("away"): {contract.ErrorServer, contract.ErrorServer, ""},
	} {
		var got []contract.ErrorClass
		var circuits []contract.Circuit
		targets := r.state(func() (map[string]stream.Account, error) { return accounts, away }).Targets
		for _, target := range targets {
			got, circuits = append(got, target.Failing), append(circuits, target.Circuit)
		}
		if diff := cmp.Diff([]contract.Circuit{contract.CircuitGone, contract.CircuitClosed, contract.CircuitClosed}, circuits); diff != "" {
			t.Errorf("circuits of a scrape (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("classes of a scrape with the error %v (-want +got):\n%s", away, diff)
		}
	}
}
