package receiver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"heymarket.dev/operator/internal/receiver/redistest"
)

// Every line names its webhook, durations have a unit, and a healthy start logs no warning.
func TestLinesOfAHealthyStart(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	to.await(t, 1)
	until(t, "the delivery is logged", func() bool { return strings.Contains(p.logs.String(), `"msg":"delivered"`) })
	timed := 0
	for line := range strings.Lines(p.logs.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if fields["namespace"] != "staging" || fields["name"] != "support" {
			t.Errorf("this line does not name its webhook: %s", line)
		}
		if fields["level"] == "WARN" || fields["level"] == "ERROR" {
			t.Errorf("at a healthy start: %s", line)
		}
		if _, has := fields["took_us"].(float64); has {
			timed++
		}
	}
	if timed != 2 {
		t.Errorf("%d lines have took_us, want those of the request and of the attempt:\n%s", timed, p.logs.String())
	}
}

// While Redis is down, one line reports it, and one line its recovery and the duration.
func TestLinesOfARedisThatIsAway(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	p := start(t, redis.URL(), newConfig(crm(newSink(t))))
	p.awaitReady()
	redis.Kill()
	until(t, "the trouble is logged", func() bool {
		p.get("/status") // asks for a verdict
		return strings.Contains(p.logs.String(), "Redis has a problem")
	})
	until(t, "a worker has tried to take events", func() bool { return strings.Contains(p.logs.String(), "cannot take events from the queue") })
	redis.Run()
	until(t, "the end is logged", func() bool { return strings.Contains(p.logs.String(), `"away_ms":`) })
	for line := range strings.Lines(p.logs.String()) {
		if strings.Contains(line, "cannot take events from the queue") && !strings.Contains(line, `"level":"DEBUG"`) {
			t.Errorf("a line for each worker: %s", line)
		}
	}
	if n := strings.Count(p.logs.String(), "Redis has a problem"); n != 1 {
		t.Errorf("%d lines report the same trouble", n)
	}
}
