package receiver_test

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/redistest"
)

var scriptCalls = regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`)

// Any client in the cluster may request /status as often as it likes: Redis is queried once a second for all of them.
func TestStatusIsReadOnceASecond(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	p := start(t, redis.URL(), newConfig(crm(newSink(t))))
	p.awaitReady()
	calls := func() int {
		found := scriptCalls.FindStringSubmatch(redis.MustDo("INFO", "commandstats"))
		if found == nil {
			t.Fatal("Redis has counted no scripts")
		}
		n, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	p.status()
	const asked = 2000
	before, began := calls(), time.Now()
	for range asked {
		p.status()
	}
	// Workers and the verdict on Redis run scripts as well, some each second, however long this takes on a busy machine.
	seconds := int(time.Since(began)/time.Second) + 1
	if n := calls() - before; n > 20*seconds {
		t.Errorf("%d questions in %d s ran %d scripts in Redis", asked, seconds, n)
	}
}
