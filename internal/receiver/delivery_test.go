package receiver_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"heymarket.dev/operator/internal/receiver/redistest"
)

// A start with a Redis that answers logs no warning: workers wait for the connection.
func TestAHealthyStartIsQuiet(t *testing.T) {
	t.Parallel()
	redis, first, second := redistest.Start(t), newSink(t), newSink(t)
	archive := crm(second)
	archive.Name = "archive"
	p := start(t, redis.URL(), newConfig(crm(first), archive))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	first.await(t, 1)
	second.await(t, 1)
	for line := range strings.Lines(p.logs.String()) {
		if strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("a healthy start logs %s", line)
		}
	}
}

// A token stored with extra characters is detected by a hint in the log, which does not quote it.
func TestSecretsAsPeopleSaveThemAreHintedAt(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	p := start(t, redis.URL(), newConfig(crm(newSink(t))))
	p.awaitReady()
	for value, hint := range map[string]string{
		"\ufeff" + token + "\n": "the token begins with a byte order mark",
		token + " \n":           "the token begins or ends with a blank",
		`"` + token + `"`:       "the token is in quotation marks",
	} {
		p.writeFile("token", value)
		until(t, hint, func() bool { return strings.Contains(p.logs.String(), hint) })
	}
	if strings.Contains(p.logs.String(), token) {
		t.Error("the log repeats the token")
	}
}

// A target whose route is missing for a while, as during a rollout, gets its events when it is back. The retried
// statuses can be set for each target.
func TestAnswersOfTheWayAreRetried(t *testing.T) {
	t.Parallel()
	redis, way, refusing := redistest.Start(t), newSink(t), newSink(t)
	var left atomic.Int64
	left.Store(5)
	way.answer(func() int {
		if left.Add(-1) >= 0 {
			return http.StatusNotFound
		}
		return http.StatusOK
	})
	refusing.answer(func() int { return http.StatusNotFound })
	strict := crm(refusing)
	strict.Name, strict.Retry.Statuses = "strict", []int{}
	p := start(t, redis.URL(), newConfig(crm(way), strict))
	p.awaitReady()
	for n := range 3 {
		p.wantPost(sample(n), http.StatusOK)
	}
	want := []string{
		`"name":"crm","pending":0,"deadLetters":0`,
		`"name":"strict","pending":0,"deadLetters":3`,
	}
	until(t, strings.Join(want, " and "), func() bool {
		_, status := p.get("/status")
		return strings.Contains(status, want[0]) && strings.Contains(status, want[1])
	})
}
