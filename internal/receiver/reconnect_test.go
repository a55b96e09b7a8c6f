package receiver_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// Two nodes share one address. The connected one is demoted, stays alive and keeps the connection.
func TestReceiverLeavesANodeThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	proxy := redistest.StartProxy(t, first)
	p := start(t, proxy.URL(), newConfig(crm(newSink(t))))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	answer := func(p *process) int {
		resp, err := p.post(sample(2))
		if err != nil {
			return 0
		}
		return resp.StatusCode
	}

	first.MustDo("REPLICAOF", "127.0.0.1", "1")
	until(t, "events are refused", func() bool { return answer(p) == http.StatusServiceUnavailable })
	until(t, "the receiver reports that its node takes no writes, and is not ready", func() bool {
		_, body := p.get("/status")
		var s contract.Status
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err)
		}
		ready, why := p.get("/readyz")
		_, metrics := p.get("/metrics")
		return slices.Contains(s.Problems, contract.RedisReadOnly) && s.Redis != contract.RedisOK && !s.Durable &&
			ready == http.StatusServiceUnavailable && strings.Contains(why, "read-only") &&
			strings.Contains(metrics, "heymarket_receiver_redis_up 0")
	})

	proxy.Lead(second)
	until(t, "events are accepted", func() bool { return answer(p) == http.StatusOK })
	until(t, "the receiver is ready", func() bool {
		ready, _ := p.get("/readyz")
		return ready == http.StatusOK
	})
}
