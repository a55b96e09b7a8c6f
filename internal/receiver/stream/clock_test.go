package stream_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// shiftClock makes take.lua believe that it saw another time before.
func shiftClock(r *redistest.Server, by time.Duration) {
	r.MustDo("HSET", "hmw:{staging/support}:c:crm:general", "time", fmt.Sprint(time.Now().Add(by).UnixMilli()))
}

// A clock that is set back by an hour must not make retries wait an hour longer.
func TestRetriesFollowTheClockOfRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, unordered)
	appendTo(t, s, 1, target)
	if ok, err := q.Later(t.Context(), take(t, q, 1, 0)[0], 2, time.Hour+time.Minute); err != nil || !ok { // as planned by a clock that was an hour ahead
		t.Fatal(ok, err)
	}
	shiftClock(r, time.Hour)
	_, next, err := q.Take(t.Context(), 1, anyBytes, 0)
	if err != nil || next > time.Minute {
		t.Fatalf("the next attempt is due in %s, %v; want a minute at most", next, err)
	}
	if _, again, err := q.Take(t.Context(), 1, anyBytes, 0); err != nil || again < next-30*time.Second {
		t.Errorf("then in %s, %v: the clock was followed twice", again, err)
	}
	shiftClock(r, -30*24*time.Hour) // set forward
	if _, again, err := q.Take(t.Context(), 1, anyBytes, 0); err != nil || again < next-30*time.Second {
		t.Errorf("the next attempt is due in %s, %v; a clock that is set forward moves nothing", again, err)
	}
}

func TestClockSkew(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	if skew, err := s.ClockSkew(t.Context()); err != nil || skew.Abs() > stream.MaxClockSkew {
		t.Errorf("skew of %s, %v on one machine", skew, err)
	}
}

// script runs a script as a receiver does whose clock is off.
func script(t *testing.T, r *redistest.Server, files []string, keys, args []string) string {
	t.Helper()
	var source strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.WriteString(patched(name, string(text)))
	}
	return r.MustDo(append(append([]string{"EVAL", source.String(), strconv.Itoa(len(keys))}, keys...), args...)...)
}

const prefix = "hmw:{staging/support}:"

// While the clocks of Redis and a receiver differ, the age of entries is unknown.
func TestNothingExpiresWhileClocksDisagree(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-30 * 24 * time.Hour, -2 * time.Minute, 2 * time.Minute, 30 * 24 * time.Hour} {
		r := redistest.Start(t, "--appendonly", "no")
		s := connect(t, r, "a")
		bury(t, s, 3)
		appendTo(t, s, 10, target)
		old := fmt.Sprint(time.Now().Add(-60 * 24 * time.Hour).UnixMilli())
		r.MustDo("HSET", prefix+"targets", target, old) // not wanted for long
		script(t, r, []string{"attempt.lua", "bytes.lua", "expire_targets.lua"}, []string{prefix + "targets", prefix + "bytes"},
			[]string{prefix, "0", "-3600000", fmt.Sprint(time.Now().Add(off).UnixMilli()), "audit"})
		wantBacklog(t, s, backlog{Pending: 1, DeadLetters: 3})
	}
}

// Dead letters expire by the time in their entry, which a clock that was behind must not have set.
func TestADeadLetterDoesNotAgeByAClockThatIsBehind(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--appendonly", "no")
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, unordered)
	receiver := time.Now().Add(40 * 24 * time.Hour)
	for n := range 2 { // the second in the same millisecond
		appendTo(t, s, n, target)
		held := take(t, q, 1, 0)[0]
		keys := []string{prefix + "q:crm:general", prefix + "r:crm:general", prefix + "h:crm:general", prefix + "p:crm:general", prefix + "account:crm", prefix + "dead:crm", prefix + "bytes"}
		if got := script(t, r, []string{"attempt.lua", "bytes.lua", "entry.lua", "promote.lua", "dead.lua"}, keys,
			[]string{"receivers", "a", held.Entry, "", "1", "422", "no", "", "1000", "600000", fmt.Sprint(receiver.UnixMilli())}); got != "1" {
			t.Fatalf("dead.lua = %s", got)
		}
	}
	found := letters(t, s, "", 10)
	if len(found) != 2 {
		t.Fatalf("%d dead letters, want 2", len(found))
	}
	for _, l := range found {
		if age := receiver.Sub(l.DiedAt); age > time.Hour {
			t.Errorf("the letter counts as %s old", age)
		}
	}
}

// Each of these bounds is in milliseconds.
func TestAgesAreCountedInMilliseconds(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--appendonly", "no")
	s := connect(t, r, "a")
	halfAnHour := fmt.Sprint(time.Now().Add(-30 * time.Minute).UnixMilli())
	r.MustDo("XADD", prefix+"dead:crm", halfAnHour+"-0", "id", "evt_x", "type", "chat_closed", "at", "1", "body", "{}")
	r.MustDo("HINCRBY", prefix+"account:crm", "dead", "1")
	appendTo(t, s, 1, target)
	r.MustDo("HINCRBY", prefix+"account:crm", "stored", "1")
	keep := func(grace, keep time.Duration, want backlog) {
		t.Helper()
		r.MustDo("HSET", prefix+"targets", target, halfAnHour)
		if _, err := s.KeepTargets(t.Context(), []string{"audit"}, grace, keep); err != nil {
			t.Fatal(err)
		}
		wantBacklog(t, s, want)
	}
	keep(time.Hour, time.Hour, backlog{Pending: 1, DeadLetters: 1})
	keep(10*time.Minute, time.Hour, backlog{DeadLetters: 1})
	if _, err := s.KeepTargets(t.Context(), []string{target}, time.Hour, 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	wantBacklog(t, s, backlog{})

	appendTo(t, s, 2, target)
	q := s.Queue(target, delivery.General, stream.QueueOptions{})
	if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], delivery.Outcome{}, "x"); err != nil || ok {
		t.Fatalf("Dead without room = %t, %v", ok, err)
	}
	if _, next, err := q.Take(t.Context(), 1, anyBytes, 0); err != nil || next < 9*time.Minute || next > 10*time.Minute {
		t.Errorf("the next attempt is due in %s, %v; want ten minutes", next, err)
	}
}

// The ids of parked events are compared as text: 9 comes before 10 only with its zeros.
func TestParkedEventsOfOneMillisecondKeepTheirOrder(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--appendonly", "no")
	s := connect(t, r, "a")
	for _, n := range []string{"1", "9", "10", "100", "1000000"} {
		r.MustDo("XADD", prefix+"q:crm:general", "1700000000000-"+n, "id", "evt_"+n, "type", "chat_closed", "at", "1", "conversation", "7", "body", n)
	}
	q := s.Queue(target, delivery.General, ordered)
	for _, n := range []string{"1", "9", "10", "100", "1000000"} {
		done(t, q, wantTaken(t, q, n)[0])
	}
}
