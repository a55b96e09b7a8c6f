package metrics

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/stream"
)

// Each figure of an account and of a receiver's state has a series of its own, in the unit of its name.
func TestEveryFigureHasItsSeries(t *testing.T) {
	t.Parallel()
	account := stream.Account{
		Stored: 101, Replayed: 2, Delivered: 30, Dead: 4, Dropped: 5, Discarded: 6, Malformed: 7, Bytes: 8, Pending: 9, DeadLetters: 10,
		Oldest: map[delivery.Lane]time.Duration{delivery.Consent: 1500 * time.Millisecond, delivery.General: 90 * time.Second}, OldestDeadLetter: 2 * time.Minute,
	}
	durable, skew := false, -2500*time.Millisecond
	state := State{
		Redis: true, Durable: &durable, ClockSkew: &skew, BacklogLimit: 11, DeadLetterLimit: 12, DeadLetterRetention: time.Hour, Tokens: 2,
		Targets: []TargetState{{Name: "crm", Circuit: contract.CircuitOpen, Failing: contract.ErrorTimeout}, {Name: "erp", Circuit: contract.CircuitClosed}},
	}
	m := New("staging", "support", "v1.2.3")
	m.Report(func() (map[string]stream.Account, error) {
		return map[string]stream.Account{"crm": account, "erp": {}}, nil
	}, func() State { return state })
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	scrape := "\n" + strings.ReplaceAll(strings.ReplaceAll(w.Body.String(), `namespace="staging",`, ""), `,webhook="support"`, "")
	scrape = strings.ReplaceAll(scrape, `{namespace="staging",webhook="support"}`, "")
	scrape = strings.ReplaceAll(scrape, `{webhook="support"}`, "")
	for line := range strings.Lines(`account_stored_total{target="crm"} 101
account_replayed_total{target="crm"} 2
account_delivered_total{target="crm"} 30
account_dead_total{target="crm"} 4
account_dropped_total{target="crm"} 5
account_discarded_total{target="crm"} 6
malformed_entries_total{target="crm"} 7
backlog_bytes{target="crm"} 8
events_pending{target="crm"} 9
dead_letters{target="crm"} 10
events_unaccounted{target="crm"} 55
oldest_dead_letter_age_seconds{target="crm"} 120
oldest_event_age_seconds{lane="consent",target="crm"} 1.5
oldest_event_age_seconds{lane="general",target="crm"} 90
oldest_event_age_seconds{lane="consent",target="erp"} 0
events_pending{target="erp"} 0
redis_up 1
durable 0
redis_clock_skew_seconds -2.5
backlog_limit_bytes 11
dead_letter_limit 12
dead_letter_retention_seconds 3600
tokens 2
target_circuit{state="Closed",target="crm"} 0
target_circuit{state="Open",target="crm"} 1
target_circuit{state="Gone",target="crm"} 0
target_circuit{state="Closed",target="erp"} 1
target_failing{class="Timeout",target="crm"} 1
`) {
		if !strings.Contains(scrape, "\nheymarket_receiver_"+line) {
			t.Errorf("the scrape has no %s", line)
		}
	}
	if n := strings.Count(scrape, "\nheymarket_receiver_target_failing"); n != 1 {
		t.Errorf("%d targets fail, want one", n)
	}
	if t.Failed() {
		t.Log(scrape)
	}
}
