package stream_test

import (
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// Entries that no receiver wrote must not stop delivery: they are set aside and counted.
func TestGarbageInRedisStopsNoDelivery(t *testing.T) {
	t.Parallel()
	const keys = "hmw:{staging/support}:"
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
		"no head before the one checked last":   {"EVAL", `redis.call('HDEL', KEYS[1], '7') redis.call('HSET', KEYS[2], 'checked', '9')`, "2", keys + "h:crm:general", keys + "c:crm:general"},
		"notes that are none":                   {"HSET", keys + "c:crm:general", "time", "garbage", "checked", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t, "--appendonly", "no")
			s := connect(t, r, "a")
			q := s.Queue(target, delivery.General, ordered)
			for n := range 3 {
				say(t, s, "7", n)
			}
			first := wantTaken(t, q, "7/0") // the others are parked
			r.MustDo(poison...)
			done(t, q, first[0])
			say(t, s, "8", 0)
			seen := map[string]bool{}
			for deadline := time.Now().Add(10 * time.Second); len(seen) < 3 && time.Now().Before(deadline); {
				leases, _, err := q.Take(t.Context(), 10, anyBytes, 0)
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
			if expected := !strings.HasPrefix(name, "no ") && !strings.HasPrefix(name, "notes") && !strings.HasSuffix(name, "not there") && !strings.HasPrefix(name, "a head beyond") && !strings.HasPrefix(name, "a parked event beyond"); expected && all[0].Malformed == 0 {
				t.Error("what was set aside is not counted")
			}
			wantCounted(t, r, "everything is settled")
			if strings.HasPrefix(name, "an entry") && (all[0].DeadLetters != 1 || all[0].Dead != 1) {
				t.Errorf("%d dead letters, %d counted; want the entry that was set aside", all[0].DeadLetters, all[0].Dead)
			}
		})
	}
}
