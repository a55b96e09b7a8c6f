package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/ingest"
)

// A counter that appears with its first count shows no increase, so an alert would miss it. And each series names its webhook
// itself, however it is scraped.
func TestEveryCounterBeginsAtZero(t *testing.T) {
	t.Parallel()
	m := New("staging", "support", "v1.2.3")
	m.Begin("crm")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	scrape := w.Body.String()
	wants := func(name, value string, labels ...string) {
		t.Helper()
		for line := range strings.Lines(scrape) {
			found := strings.HasPrefix(line, "heymarket_receiver_"+name+"{") && strings.HasSuffix(line, " "+value+"\n")
			for _, label := range labels {
				found = found && strings.Contains(line, label)
			}
			if found {
				return
			}
		}
		t.Errorf("there is no %s with %v that is %s", name, labels, value)
	}
	wants("build_info", "1", `version="v1.2.3"`, `goversion="go`)
	reasons := ingest.Reasons()
	if len(reasons) < 10 {
		t.Errorf("%d reasons of a refusal", len(reasons))
	}
	for _, reason := range reasons {
		wants("requests_total", "0", `result="refused"`, fmt.Sprintf("reason=%q", reason))
	}
	for _, result := range []ingest.Result{ingest.Stored, ingest.Duplicate, ingest.Ignored} {
		wants("requests_total", "0", fmt.Sprintf("result=%q", result), `reason=""`)
	}
	for _, name := range []string{"events_stored_total", "events_delivered_total", "events_dead_total", "filter_failures_total"} {
		wants(name, "0", `target="crm"`)
	}
	wants("attempts_total", "0", `target="crm"`, `status="none"`)
	for _, token := range []string{"current", "previous"} {
		wants("token_used_total", "0", fmt.Sprintf("token=%q", token))
	}
	for _, decision := range []string{"repeat", "late_repeat", "returned", "opt_in_withheld"} {
		wants("deduplication_decisions_total", "0", fmt.Sprintf("decision=%q", decision))
	}
	for _, outcome := range []string{"applied", "rejected"} {
		wants("config_reloads_total", "0", fmt.Sprintf("outcome=%q", outcome))
	}
	for _, name := range []string{"requests_received_total", "respelled_total", "deduplication_key_failures_total"} {
		wants(name, "0")
	}
	for line := range strings.Lines(scrape) {
		if !strings.HasPrefix(line, "#") && (!strings.Contains(line, `namespace="staging"`) || !strings.Contains(line, `webhook="support"`)) {
			t.Errorf("it does not name its webhook: %s", line)
		}
	}
}
