package receiver_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/testenv"
)

// Metrics show whether Redis is durable, and the state of each target.
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

// A Redis that is not durable is reported.
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

// During startup a receiver that has not reached Redis yet reports that it is connecting, and no problem.
func TestRedisIsLookedForInTheBeginning(t *testing.T) {
	t.Parallel()
	p := start(t, "redis://"+testenv.FreeAddress(t), newConfig(crm(newSink(t))))
	until(t, "the receiver says that it is looking for Redis", func() bool {
		_, status := p.get("/status")
		return strings.Contains(status, `"redis":"connecting"`)
	})
}

// A Redis that can be reached but rejects writes is reported, both for a new webhook and an existing one.
func TestRedisThatTakesNoWritesIsTold(t *testing.T) {
	t.Parallel()
	for code, tc := range map[string]struct {
		setting, broken, good string
		want                  string
	}{
		"OOM":        {"maxmemory", "1", "0", "out of memory"},
		"NOREPLICAS": {"min-replicas-to-write", "1", "0", "fewer replicas"},
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t)
			told := func(p *process) func() bool {
				return func() bool {
					_, body := p.get("/status")
					var s contract.Status
					if err := json.Unmarshal([]byte(body), &s); err != nil {
						t.Fatal(err)
					}
					return !s.Durable && strings.Contains(strings.Join(s.DurabilityProblems, " "), tc.want) && s.Redis != contract.RedisOK
				}
			}
			p := start(t, redis.URL(), newConfig(crm(newSink(t))))
			p.awaitReady()
			p.wantPost(sample(1), http.StatusOK)
			redis.MustDo("CONFIG", "SET", tc.setting, tc.broken)
			again := start(t, redis.URL(), newConfig(crm(newSink(t))))
			again.awaitReady()
			until(t, "the receiver tells of "+code, told(again))

			fresh := newConfig(crm(newSink(t)))
			fresh.Webhook.Name = "fresh"
			first := start(t, redis.URL(), fresh)
			first.awaitReady()
			until(t, "the receiver of a new webhook tells of "+code, told(first))
			redis.MustDo("CONFIG", "SET", tc.setting, tc.good)
			until(t, "Redis works", func() bool {
				_, body := first.get("/status")
				return strings.Contains(body, `"redis":"ok"`)
			})
		})
	}
}

// A receiver answers /status even if its Redis accepts commands and never answers.
func TestSilentRedisIsTold(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	p := start(t, redis.URL(), newConfig(crm(newSink(t))))
	p.awaitReady()
	redis.Freeze()
	defer redis.Thaw()
	if _, body := p.get("/status"); !strings.Contains(body, contract.RedisUnreachable.Message()) {
		t.Errorf("status: %s", body)
	}
}
