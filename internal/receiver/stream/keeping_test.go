package stream_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

func anyLetter(event.DeadLetter) bool { return true }

// bury makes n dead letters.
func bury(t *testing.T, s *stream.Store, n int) {
	t.Helper()
	q := s.Queue(target, event.General, unordered)
	for i := range n {
		appendTo(t, s, i, target)
	}
	for _, l := range take(t, q, n, 0) {
		if ok, err := q.Dead(t.Context(), l, event.Outcome{Status: 422, Excerpt: "why"}, "refused"); err != nil || !ok {
			t.Fatalf("Dead = %v, %v", ok, err)
		}
	}
}

func letters(t *testing.T, s *stream.Store, after string, limit int) []event.DeadLetter {
	t.Helper()
	found, err := s.DeadLetters(t.Context(), target, after, limit, anyLetter)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestDeadLettersAreListedReplayedAndDiscarded(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	bury(t, s, 250) // more than a page
	all := letters(t, s, "", 1000)
	if len(all) != 250 {
		t.Fatalf("%d dead letters are listed, want 250", len(all))
	}
	_, e := newEvent(0)
	want := event.DeadLetter{Event: e, Entry: all[0].Entry, Attempts: 1, Status: 422, Reason: "refused", Excerpt: "why", DiedAt: all[0].DiedAt}
	if diff := cmp.Diff(want, all[0]); diff != "" {
		t.Errorf("dead letter (-want +got):\n%s", diff)
	}
	if age := time.Since(all[0].DiedAt); age < -time.Minute || age > time.Minute {
		t.Errorf("died %v ago", age)
	}
	if next := letters(t, s, all[9].Entry, 5); len(next) != 5 || next[0].Entry != all[10].Entry {
		t.Errorf("behind the tenth come %v", next)
	}
	odd, err := s.DeadLetters(t.Context(), target, "", 10, func(l event.DeadLetter) bool { return l.ID == all[200].ID })
	if err != nil || len(odd) != 1 {
		t.Errorf("a filter found %v, %v", odd, err)
	}

	for i, wantN := range []int{3, 0} { // the second time they are gone already
		if n, err := s.Replay(t.Context(), target, all[:3]); err != nil || n != wantN {
			t.Errorf("Replay, call %d = %d, %v; want %d", i, n, err, wantN)
		}
	}
	if n, err := s.Discard(t.Context(), target, all[3:5]); err != nil || n != 2 {
		t.Errorf("Discard = %d, %v; want 2", n, err)
	}
	wantBacklog(t, s, backlog{Pending: 3, DeadLetters: 245})
	back := take(t, s.Queue(target, event.General, unordered), 10, 0)
	if len(back) != 3 || back[0].ID != all[0].ID || back[0].Attempt != 1 || string(back[0].Body) != string(all[0].Body) {
		t.Errorf("came back: %v", back)
	}
	if age := time.Since(back[0].AcceptedAt); age > time.Minute {
		t.Errorf("a replayed event is %v old: it would be given up at once", age)
	}
	if n, err := s.Discard(t.Context(), target, nil); err != nil || n != 0 {
		t.Errorf("Discard of nothing = %d, %v", n, err)
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
	q := s.Queue(target, event.Consent, unordered)
	if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], event.Outcome{}, "x"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if n, err := s.Replay(t.Context(), target, letters(t, s, "", 10)); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if got := take(t, q, 10, 0); len(got) != 1 {
		t.Errorf("the consent lane got %v", got)
	}
}

func TestDeadLettersAreBounded(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	q := s.Queue(target, event.General, stream.QueueOptions{Retention: stream.Retention{Count: 10, Age: time.Hour}})
	for n := range 500 {
		appendTo(t, s, n, target)
		if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], event.Outcome{}, "x"); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	if kept := len(letters(t, s, "", 1000)); kept < 10 || kept > 120 {
		t.Errorf("%d dead letters are kept; want 10, and up to a node of Redis' more", kept)
	}
}

// Another dead letter, which would take the old ones along, may never come.
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
	q := s.Queue(target, event.General, unordered)
	if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], event.Outcome{}, "x"); err != nil || !ok {
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
	if got := take(t, s.Queue("audit", event.General, unordered), 10, 0); len(got) != 1 {
		t.Errorf("audit lost its events: %v", got)
	}
}

func TestCheckDurabilityNamesEveryProblem(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	for _, tc := range []struct {
		set  []string
		want string
	}{
		{nil, ""},
		{[]string{"maxmemory-policy", "allkeys-lru"}, "allkeys-lru"},
		{[]string{"maxmemory-policy", "volatile-ttl"}, "volatile-ttl"},
		{[]string{"maxmemory-policy", "noeviction"}, ""},
		{[]string{"appendonly", "no"}, "append-only file is off"},
	} {
		if tc.set != nil {
			r.MustDo(slices.Concat([]string{"CONFIG", "SET"}, tc.set)...)
		}
		problems, err := s.CheckDurability(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(problems, " "); (tc.want == "") != (all == "") || !strings.Contains(all, tc.want) {
			t.Errorf("after %v: %q; want something on %q", tc.set, all, tc.want)
		}
	}
	r.MustDo("REPLICAOF", "127.0.0.1", "1")
	if problems, err := s.CheckDurability(t.Context()); err != nil || !strings.Contains(strings.Join(problems, " "), "replica") {
		t.Errorf("a replica: %v, %v", problems, err)
	}
}
