package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

const (
	target = "crm"
	// anyBytes means no bound on the bytes of a Take.
	anyBytes = 1 << 40
	lease    = 50 * time.Millisecond
)

var unordered = stream.QueueOptions{DeadLetterLimit: 1000}

var limits = stream.Limits{Window: time.Hour, Backlog: 1000}

func connect(t *testing.T, r *redistest.Server, consumer string) *stream.Store {
	t.Helper()
	s := stream.New("staging", "support", consumer)
	if err := s.Connect(t.Context(), r.URL(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// plain is the identity of an event without a subject.
func plain(key event.Key) event.Identity { return event.Identity{Key: key, Rule: event.Any} }

func newEvent(n int) (event.Identity, event.Event) {
	key := event.Key{byte(n >> 8), byte(n)}
	return plain(key), event.Event{
		ID: key.ID(), Type: event.MessageReceived, AcceptedAt: time.UnixMilli(1_700_000_000_000),
		Body: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

func appendTo(t *testing.T, s *stream.Store, n int, targets ...string) {
	t.Helper()
	key, e := newEvent(n)
	if got, err := s.Append(t.Context(), key, e, targets, limits); err != nil || got.Judgement != event.New {
		t.Fatalf("Append(%d) = %v, %v; want Stored", n, got, err)
	}
}

func take(t *testing.T, q *stream.Queue, limit int, lease time.Duration) []delivery.Lease {
	t.Helper()
	leases, _, err := q.Take(t.Context(), limit, anyBytes, lease)
	if err != nil {
		t.Fatal(err)
	}
	return leases
}

// wantLent holds how many events of the general queue are lent.
func wantLent(t *testing.T, r *redistest.Server, n int) {
	t.Helper()
	if got, _, _ := strings.Cut(r.MustDo("XPENDING", "hmw:{staging/support}:q:crm:general", "receivers"), "\n"); got != fmt.Sprint(n) {
		t.Errorf("%s events are lent, want %d", got, n)
	}
}

// takeEventually takes until something comes: for what depends on the clock of Redis.
func takeEventually(t *testing.T, q *stream.Queue, lease time.Duration) delivery.Lease {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if leases := take(t, q, 1, lease); len(leases) == 1 {
			return leases[0]
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("nothing came within five seconds")
	return delivery.Lease{}
}

// backlog is a target's pending events and dead letters.
type backlog struct{ Pending, DeadLetters int64 }

// wantBacklog also holds that everything is accounted for.
func wantBacklog(t *testing.T, s *stream.Store, want backlog) {
	t.Helper()
	a := account(t, s, target)
	if diff := cmp.Diff(want, backlog{a.Pending, a.DeadLetters}); diff != "" {
		t.Errorf("backlog (-want +got):\n%s", diff)
	}
}

func TestAppendStoresOnceForEveryTarget(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	key, e := newEvent(1)
	for i, want := range []event.Judgement{event.New, event.Repeat, event.Repeat} {
		got, err := s.Append(t.Context(), key, e, []string{target, "audit"}, limits)
		if err != nil || got.Judgement != want {
			t.Fatalf("call %d: Append = %v, %v; want %v", i, got, err, want)
		}
	}
	for _, name := range []string{target, "audit"} {
		got := take(t, s.Queue(name, delivery.General, unordered), 10, 0)
		if len(got) != 1 {
			t.Fatalf("%s: took %d events, want 1", name, len(got))
		}
		want := delivery.Lease{Event: e, Attempt: 1, Entry: got[0].Entry, Bytes: got[0].Bytes}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("%s: lease (-want +got):\n%s", name, diff)
		}
	}
}

func TestAppendForgetsAfterTheWindow(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	key, e := newEvent(1)
	short := stream.Limits{Window: 20 * time.Millisecond, Backlog: 10}
	if _, err := s.Append(t.Context(), key, e, []string{target}, short); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got, err := s.Append(t.Context(), key, e, []string{target}, short)
		if err != nil {
			t.Fatal(err)
		}
		if got.Judgement == event.New {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("still a duplicate long after the window")
		}
	}
}

func TestAppendStoresNothingWhenOneQueueIsFull(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	bound := stream.Limits{Window: time.Hour, Backlog: 2}
	for n := range 2 {
		key, e := newEvent(n)
		if _, err := s.Append(t.Context(), key, e, []string{"audit"}, bound); err != nil {
			t.Fatal(err)
		}
	}
	key, e := newEvent(9)
	for range 2 { // the second time too: it must not have been remembered
		_, err := s.Append(t.Context(), key, e, []string{target, "audit"}, bound)
		if !errors.Is(err, stream.ErrFull) || !strings.Contains(err.Error(), "audit") {
			t.Fatalf("Append = %v; want ErrFull naming audit", err)
		}
	}
	wantBacklog(t, s, backlog{})
}

// A marker before the store would lose the event: its repeat would look like a duplicate.
func TestAppendThatFailsHalfwayIsNoDuplicateLater(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	r.MustDo("SET", "hmw:{staging/support}:q:audit:general", "in the way")
	key, e := newEvent(1)
	if _, err := s.Append(t.Context(), key, e, []string{target, "audit"}, limits); !errors.Is(err, stream.ErrUnavailable) {
		t.Fatalf("Append = %v; want ErrUnavailable", err)
	}
	r.MustDo("DEL", "hmw:{staging/support}:q:audit:general")
	if got, err := s.Append(t.Context(), key, e, []string{target, "audit"}, limits); err != nil || got.Judgement != event.New {
		t.Fatalf("after repair: Append = %v, %v; want Stored", got, err)
	}
	if got := take(t, s.Queue("audit", delivery.General, unordered), 10, 0); len(got) != 1 {
		t.Errorf("audit got %d events, want 1", len(got))
	}
}

func TestAppendConfirmsNothingWhenMemoryIsExhausted(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	r.MustDo("CONFIG", "SET", "maxmemory", "1")
	key, e := newEvent(1)
	if _, err := s.Append(t.Context(), key, e, []string{target}, limits); !errors.Is(err, stream.ErrUnavailable) {
		t.Fatalf("Append = %v; want ErrUnavailable", err)
	}
	r.MustDo("CONFIG", "SET", "maxmemory", "0")
	appendTo(t, s, 1, target)
}

func TestConsentTravelsInALaneOfItsOwn(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	for n := range 5 {
		appendTo(t, s, n, target)
	}
	key, e := newEvent(100)
	e.Type = event.TargetOptOut
	if _, err := s.Append(t.Context(), key, e, []string{target}, limits); err != nil {
		t.Fatal(err)
	}
	got := take(t, s.Queue(target, delivery.Consent, unordered), 10, 0)
	if len(got) != 1 || got[0].Type != event.TargetOptOut {
		t.Fatalf("the consent lane held %v", got)
	}
	wantBacklog(t, s, backlog{Pending: 6})
}

func TestDoneLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, unordered)
	for n := range 20 {
		appendTo(t, s, n, target)
	}
	for _, l := range take(t, q, 20, 0) {
		for i, want := range []bool{true, false} {
			if got, err := q.Done(t.Context(), l); err != nil || got != want {
				t.Fatalf("Done, call %d = %v, %v; want %v", i, got, err, want)
			}
		}
	}
	wantLent(t, r, 0)
	wantBacklog(t, s, backlog{})
}

func TestLaterComesBackWithItsAttempt(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	q := s.Queue(target, delivery.General, unordered)
	appendTo(t, s, 1, target)
	l := take(t, q, 1, 0)[0]
	if ok, err := q.Later(t.Context(), l, 2, time.Hour); err != nil || !ok {
		t.Fatalf("Later = %v, %v", ok, err)
	}
	got, next, err := q.Take(t.Context(), 1, anyBytes, 0)
	if err != nil || len(got) != 0 || next < 59*time.Minute || next > time.Hour {
		t.Fatalf("Take = %v, next in %v, %v; want nothing, next in about an hour", got, next, err)
	}
	wantBacklog(t, s, backlog{Pending: 1})

	appendTo(t, s, 2, target)
	l2 := take(t, q, 1, 0)[0]
	if ok, err := q.Later(t.Context(), l2, 7, 0); err != nil || !ok {
		t.Fatalf("Later = %v, %v", ok, err)
	}
	again := takeEventually(t, q, 0)
	if again.ID != l2.ID || again.Attempt != 7 {
		t.Errorf("came back as %s, attempt %d; want %s, attempt 7", again.ID, again.Attempt, l2.ID)
	}
	if twice := take(t, q, 1, 0); len(twice) != 0 {
		t.Errorf("it is lent a second time: %v", twice)
	}
}

func TestDeadMovesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, unordered)
	appendTo(t, s, 1, target)
	l := take(t, q, 1, 0)[0]
	for i, want := range []bool{true, false} {
		ok, err := q.Dead(t.Context(), l, delivery.Outcome{Status: 422, Excerpt: "no such inbox"}, "the target refused it with 422")
		if err != nil || ok != want {
			t.Fatalf("Dead, call %d = %v, %v; want %v", i, ok, err, want)
		}
	}
	wantBacklog(t, s, backlog{DeadLetters: 1})
	letter := r.MustDo("XRANGE", "hmw:{staging/support}:dead:"+target, "-", "+")
	for _, part := range []string{l.ID, event.MessageReceived, `{"n":1}`, "422", "no such inbox", "the target refused it with 422"} {
		if !strings.Contains(letter, part) {
			t.Errorf("the dead letter lacks %q:\n%s", part, letter)
		}
	}
}

func TestWhatADeadConsumerHeldComesBack(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	crashed, alive := connect(t, r, "crashed"), connect(t, r, "alive")
	appendTo(t, crashed, 1, target)
	held := take(t, crashed.Queue(target, delivery.General, unordered), 1, 0)[0]

	q := alive.Queue(target, delivery.General, unordered)
	if got := take(t, q, 1, time.Hour); len(got) != 0 {
		t.Fatalf("took over %v before the lease was over", got)
	}
	l := takeEventually(t, q, lease)
	if l.ID != held.ID || l.Attempt != 2 {
		t.Errorf("took over %s, attempt %d; want %s, attempt 2: the crashed attempt counts", l.ID, l.Attempt, held.ID)
	}
	// The consumer that was considered dead resumes. It may settle the event as delivered, but not requeue or dead-letter it.
	late := crashed.Queue(target, delivery.General, unordered)
	if ok, err := late.Later(t.Context(), held, 2, 0); err != nil || ok {
		t.Errorf("Later by the former holder = %v, %v; want false", ok, err)
	}
	if ok, err := late.Dead(t.Context(), held, delivery.Outcome{}, ""); err != nil || ok {
		t.Errorf("Dead by the former holder = %v, %v; want false", ok, err)
	}
	if ok, err := late.Done(t.Context(), held); err != nil || !ok {
		t.Errorf("Done by the former holder = %v, %v; want true", ok, err)
	}
	if ok, err := q.Done(t.Context(), l); err != nil || ok {
		t.Errorf("Done by the second holder = %v, %v; want false: it counts once", ok, err)
	}
	wantBacklog(t, alive, backlog{})
}

func TestAGroupThatIsGoneIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, unordered)
	for n := range 3 {
		appendTo(t, s, n, target)
	}
	leases := take(t, q, 2, 0)
	if _, err := q.Later(t.Context(), leases[0], 2, time.Hour); err != nil {
		t.Fatal(err)
	}
	r.MustDo("XGROUP", "DESTROY", "hmw:{staging/support}:q:crm:general", "receivers")
	if got := take(t, q, 10, 0); len(got) != 3 {
		t.Errorf("took %d events after the group was lost, want all 3", len(got))
	}
	if n := r.MustDo("EXISTS", "hmw:{staging/support}:r:crm:general"); n != "0" {
		t.Error("the retry of the lost group is still noted: its event would come twice")
	}
}

// Every crash test needs --appendfsync always, see redistest.
func TestNothingIsLostWhenRedisCrashes(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, unordered)
	for n := range 10 {
		appendTo(t, s, n, target)
	}
	leases := take(t, q, 4, 0)
	if _, err := q.Later(t.Context(), leases[0], 2, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Done(t.Context(), leases[1]); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	key, e := newEvent(99)
	if got, err := s.Append(t.Context(), key, e, []string{target}, limits); err == nil {
		t.Fatalf("Append without Redis = %v, nil", got)
	}
	r.Run()
	seen := map[string]bool{}
	for deadline := time.Now().Add(10 * time.Second); len(seen) < 9 && time.Now().Before(deadline); {
		leases, _, err := q.Take(t.Context(), 100, anyBytes, lease)
		if err != nil {
			continue // the client is still finding its way back
		}
		for _, l := range leases {
			seen[l.ID] = true
		}
	}
	if len(seen) != 9 || seen[leases[1].ID] {
		t.Errorf("%d events came back, want the 9 that were not delivered", len(seen))
	}
}

func TestTidyRemovesOnlyWhoHoldsNothing(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	idle, holding, me := connect(t, r, "idle"), connect(t, r, "holding"), connect(t, r, "me")
	appendTo(t, me, 1, target)
	appendTo(t, me, 2, target)
	first := idle.Queue(target, delivery.General, unordered)
	if _, err := first.Done(t.Context(), take(t, first, 1, 0)[0]); err != nil {
		t.Fatal(err)
	}
	take(t, holding.Queue(target, delivery.General, unordered), 1, 0)
	q := me.Queue(target, delivery.General, unordered)
	consumers := func() string {
		return r.MustDo("XINFO", "CONSUMERS", "hmw:{staging/support}:q:crm:general", "receivers")
	}
	if err := q.Tidy(t.Context(), time.Hour); err != nil || !strings.Contains(consumers(), "name\nidle") {
		t.Errorf("a consumer that was there just now is gone, %v:\n%s", err, consumers())
	}
	for deadline := time.Now().Add(5 * time.Second); strings.Contains(consumers(), "name\nidle"); {
		if err := q.Tidy(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the idle consumer is still there:\n%s", consumers())
		}
	}
	if names := consumers(); !strings.Contains(names, "name\nholding") {
		t.Errorf("the consumer that holds an event is gone:\n%s", names)
	}
}

func TestConcurrentDuplicatesAreStoredOnce(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	stores := []*stream.Store{connect(t, r, "a"), connect(t, r, "b")}
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored := map[event.Key]int{}
	for worker := range 8 {
		wg.Go(func() {
			for n := range 200 {
				key, e := newEvent(n)
				got, err := stores[worker%2].Append(context.WithoutCancel(t.Context()), key, e, []string{target}, limits)
				if err != nil {
					t.Error(err)
					return
				}
				if got.Judgement == event.New {
					mu.Lock()
					stored[key.Key]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for key, times := range stored {
		if times != 1 {
			t.Errorf("%s was stored %d times", key.ID(), times)
		}
	}
	wantBacklog(t, stores[0], backlog{Pending: 200})
}

func TestConnectNamesTheHostAndNeverThePassword(t *testing.T) {
	t.Parallel()
	s := stream.New("staging", "support", "a")
	for _, url := range []string{"redis://user:hunter2@127.0.0.1:1/0", "redis://user:hunter2@127.0.0.1:port", "http://user:hunter2@host"} {
		err := s.Connect(t.Context(), url, nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Connect = %v; want an error without the password", err)
		}
	}
	if _, err := s.Append(t.Context(), event.Identity{Rule: event.Any}, event.Event{}, nil, limits); !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("Append before Connect = %v; want ErrUnavailable", err)
	}
}

// A long attempt keeps its event while it extends the lease. After an expired lease it cannot.
func TestALeaseIsExtendedByItsHolderAlone(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	slow, other := connect(t, r, "slow"), connect(t, r, "other")
	appendTo(t, slow, 1, target)
	q, rival := slow.Queue(target, delivery.General, unordered), other.Queue(target, delivery.General, unordered)
	held := take(t, q, 1, 0)[0]
	const long = time.Second // enough for a slow machine to extend in time
	for end := time.Now().Add(2 * long); time.Now().Before(end); time.Sleep(long / 50) {
		if ok, err := q.Extend(t.Context(), held); err != nil || !ok {
			t.Fatalf("Extend = %v, %v", ok, err)
		}
		if got := take(t, rival, 1, long); len(got) != 0 {
			t.Fatalf("attempt %d was lent while attempt 1 goes on", got[0].Attempt)
		}
	}
	taken := takeEventually(t, rival, lease)
	if taken.Attempt != 2 {
		t.Errorf("taken over as attempt %d, want 2: an extension is no attempt", taken.Attempt)
	}
	if ok, err := q.Extend(t.Context(), held); err != nil || ok {
		t.Errorf("Extend by the former holder = %v, %v; want false", ok, err)
	}
	again := takeEventually(t, rival, lease) // the same consumer loses it to its own next attempt
	if ok, err := rival.Extend(t.Context(), taken); err != nil || ok || again.Attempt != 3 {
		t.Errorf("Extend of attempt 2 = %v, %v while attempt %d goes on; want false while 3 does", ok, err, again.Attempt)
	}
	done(t, rival, again)
	if ok, err := rival.Extend(t.Context(), again); err != nil || ok {
		t.Errorf("Extend of what is settled = %v, %v; want false", ok, err)
	}
}

func TestTakeIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t, "--appendonly", "no"), "a")
	q := s.Queue(target, delivery.General, unordered)
	const size = 100_000
	for n := range 9 {
		key, e := newEvent(n)
		e.Body = []byte(strings.Repeat("x", size))
		if _, err := s.Append(t.Context(), key, e, []string{target}, limits); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		bytes int64
		want  int
		later int // how many become due again at once
	}{{1, 1, 1}, {2 * size, 2, 1}, {2*size + 1, 3, 3}} {
		leases, next, err := q.Take(t.Context(), 100, tc.bytes, 0)
		if err != nil || len(leases) != tc.want || next != 0 {
			t.Fatalf("%d bytes: took %d, next in %s, %v; want %d and more at once", tc.bytes, len(leases), next, err, tc.want)
		}
		for _, l := range leases[:tc.later] {
			if ok, err := q.Later(t.Context(), l, 2, -time.Minute); err != nil || !ok {
				t.Fatal(ok, err)
			}
		}
	}
	// Retries, what dead consumers held, and new ones: the bound is on all of them.
	seen := map[string]bool{}
	for deadline := time.Now().Add(10 * time.Second); len(seen) < 9 && time.Now().Before(deadline); {
		// Longer than the script may take: it would lend again what it has just lent.
		leases, _, err := q.Take(t.Context(), 100, 2*size, 500*time.Millisecond)
		if err != nil || len(leases) > 2 {
			t.Fatalf("took %d, %v; want two at most", len(leases), err)
		}
		for _, l := range leases {
			seen[l.ID] = true
			done(t, q, l)
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d of 9 events came", len(seen))
	}
}
