package stream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// What no receiver wrote must not stop delivery: it is set aside and counted.
func TestGarbageInRedisStopsNoDelivery(t *testing.T) {
	t.Parallel()
	const keys = "hmw:{staging/support}:"
	fields := "x"
	for name, poison := range map[string][]string{
		"an entry without fields of ours":   {"XADD", keys + "q:crm:general", "*", "garbage", "x"},
		"an entry without a time":           {"XADD", keys + "q:crm:general", "*", "id", "evt_x", "type", "chat_closed", "body", "{}"},
		"an entry with a time that is none": {"XADD", keys + "q:crm:general", "*", "id", "evt_x", "type", "chat_closed", "at", "soon", "body", "{}"},
		"an entry with very many fields": {"EVAL", `local f = {'id', 'evt_x', 'type', 'x', 'at', '1', 'body', '{}'}
			for i = 1, 7000 do f[#f + 1] = i end redis.call('XADD', KEYS[1], '*', unpack(f))`, "1", keys + "q:crm:general"},
		"a retry that is none":                  {"ZADD", keys + "r:crm:general", "0", "garbage"},
		"a retry without an attempt":            {"ZADD", keys + "r:crm:general", "0", "/1-0"},
		"a retry of an entry beyond 64 bits":    {"ZADD", keys + "r:crm:general", "0", "1/99999999999999999999-0"},
		"a retry of an attempt beyond 64 bits":  {"ZADD", keys + "r:crm:general", "0", "99999999999999999999/1-0"},
		"a retry in many digits":                {"ZADD", keys + "r:crm:general", "0", "1/" + strings.Repeat("9", 100) + "-0"},
		"a retry of an entry that is not there": {"ZADD", keys + "r:crm:general", "0", "1/5-0"},
		"a head that is none":                   {"HSET", keys + "h:crm:general", "7", "garbage"},
		"a head beyond 64 bits":                 {"HSET", keys + "h:crm:general", "7", "99999999999999999999-0"},
		"a parked event without an entry":       {"ZADD", keys + "p:crm:general", "0", "garbage"},
		"a parked event of a conversation":      {"EVAL", `redis.call('ZADD', KEYS[1], 0, '7\0garbage')`, "1", keys + "p:crm:general"},
		"a parked event beyond 64 bits":         {"EVAL", `redis.call('ZADD', KEYS[1], 0, '7\0' .. string.rep('9', 30) .. '-1')`, "1", keys + "p:crm:general"},
		"no head beside parked events":          {"HDEL", keys + "h:crm:general", "7"},
		"notes that are none":                   {"HSET", keys + "c:crm:general", "time", "garbage", "checked", fields},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t, "--appendonly", "no")
			s := connect(t, r, "a")
			q := s.Queue(target, event.General, ordered)
			for n := range 3 {
				say(t, s, "7", n)
			}
			first := wantTaken(t, q, "7/0") // the others are parked
			r.MustDo(poison...)
			done(t, q, first[0])
			say(t, s, "8", 0)
			seen := map[string]bool{}
			for deadline := time.Now().Add(10 * time.Second); len(seen) < 3 && time.Now().Before(deadline); {
				leases, _, err := q.Take(t.Context(), 10, 0)
				if err != nil {
					t.Fatalf("Take: %v", err)
				}
				for _, l := range leases {
					if seen[string(l.Body)] = true; l.ID == "" {
						t.Errorf("an entry that is no event was lent: %+v", l)
					}
					done(t, q, l)
				}
			}
			if len(seen) != 3 {
				t.Errorf("delivered %v, want 7/1, 7/2 and 8/0", seen)
			}
			all, err := s.Accounts(t.Context(), []string{target})
			if err != nil || all[0].Pending != 0 {
				t.Errorf("account %+v, %v: something is left in the queue", all, err)
			}
			if expected := !strings.HasPrefix(name, "no ") && !strings.HasPrefix(name, "notes") && !strings.HasSuffix(name, "not there") && !strings.HasPrefix(name, "a head beyond"); expected && all[0].Malformed == 0 {
				t.Error("what was set aside is not counted")
			}
			if strings.HasPrefix(name, "an entry") && all[0].DeadLetters != 1 {
				t.Errorf("%d dead letters, want the entry that was set aside", all[0].DeadLetters)
			}
		})
	}
}

// shiftClock makes take.lua believe that it saw another time before.
func shiftClock(r *redistest.Server, by time.Duration) {
	r.MustDo("HSET", "hmw:{staging/support}:c:crm:general", "time", fmt.Sprint(time.Now().Add(by).UnixMilli()))
}

// A clock that is set back by an hour must not make retries wait an hour longer.
func TestRetriesFollowTheClockOfRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, event.General, unordered)
	appendTo(t, s, 1, target)
	if ok, err := q.Later(t.Context(), take(t, q, 1, 0)[0], 2, time.Hour+time.Minute); err != nil || !ok { // as planned by a clock that was an hour ahead
		t.Fatal(ok, err)
	}
	shiftClock(r, time.Hour)
	_, next, err := q.Take(t.Context(), 1, 0)
	if err != nil || next > time.Minute {
		t.Fatalf("the next attempt is due in %s, %v; want a minute at most", next, err)
	}
	if _, again, err := q.Take(t.Context(), 1, 0); err != nil || again < 30*time.Second {
		t.Errorf("then in %s, %v: the clock was followed twice", again, err)
	}
	shiftClock(r, -30*24*time.Hour) // set forward
	if _, next, err := q.Take(t.Context(), 1, 0); err != nil || next < 30*time.Second {
		t.Errorf("the next attempt is due in %s, %v; a clock that is set forward moves nothing", next, err)
	}
}

func TestClockSkew(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	if skew, err := s.ClockSkew(t.Context()); err != nil || skew.Abs() > stream.MaxClockSkew {
		t.Errorf("skew of %s, %v on one machine", skew, err)
	}
}
