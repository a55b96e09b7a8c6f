package receiver_test

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// The age, the error and the next attempt of what waits for one of two targets are the same in /status, in the administrative API and in a scrape, and the
// other target has none.
func TestWhatWaitsIsReportedEverywhere(t *testing.T) {
	t.Parallel()
	redis, erp, failing := redistest.Start(t), newSink(t), newSink(t)
	failing.answer(func() int { return http.StatusServiceUnavailable })
	c := newConfig(config.Target{Name: "erp", URL: erp.URL}, crm(failing))
	c.Targets[1].Retry = config.Retry{MinBackoff: config.Duration(10 * time.Hour), MaxBackoff: config.Duration(10 * time.Hour), MaxAge: config.Duration(100 * time.Hour)}
	p := start(t, redis.URL(), c)
	p.awaitReady()
	began := time.Now()
	p.wantPost(sample(1), http.StatusOK)
	erp.await(t, 1)
	var status []contract.TargetStatus
	until(t, "the attempt at one target has failed, and the other is served", func() bool {
		status = p.status().Targets
		return len(status) == 2 && status[1].Pending == 1 && !status[1].NextAttempt.IsZero() && status[0].Pending == 0 && !status[0].LastDelivered.IsZero()
	})
	body := p.getAdmin("/v1/targets")
	var admin []contract.TargetStatus
	if err := json.Unmarshal([]byte(body), &admin); err != nil || len(admin) != 2 {
		t.Fatalf("%v: %s", err, body)
	}
	for from, targets := range map[string][]contract.TargetStatus{"/status": status, "the administrative API": admin} {
		fine, waits := targets[0], targets[1]
		if fine.Name != "erp" || fine.Pending != 0 || fine.LastError != nil || !fine.OldestPending.IsZero() || !fine.NextAttempt.IsZero() || fine.LastDelivered.IsZero() {
			t.Errorf("%s: the target that works: %+v", from, fine)
		}
		oldest, next := began.Sub(waits.OldestPending), waits.NextAttempt.Sub(began)
		if waits.Name != "crm" || waits.Pending != 1 || waits.LastError == nil || waits.LastError.Class != contract.ErrorServer || !waits.LastDelivered.IsZero() ||
			oldest > time.Minute || oldest < -time.Minute || next < 4*time.Hour || next > 11*time.Hour {
			t.Errorf("%s: the target that fails: %+v", from, waits)
		}
		coarse := waits.OldestPending.Truncate(time.Minute).Equal(waits.OldestPending) && waits.NextAttempt.Truncate(time.Minute).Equal(waits.NextAttempt)
		if from == "/status" && !coarse {
			t.Errorf("%s has times that are finer than a minute: %+v", from, waits)
		}
	}
	_, scrape := p.get("/metrics")
	age := func(target, lane string) float64 {
		line := regexp.MustCompile(`oldest_event_age_seconds\{lane="` + lane + `",target="` + target + `"\} (\S+)`).FindStringSubmatch(scrape)
		if line == nil {
			t.Fatalf("no age of target %s, lane %s", target, lane)
		}
		seconds, err := strconv.ParseFloat(line[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return seconds
	}
	if waits := age("crm", "general"); waits <= 0 || waits > time.Since(began).Seconds()+1 || age("crm", "consent") != 0 || age("erp", "general") != 0 || age("erp", "consent") != 0 {
		t.Errorf("the ages in a scrape are wrong, that of the event that waits is %v s", waits)
	}
	for line, want := range map[string]bool{
		`target_failing{class="ServerError",target="crm"} 1`: true, `target_failing{class="ServerError",target="erp"} 1`: false,
		`events_pending{target="crm"} 1`: true, `events_pending{target="erp"} 0`: true, `dead_letters{target="crm"} 0`: true,
	} {
		if strings.Contains(scrape, "\nheymarket_receiver_"+line+"\n") != want {
			t.Errorf("%s is in the scrape: %t, want %t", line, !want, want)
		}
	}
}
