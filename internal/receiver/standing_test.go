package receiver_test

import (
	"net/http"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/redistest"
)

// Whether Redis is safe, and how each target is treated, can be scraped.
func TestStandingsAreScraped(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	scraped := func(lines ...string) func() bool {
		return func() bool {
			_, scrape := p.get("/metrics")
			for _, line := range lines {
				if !strings.Contains(scrape, "\nheymarket_receiver_"+line+"\n") {
					return false
				}
			}
			return true
		}
	}
	until(t, "Redis is safe and the target's circuit is closed", scraped(`durable 1`, `target_circuit{state="Closed",target="crm"} 1`, `target_circuit{state="Open",target="crm"} 0`))

	to.mu.Lock()
	to.status = func() int { return http.StatusServiceUnavailable }
	to.mu.Unlock()
	for i := range 10 { // as many failures in a row open it
		p.wantPost(sample(i), http.StatusOK)
	}
	until(t, "the target's circuit is open", scraped(`target_circuit{state="Closed",target="crm"} 0`, `target_circuit{state="Open",target="crm"} 1`))
}

// A Redis that may forget is told of as such.
func TestUnsafeRedisIsScraped(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--appendonly", "no")
	p := start(t, redis.URL(), newConfig(crm(newSink(t))))
	p.awaitReady()
	until(t, "Redis is not safe", func() bool {
		_, scrape := p.get("/metrics")
		return strings.Contains(scrape, "\nheymarket_receiver_durable 0\n")
	})
}
