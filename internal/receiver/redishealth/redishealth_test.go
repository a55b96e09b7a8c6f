package redishealth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
)

// redis answers with the problems that it has.
type redis struct {
	problems []contract.Problem
	asked    int
}

func (r *redis) Check(context.Context) []contract.Problem {
	r.asked++
	runtime.Gosched()
	return slices.Clone(r.problems)
}

func monitored(r *redis, skewed *bool) (*Monitor, *bytes.Buffer) {
	var log bytes.Buffer
	return New(r, slog.New(slog.NewTextHandler(&log, nil)), func(context.Context) bool { return *skewed }), &log
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		problems           []contract.Problem
		skewed             bool
		accepting, durable bool
		says               string // in Status.Redis
	}{
		"well":              {nil, false, true, true, contract.RedisOK},
		"not durable":       {[]contract.Problem{contract.RedisForgets}, false, true, false, contract.RedisOK},
		"full":              {[]contract.Problem{contract.RedisFull}, false, false, false, contract.RedisFull.Message()},
		"clocks differ":     {nil, true, true, false, contract.RedisOK},
		"full, and differs": {[]contract.Problem{contract.RedisFull}, true, false, false, contract.RedisFull.Message()},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, _ := monitored(&redis{problems: tc.problems}, &tc.skewed)
			m.Tried(nil)
			v := m.Verdict()
			var s contract.Status
			v.Report(&s)
			if want := tc.problems != nil || tc.skewed; (len(s.DurabilityProblems) > 0) != want {
				t.Errorf("%s: the status names %q", name, s.DurabilityProblems)
			}
			if v.Accepting() != tc.accepting || v.Durable() != tc.durable || s.Durable != tc.durable || s.Redis != tc.says {
				t.Errorf("%s: accepting %t, durable %t, status %+v", name, v.Accepting(), v.Durable(), s)
			}
			if got := slices.Contains(v.Problems, contract.RedisClockSkew); got != tc.skewed || !slices.IsSorted(v.Problems) {
				t.Errorf("%s: problems %v", name, v.Problems)
			}
		})
	}
}

// However many callers there are, Redis is checked once a second.
func TestRedisIsAskedOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &redis{}
		m, _ := monitored(r, new(bool))
		m.Tried(nil)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { m.Verdict() })
		}
		all.Wait()
		if r.asked != 1 {
			t.Errorf("asked %d times by 50 who report at once", r.asked)
		}
		time.Sleep(verdictAge)
		if m.Verdict(); r.asked != 2 {
			t.Errorf("asked %d times, want again after a second", r.asked)
		}
	})
}

// A Redis that does not answer has no clock to compare.
func TestClocksAreComparedOnlyWithAConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := monitored(&redis{problems: []contract.Problem{contract.RedisUnreachable}}, new(true))
		m.Tried(nil)
		if v := m.Verdict(); !slices.Equal(v.Problems, []contract.Problem{contract.RedisUnreachable}) {
			t.Errorf("problems %v", v.Problems)
		}
	})
}

// A missing connection is not a problem during startup, but is one afterwards; a failed call is one at once.
func TestConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &redis{}
		m, log := monitored(r, new(bool))
		m.Failed(context.DeadlineExceeded) // a call without a connection says nothing of Redis
		if v, known := m.Latest(); known {
			t.Errorf("before a connection: %+v", v)
		}
		var s contract.Status
		m.Tried(errors.New("dial: refused"))
		if m.Verdict().Report(&s); s.Redis != contract.RedisConnecting || m.Verdict().Accepting() {
			t.Errorf("at first: %+v", s)
		}
		if v, known := m.Latest(); !known || len(v.Problems) != 1 {
			t.Errorf("what readiness explains: %+v, %t", v, known)
		}
		time.Sleep(config.FirstContact)
		if v := m.Verdict(); !v.Known || v.Accepting() || r.asked > 0 {
			t.Errorf("later: %+v, asked %d times without a connection", v, r.asked)
		}
		m.Tried(nil)
		if v := m.Verdict(); !v.Durable() {
			t.Errorf("connected: %+v", v)
		}
		asked := r.asked
		m.Failed(&rueidis.RedisError{}) // what Redis answers to one call
		if v := m.Verdict(); !v.Durable() || r.asked != asked {
			t.Errorf("after an answer that is an error: %+v, asked %d times more", v, r.asked-asked)
		}
		m.Tried(nil)
		if m.Verdict(); r.asked != asked+1 {
			t.Errorf("asked %d times on a new connection, want once", r.asked-asked)
		}
		asked = r.asked
		m.Failed(context.DeadlineExceeded)
		if v := m.Verdict(); v.Accepting() || r.asked != asked {
			t.Errorf("after a call without an answer: %+v, asked %d times more", v, r.asked-asked)
		}
		select {
		case <-m.Begun():
		default:
			t.Error("the watcher is not woken when problems begin")
		}
		time.Sleep(time.Minute)
		if v := m.Verdict(); !v.Durable() {
			t.Errorf("back: %+v", v)
		}
		if text := log.String(); strings.Count(text, "Redis has a problem") != 2 || strings.Count(text, "Redis works again") != 2 || !strings.Contains(text, "away_ms=60000") {
			t.Errorf("logged:\n%s", text)
		}
		if zero := (Verdict{}); zero.Accepting() || zero.Durable() {
			t.Error("nothing known counts as good")
		}
	})
}

// A problem is logged when it begins, the end of all when it comes, and the watcher is woken once.
func TestTroubleIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &redis{}
		m, log := monitored(r, new(bool))
		m.Tried(nil)
		woken := 0
		for _, problems := range [][]contract.Problem{nil, {contract.RedisEvicts}, {contract.RedisEvicts}, {contract.RedisEvicts, contract.RedisForgets}, {contract.RedisForgets}, nil, nil} {
			r.problems = problems
			m.Verdict()
			select {
			case <-m.Begun():
				woken++
			default:
			}
			time.Sleep(time.Minute)
		}
		for text, times := range map[string]int{
			"Redis has a problem": 2, "reason=" + string(contract.RedisEvicts): 1, "reason=" + string(contract.RedisForgets): 1, "Redis works again": 1, "away_ms=240000": 1,
		} {
			if n := strings.Count(log.String(), text); n != times {
				t.Errorf("%q is logged %d times, want %d:\n%s", text, n, times, log)
			}
		}
		if woken != 1 {
			t.Errorf("the watcher is woken %d times, want once", woken)
		}
	})
}
