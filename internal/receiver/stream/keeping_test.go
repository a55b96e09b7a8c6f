package stream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// bury makes n dead letters.
func bury(t *testing.T, s *stream.Store, n int) {
	t.Helper()
	q := s.Queue(target, delivery.General, unordered)
	for i := range n {
		appendTo(t, s, i, target)
	}
	for _, l := range take(t, q, n, 0) {
		if ok, err := q.Dead(t.Context(), l, delivery.Outcome{Status: 422, Excerpt: "why"}, "refused"); err != nil || !ok {
			t.Fatalf("Dead = %v, %v", ok, err)
		}
	}
}

func letters(t *testing.T, s *stream.Store, after string, limit int) []delivery.DeadLetter {
	t.Helper()
	found, err := s.ListDeadLetters(t.Context(), target, delivery.DeadLetterFilter{After: after}, limit)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestDeadLettersAreListedReplayedAndDiscarded(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	bury(t, s, 250)
	all := letters(t, s, "", 1000)
	if len(all) != 250 {
		t.Fatalf("%d dead letters are listed, want 250", len(all))
	}
	_, e := newEvent(0)
	want := delivery.DeadLetter{Event: e, Entry: all[0].Entry, Attempts: 1, Status: 422, Reason: "refused", Excerpt: "why", DiedAt: all[0].DiedAt}
	whole, found, err := s.DeadLetter(t.Context(), target, all[0].Entry)
	if diff := cmp.Diff(want, whole); err != nil || !found || diff != "" {
		t.Errorf("dead letter, %v (-want +got):\n%s", err, diff)
	}
	want.Body = []byte{}
	if diff := cmp.Diff(want, all[0]); diff != "" {
		t.Errorf("listed dead letter (-want +got):\n%s", diff)
	}
	if age := time.Since(all[0].DiedAt); age < -time.Minute || age > time.Minute {
		t.Errorf("died %v ago", age)
	}
	if next := letters(t, s, all[9].Entry, 5); len(next) != 5 || next[0].Entry != all[10].Entry {
		t.Errorf("behind the tenth come %v", next)
	}

	for i, wantN := range []int{1, 0} { // the second time it is gone already
		if n, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{Entry: all[0].Entry}, 0, nil); err != nil || n.Taken != wantN {
			t.Errorf("replay one, call %d = %+v, %v; want %d", i, n, err, wantN)
		}
	}
	if n, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 2, nil); err != nil || n.Taken != 2 {
		t.Errorf("replay of two = %+v, %v", n, err)
	}
	if n, err := s.DiscardDeadLetters(t.Context(), target, delivery.DeadLetterFilter{Status: new(422)}, 2, nil); err != nil || n.Taken != 2 {
		t.Errorf("discard of two = %+v, %v", n, err)
	}
	for _, none := range []delivery.DeadLetterFilter{{Type: event.ChatClosed}, {Status: new(0)}, {Entry: "1-1"}} {
		if n, err := s.DiscardDeadLetters(t.Context(), target, none, 0, nil); err != nil || n.Taken != 0 {
			t.Errorf("discard of %+v = %+v, %v; want none", none, n, err)
		}
	}
	if n, err := s.CountDeadLetters(t.Context(), target, delivery.DeadLetterFilter{Type: event.MessageReceived, Status: new(422)}); err != nil || n != 245 {
		t.Errorf("count = %d, %v; want 245", n, err)
	}
	wantBacklog(t, s, backlog{Pending: 3, DeadLetters: 245})
	back := take(t, s.Queue(target, delivery.General, unordered), 10, 0)
	if len(back) != 3 || back[0].ID != all[0].ID || back[0].Attempt != 1 || string(back[0].Body) != string(e.Body) {
		t.Errorf("came back: %v", back)
	}
}

func TestWhichDeadLettersAFilterDescribes(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	at := time.UnixMilli
	for i, l := range []struct{ entry, kind, status, reason, body string }{
		{"1000-0", "chat_closed", "422", "the target refused it with 422", `{"text":"Hello Ann"}`},
		{"2000-0", "chat_closed", "503", "the target refused it with 503", `{"text":"100% (a.b)"}`},
		{"2000-1", "chat_opened", "0", "The target did not answer in time", `{"text":"hello Bob"}`},
		{"3000-0", "chat_opened", "422", "the target refused it with 422", `{"text":"Bye"}`},
	} {
		r.MustDo("XADD", "hmw:{staging/support}:dead:"+target, l.entry, "id", fmt.Sprintf("evt_%d", i), "type", l.kind, "at", "1", "status", l.status, "reason", l.reason, "body", l.body)
	}
	for name, tc := range map[string]struct {
		filter delivery.DeadLetterFilter
		want   string
	}{
		"all":                           {delivery.DeadLetterFilter{}, "1000-0 2000-0 2000-1 3000-0"},
		"type":                          {delivery.DeadLetterFilter{Type: event.ChatClosed}, "1000-0 2000-0"},
		"status":                        {delivery.DeadLetterFilter{Status: new(503)}, "2000-0"},
		"reason":                        {delivery.DeadLetterFilter{Reason: "refused"}, "1000-0 2000-0 3000-0"},
		"reason in another case":        {delivery.DeadLetterFilter{Reason: "THE TARGET did"}, "2000-1"},
		"text in any case":              {delivery.DeadLetterFilter{Text: "HELLO"}, "1000-0 2000-1"},
		"text that looks like patterns": {delivery.DeadLetterFilter{Text: "100% (a.b)"}, "2000-0"},
		"a pattern is a text":           {delivery.DeadLetterFilter{Text: "hel.o"}, ""},
		"a name is no part of the body": {delivery.DeadLetterFilter{Text: "refused"}, ""},
		"since":                         {delivery.DeadLetterFilter{Since: at(2000)}, "2000-0 2000-1 3000-0"},
		"since just after":              {delivery.DeadLetterFilter{Since: at(2001)}, "3000-0"},
		"until":                         {delivery.DeadLetterFilter{Until: at(2000)}, "1000-0 2000-0 2000-1"},
		"until just before":             {delivery.DeadLetterFilter{Until: at(1999)}, "1000-0"},
		"a window":                      {delivery.DeadLetterFilter{Since: at(1001), Until: at(2999)}, "2000-0 2000-1"},
		"an empty window":               {delivery.DeadLetterFilter{Since: at(2500), Until: at(1500)}, ""},
		"before all":                    {delivery.DeadLetterFilter{Until: at(1)}, ""},
		"after, since it":               {delivery.DeadLetterFilter{After: "2000-0", Since: at(1000)}, "2000-1 3000-0"},
		"after, since later":            {delivery.DeadLetterFilter{After: "1000-0", Since: at(2500)}, "3000-0"},
		"after, of the same time":       {delivery.DeadLetterFilter{After: "2000-0", Since: at(2000)}, "2000-1 3000-0"},
		"together":                      {delivery.DeadLetterFilter{Type: event.ChatOpened, Status: new(422), Reason: "refused", Text: "bye", Since: at(3000), Until: at(3000)}, "3000-0"},
		"together, one differs":         {delivery.DeadLetterFilter{Type: event.ChatOpened, Status: new(422), Reason: "refused", Text: "bye", Since: at(3000), Until: at(2999)}, ""},
	} {
		found, err := s.ListDeadLetters(t.Context(), target, tc.filter, 10)
		var entries []string
		for _, l := range found {
			entries = append(entries, l.Entry)
		}
		if got := strings.Join(entries, " "); err != nil || got != tc.want {
			t.Errorf("%s: listed %q, %v; want %q", name, got, err, tc.want)
		}
		if n, err := s.CountDeadLetters(t.Context(), target, tc.filter); err != nil || n != len(strings.Fields(tc.want)) {
			t.Errorf("%s: counted %d, %v", name, n, err)
		}
	}
	// A change affects exactly the listed letters, and consent is still kept separate.
	r.MustDo("XADD", "hmw:{staging/support}:dead:"+target, "4000-0", "id", "evt_c", "type", event.TargetOptOut, "at", "1", "status", "422", "reason", "refused", "body", `{"text":"Bye"}`)
	if n, err := s.DiscardDeadLetters(t.Context(), target, delivery.DeadLetterFilter{Text: "bob", Since: at(1500)}, 0, nil); err != nil || n.Taken != 1 {
		t.Errorf("discarded %+v, %v", n, err)
	}
	if n, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{Text: "bye", Until: at(4000)}, 0, nil); err != nil || n.Taken != 2 {
		t.Errorf("replayed %+v, %v", n, err)
	}
	if got := r.MustDo("XLEN", "hmw:{staging/support}:q:crm:consent") + r.MustDo("XLEN", "hmw:{staging/support}:q:crm:general"); got != "11" {
		t.Errorf("queues of consent and the rest have %s", got)
	}
}

// The time of acceptance is kept on replay; only the time limit for attempts starts again.
func TestAReplayKeepsTheTimeOfAcceptance(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	bury(t, s, 1)
	q := s.Queue(target, delivery.General, unordered)
	_, e := newEvent(0)
	for range 2 { // replayed and dead once more, it is replayed again
		if n, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil); err != nil || n.Taken != 1 {
			t.Fatalf("replay = %+v, %v", n, err)
		}
		back := take(t, q, 10, 0)[0]
		if !back.AcceptedAt.Equal(e.AcceptedAt) {
			t.Errorf("accepted at %s, want %s", back.AcceptedAt, e.AcceptedAt)
		}
		if age := time.Since(back.QueuedAt()); age < -time.Minute || age > time.Minute || !back.QueuedAt().Equal(back.ReplayedAt) {
			t.Errorf("queued %s ago and replayed at %s: it would be given up at once", age, back.ReplayedAt)
		}
		if ok, err := q.Dead(t.Context(), back, delivery.Outcome{}, "again"); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if l := letters(t, s, "", 10); len(l) != 1 || !l[0].AcceptedAt.Equal(e.AcceptedAt) || l[0].ReplayedAt.IsZero() || l[0].Reason != "again" {
			t.Errorf("dead once more: %+v", l)
		}
	}
}

// Pages are bounded in entries and in bytes, and dead letters added in the meantime are not included.
func TestReplayAndDiscardGoByPages(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--appendfsync", "no")
	s := connect(t, r, "a")
	bury(t, s, 1)
	const small, large = 2500, 12
	r.MustDo("EVAL", `for i = 1, ARGV[1] + ARGV[2] do
		redis.call('XADD', KEYS[1], '*', 'id', 'evt_' .. i, 'type', 'chat_closed', 'at', '1700000000000', 'body', i > tonumber(ARGV[1]) and string.rep('x', 1024 * 1024) or '{}', 'status', '422')
	end`, "1", "hmw:{staging/support}:dead:"+target, fmt.Sprint(small), fmt.Sprint(large))
	var pages []int
	late := 0
	n, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{Type: event.ChatClosed}, 0, func(c delivery.DeadLetterCount) {
		pages = append(pages, c.Taken)
		if late++; late == 1 { // dies while the replay goes on
			r.MustDo("XADD", "hmw:{staging/support}:dead:"+target, "*", "id", "evt_late", "type", "chat_closed", "at", "1700000000000", "body", "{}")
		}
	})
	if err != nil || n.Taken != small+large {
		t.Fatalf("replayed %+v, %v; want %d", n, err, small+large)
	}
	if len(pages) < 3+large/5 || pages[0] > 1000 {
		t.Errorf("pages of %v: 2500 small letters and 12 of 1 MiB need more of them", pages)
	}
	if left, err := s.CountDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}); err != nil || left != 2 {
		t.Errorf("%d are left, %v; want the one of another type and the one that came late", left, err)
	}
	if got := r.MustDo("XLEN", "hmw:{staging/support}:q:crm:general"); got != fmt.Sprint(small+large) {
		t.Errorf("%s events are in the queue", got)
	}
}

// An entry that is not an event is listed and can be discarded; a replay skips it, without affecting other letters.
func TestDeadLettersThatAreNoEvents(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	key := "hmw:{staging/support}:dead:" + target
	r.MustDo("XADD", key, "1-0", "garbage", "x")
	r.MustDo("XADD", key, "2-0", "id", "evt_x", "type", "chat_closed", "at", "99999999999999999999", "body", "{}", "status", "x", "reason", "\xff\xfe")
	r.MustDo("XADD", key, "3-0", "id", "evt_y", "type", "chat_closed", "at", "9223372036854775807", "body", "{}", "excerpt", strings.Repeat("x", 100_000))
	r.MustDo("EVAL", `local fields = {'id', 'evt_z', 'type', 'chat_closed', 'at', '1', 'body', '{}'}
		for i = 1, 9000 do fields[#fields + 1] = i end
		for i = 1, #fields, 4000 do end
		redis.call('XADD', KEYS[1], '4-0', unpack(fields, 1, 7000))`, "1", key)
	bury(t, s, 1)
	found := letters(t, s, "", 10)
	if len(found) != 5 {
		t.Fatalf("%d letters are listed, want 5", len(found))
	}
	for _, l := range found {
		if !utf8.ValidString(l.Reason) || len(l.Excerpt) > 1024 || l.AcceptedAt.Year() > 9999 || l.DiedAt.Year() > 9999 {
			t.Errorf("letter %+v cannot be shown", l)
		}
	}
	n, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil)
	if diff := cmp.Diff(delivery.DeadLetterCount{Taken: 3, Skipped: 2}, n); err != nil || diff != "" {
		t.Errorf("replay, %v (-want +got):\n%s", err, diff)
	}
	if n, err := s.DiscardDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil); err != nil || n.Taken != 2 {
		t.Errorf("discard = %+v, %v; want the two that are left", n, err)
	}
}

func TestTextOfATargetIsStoredAsValidText(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, unordered)
	appendTo(t, s, 1, target)
	if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], delivery.Outcome{Status: 422, Excerpt: "caf\xe9 \xe2\x82"}, "filter \xff"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	stored := r.MustDo("XRANGE", "hmw:{staging/support}:dead:"+target, "-", "+")
	if !utf8.ValidString(stored) || !strings.Contains(stored, "caf\uFFFD \uFFFD") || !strings.Contains(stored, "filter \uFFFD") {
		t.Errorf("stored:\n%q", stored)
	}
}

func TestAReplayGoesIntoItsLane(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	key, e := newEvent(1)
	e.Type = event.TargetOptOut
	if _, err := s.Append(t.Context(), key, e, []string{target}, limits); err != nil {
		t.Fatal(err)
	}
	q := s.Queue(target, delivery.Consent, unordered)
	if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], delivery.Outcome{}, "x"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if n, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil); err != nil || n.Taken != 1 {
		t.Fatal(n, err)
	}
	if got := take(t, q, 10, 0); len(got) != 1 {
		t.Errorf("the consent lane got %v", got)
	}
}

// No dead letter is evicted: at the limit, events that are given up stay in the queue.
func TestAtTheLimitOfDeadLettersTheQueueWaits(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, stream.QueueOptions{DeadLetterLimit: 10})
	const all = 150 // more than a node of a stream
	for n := range all {
		appendTo(t, s, n, target)
		want := n < 10
		if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], delivery.Outcome{}, "x"); err != nil || ok != want {
			t.Fatalf("Dead, event %d = %t, %v; want %t", n, ok, err, want)
		}
	}
	wantBacklog(t, s, backlog{Pending: all - 10, DeadLetters: 10})
	wantLent(t, r, 0)           // or they would be delivered when their leases expire, long before they are due
	appendTo(t, s, all, target) // what the target takes goes on
	if ok, err := q.Done(t.Context(), take(t, q, 1, 0)[0]); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if n, err := s.DiscardDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil); err != nil || n.Taken != 10 {
		t.Fatalf("discard = %+v, %v", n, err)
	}
	r.MustDo("EVAL", `for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZADD', KEYS[1], 0, member) end`,
		"1", "hmw:{staging/support}:r:crm:general") // as if their time had come
	again := take(t, q, 1, 0)[0]
	if ok, err := q.Dead(t.Context(), again, delivery.Outcome{}, "x"); err != nil || !ok || again.Attempt != 1 {
		t.Errorf("with room again: Dead = %t, %v, attempt %d", ok, err, again.Attempt)
	}
	wantBacklog(t, s, backlog{Pending: all - 11, DeadLetters: 1})
}

// Expiry must not depend on another dead letter, which may never be added.
func TestDeadLettersEndWithTheirTime(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	bury(t, s, 3)
	for _, tc := range []struct {
		keep time.Duration
		want stream.Account
	}{
		{time.Hour, stream.Account{Stored: 3, Dead: 3, DeadLetters: 3}},
		{-time.Hour, stream.Account{Stored: 3, Dead: 3, Discarded: 3}}, // as if all were older than is kept
	} {
		if _, err := s.KeepTargets(t.Context(), []string{target}, time.Hour, tc.keep); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, account(t, s, target)); diff != "" {
			t.Errorf("kept for %s (-want +got):\n%s", tc.keep, diff)
		}
	}
}

func TestATargetThatIsGoneKeepsItsBacklogForAWhile(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	keep := func(grace time.Duration, names ...string) []stream.Dropped {
		t.Helper()
		dropped, err := s.KeepTargets(t.Context(), names, grace, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return dropped
	}
	bury(t, s, 1)
	appendTo(t, s, 100, target, "audit")
	keep(time.Hour, target, "audit")
	if dropped := keep(time.Hour, "audit"); len(dropped) != 0 {
		t.Fatalf("dropped %v within the grace period", dropped)
	}
	wantBacklog(t, s, backlog{Pending: 1, DeadLetters: 1})
	keep(0, target, "audit") // back again: it goes on where it was
	wantBacklog(t, s, backlog{Pending: 1, DeadLetters: 1})

	var dropped []stream.Dropped
	for deadline := time.Now().Add(5 * time.Second); len(dropped) == 0 && time.Now().Before(deadline); {
		dropped = keep(0, "audit")
	}
	if diff := cmp.Diff([]stream.Dropped{{Target: target, Events: 1}}, dropped); diff != "" {
		t.Errorf("dropped (-want +got):\n%s", diff)
	}
	wantBacklog(t, s, backlog{DeadLetters: 1})
	if a := account(t, s, target); a.Dropped != 1 || a.Stored != 2 {
		t.Errorf("account after the drop: %+v; want 1 of 2 dropped", a)
	}
	keep(0, target, "audit") // back again: the account goes on, and so do the dead letters
	appendTo(t, s, 101, target)
	q := s.Queue(target, delivery.General, unordered)
	if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], delivery.Outcome{}, "x"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	wantBacklog(t, s, backlog{DeadLetters: 2})

	for deadline := time.Now().Add(5 * time.Second); r.MustDo("HEXISTS", "hmw:{staging/support}:targets", target) == "1"; {
		if _, err := s.KeepTargets(t.Context(), []string{"audit"}, 0, -time.Hour); err != nil { // as if all were older than is kept
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the target that is gone is not forgotten")
		}
	}
	if left := r.MustDo("KEYS", "*:"+target+"*"); left != "" {
		t.Errorf("of the target that is gone there is left: %s", left)
	}
	if got := take(t, s.Queue("audit", delivery.General, unordered), 10, 0); len(got) != 1 {
		t.Errorf("audit lost its events: %v", got)
	}
}

func TestCheckNamesEveryProblem(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	for _, tc := range []struct {
		do   []string
		want []contract.Problem
	}{
		{nil, nil},
		{[]string{"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}, []contract.Problem{contract.RedisEvicts}},
		{[]string{"CONFIG", "SET", "maxmemory-policy", "noeviction"}, nil},
		{[]string{"CONFIG", "SET", "maxmemory", "1"}, []contract.Problem{contract.RedisFull}},
		{[]string{"CONFIG", "SET", "maxmemory", "0"}, nil},
		{[]string{"CONFIG", "SET", "min-replicas-to-write", "1"}, []contract.Problem{contract.RedisFewReplicas}},
		{[]string{"CONFIG", "SET", "min-replicas-to-write", "0"}, nil},
		{[]string{"ACL", "SETUSER", "default", "-set"}, []contract.Problem{contract.RedisNoRights}},
		{[]string{"ACL", "SETUSER", "default", "+set"}, nil},
		{[]string{"CONFIG", "SET", "appendonly", "no"}, []contract.Problem{contract.RedisForgets}},
		{[]string{"CONFIG", "SET", "appendonly", "yes"}, nil},
		{[]string{"REPLICAOF", "127.0.0.1", "1"}, []contract.Problem{contract.RedisReadOnly}},
		{[]string{"CONFIG", "SET", "replica-serve-stale-data", "no"}, []contract.Problem{contract.RedisNoPrimary, contract.RedisReadOnly}},
	} {
		if tc.do != nil {
			r.MustDo(tc.do...)
		}
		if diff := cmp.Diff(tc.want, s.Check(t.Context()), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", tc.do, diff)
		}
		if left, err := r.Do("KEYS", "*"); err == nil && left != "" { // a replica without its primary does not answer
			t.Errorf("it leaves %s", left)
		}
	}
}
