package receiver_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// status is the receiver's status.
func (p *process) status() contract.Status {
	p.t.Helper()
	_, body := p.get("/status")
	var s contract.Status
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// answer posts an event and returns the status.
func (p *process) answer(body string) int {
	p.t.Helper()
	resp, err := p.post(body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode
}

// A paused webhook fills its share of Redis and no more; others continue, and so does the first once it delivers again.
func TestOneWebhookDoesNotFillRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--maxmemory", "16mb")
	to := newSink(t)
	paused := newConfig(crm(to))
	paused.Paused = true
	full := start(t, redis.URL(), paused)
	full.awaitReady()
	until(t, "the limit is known", func() bool {
		_, body := full.get("/metrics")
		return strings.Contains(body, `heymarket_receiver_backlog_limit_bytes 1.677721e+06`)
	})
	big := func(id int) string {
		return strings.Replace(sample(id), text, strings.Repeat("x", 100_000), 1)
	}
	accepted := 0
	for ; accepted < 1000; accepted++ {
		if full.answer(big(accepted)) != http.StatusOK {
			break
		}
	}
	if accepted < 14 || accepted > 17 {
		t.Errorf("%d events of 100 KB were accepted, want those that fit into 1.6 MB", accepted)
	}
	full.wantPost(big(accepted), http.StatusTooManyRequests)
	until(t, "it is reported", func() bool { s := full.status(); return s.BacklogFull && s.BacklogBytes > 1_500_000 })

	other := newConfig(crm(newSink(t)))
	other.Webhook.Name = "other"
	second := start(t, redis.URL(), other)
	second.awaitReady()
	for id := range 5 {
		second.wantPost(big(id), http.StatusOK)
	}

	paused.Paused = false
	full.configure(paused)
	until(t, "it accepts events again", func() bool { return full.answer(big(accepted)) == http.StatusOK })
	to.await(t, accepted+1)
	until(t, "it is reported", func() bool { s := full.status(); return !s.BacklogFull && s.BacklogBytes == 0 })
}

// A configured limit replaces the share; without either there is no limit.
func TestBacklogBytesAreConfigured(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--maxmemory", "16mb")
	for _, tc := range []struct {
		bytes int64
		last  int
	}{{2000, http.StatusTooManyRequests}, {-1, http.StatusOK}} {
		c := newConfig(crm(newSink(t)))
		c.Paused, c.MaxBacklogBytes = true, tc.bytes
		c.Webhook.Name = map[bool]string{true: "free", false: "bounded"}[tc.bytes < 0]
		p := start(t, redis.URL(), c)
		p.awaitReady()
		p.wantPost(sample(1), http.StatusOK)
		last := 0
		for id := range 30 {
			last = p.answer(sample(2 + id))
		}
		if last != tc.last {
			t.Errorf("limit %d: the last of 31 events is answered %d, want %d", tc.bytes, last, tc.last)
		}
	}
}
