package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/retry"
)

// fakeQueue is a queue in memory. An entry stays until it is settled; one that is held for a whole lease is lent again.
type fakeQueue struct {
	mu      sync.Mutex
	entries []*entry
	takes   []take
	settled []settlement
	tidied  []time.Time
	// fail is asked before each operation, named as the method; an error fails it.
	fail func(op string) error
	// during is called while a Take is in flight, outside of the lock.
	during func(ctx context.Context)
	// lost reports that the lease is lost when an event is settled.
	lost bool
	// ordered is a number of conversations among which the events are dealt out: of each only the first one left is lent.
	ordered int
}

type entry struct {
	lease   delivery.Lease
	due     time.Time
	held    time.Time // zero: not lent
	settled bool
}

type take struct {
	at    time.Time
	limit int
	lease time.Duration
}

type settlement struct {
	Op, Event string
	Attempt   int
	Delay     time.Duration
	Status    int
	Reason    string
}

func (q *fakeQueue) add(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range n {
		id := fmt.Sprintf("evt_%d", len(q.entries))
		q.entries = append(q.entries, &entry{due: time.Now(), lease: delivery.Lease{
			Attempt: 1, Entry: id,
			Event: event.Event{ID: id, Type: event.ChatClosed, AcceptedAt: time.Now(), Body: []byte(`{"text":"canary-of-the-text"}`)},
		}})
	}
}

func (q *fakeQueue) Take(ctx context.Context, limit int, bytes int64, lease time.Duration) ([]delivery.Lease, time.Duration, error) {
	if q.during != nil {
		q.during(ctx)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.takes = append(q.takes, take{now, limit, lease})
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if err := q.failure("Take"); err != nil {
		return nil, 0, err
	}
	var leases []delivery.Lease
	nextDue := time.Duration(-1)
	heads := map[int]bool{}
	for i, e := range q.entries {
		if q.ordered > 0 && !e.settled {
			if heads[i%q.ordered] {
				continue
			}
			heads[i%q.ordered] = true
			e.lease.Conversation = fmt.Sprint(i % q.ordered)
		}
		switch {
		case e.settled:
		case !e.held.IsZero():
			if lease > 0 && now.Sub(e.held) >= lease && len(leases) < limit && bytes > 0 {
				e.held = now
				e.lease.Attempt++
				leases = append(leases, e.lease)
				bytes -= int64(len(e.lease.Body))
			}
		case e.due.After(now):
			if wait := e.due.Sub(now); nextDue < 0 || wait < nextDue {
				nextDue = wait
			}
		case len(leases) < limit && bytes > 0:
			e.held = now
			leases = append(leases, e.lease)
			bytes -= int64(len(e.lease.Body))
		case bytes <= 0:
			nextDue = 0 // as take.lua: it reports only events beyond the limit
		}
	}
	return leases, nextDue, nil
}

func (q *fakeQueue) failure(op string) error {
	if q.fail == nil {
		return nil
	}
	return q.fail(op)
}

func (q *fakeQueue) settle(ctx context.Context, l delivery.Lease, s settlement, change func(*entry)) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := q.failure(s.Op); err != nil {
		return false, err
	}
	s.Event = l.ID
	q.settled = append(q.settled, s)
	i := slices.IndexFunc(q.entries, func(e *entry) bool { return e.lease.Entry == l.Entry })
	if q.lost || q.entries[i].settled {
		return false, nil
	}
	change(q.entries[i])
	return true, nil
}

func (q *fakeQueue) Done(ctx context.Context, l delivery.Lease) (bool, error) {
	return q.settle(ctx, l, settlement{Op: "Done"}, func(e *entry) { e.settled = true })
}

func (q *fakeQueue) Later(ctx context.Context, l delivery.Lease, attempt int, delay time.Duration) (bool, error) {
	return q.settle(ctx, l, settlement{Op: "Later", Attempt: attempt, Delay: delay}, func(e *entry) {
		e.held, e.due, e.lease.Attempt = time.Time{}, time.Now().Add(delay), attempt
	})
}

func (q *fakeQueue) Dead(ctx context.Context, l delivery.Lease, o delivery.Outcome, reason string) (bool, error) {
	return q.settle(ctx, l, settlement{Op: "Dead", Status: o.Status, Reason: reason}, func(e *entry) { e.settled = true })
}

func (q *fakeQueue) Extend(_ context.Context, l delivery.Lease) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.failure("Extend"); err != nil {
		return false, err
	}
	i := slices.IndexFunc(q.entries, func(e *entry) bool { return e.lease.Entry == l.Entry })
	e := q.entries[i]
	if q.lost || e.settled || e.held.IsZero() || e.lease.Attempt != l.Attempt {
		return false, nil
	}
	e.held = time.Now()
	return true, nil
}

func (q *fakeQueue) Tidy(_ context.Context, silent time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if silent != consumerSilence {
		return fmt.Errorf("tidied after %s", silent)
	}
	q.tidied = append(q.tidied, time.Now())
	return q.failure("Tidy")
}

// settlements returns how events were settled so far.
func (q *fakeQueue) settlements() []settlement {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.settled)
}

func (q *fakeQueue) count(op string) (n int) {
	for _, s := range q.settlements() {
		if s.Op == op {
			n++
		}
	}
	return n
}

// attempt is one call of a sender.
type attempt struct {
	event  string
	number int
	at     time.Time
}

// sender calls answer for each attempt, and keeps count.
type sender struct {
	answer func(ctx context.Context, e event.Event, attempt int) delivery.Outcome

	mu           sync.Mutex
	attempts     []attempt
	now, highest int
}

func (s *sender) Send(ctx context.Context, e event.Event, n int) delivery.Outcome {
	s.mu.Lock()
	s.attempts = append(s.attempts, attempt{e.ID, n, time.Now()})
	s.now++
	s.highest = max(s.highest, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	return s.answer(ctx, e, n)
}

func (s *sender) made() []attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.attempts)
}

func always(status int) func(context.Context, event.Event, int) delivery.Outcome {
	return func(context.Context, event.Event, int) delivery.Outcome { return delivery.Outcome{Status: status} }
}

// slow answers 200 after d, or is cut short.
func slow(d time.Duration) func(context.Context, event.Event, int) delivery.Outcome {
	return func(ctx context.Context, _ event.Event, _ int) delivery.Outcome {
		select {
		case <-time.After(d):
			return delivery.Outcome{Status: 200}
		case <-ctx.Done():
			return delivery.Outcome{Err: ctx.Err()}
		}
	}
}

// account is an Observer that counts.
type account struct {
	mu        sync.Mutex
	attempted int
	settled   map[retry.Verdict]int
	ages      []time.Duration
	finished  []Attempt
}

func (a *account) Attempted(string, delivery.Outcome, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.attempted++
}

func (a *account) Settled(_ string, v retry.Verdict, age time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settled == nil {
		a.settled = map[retry.Verdict]int{}
	}
	a.settled[v]++
	a.ages = append(a.ages, age)
}

func (a *account) Finished(x Attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finished = append(a.finished, x)
}

func (a *account) read() (attempted, done, dead int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.attempted, a.settled[retry.Done], a.settled[retry.GiveUp]
}

// options are those of a worker whose circuit never opens.
func options(s Sender, change ...func(*Options)) Options {
	o := Options{
		Target: "crm", Lane: delivery.General, Timeout: 10 * time.Second, MaxInFlight: 4, MaxBytes: 1 << 30,
		Policy: retry.Policy{MaxAttempts: 4, MinBackoff: time.Second, MaxBackoff: 8 * time.Second, MaxAge: time.Hour},
		Gate:   NewGate(0, retry.Policy{}, nil), Sender: s, Observer: &account{}, Log: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

// run starts a worker and returns what ends it. A goroutine that outlives the test fails it: that is synctest's doing.
func run(t *testing.T, q Queue, o Options) (w *Worker, stop func()) {
	t.Helper()
	taking, stopTaking := context.WithCancel(context.Background())
	sending, stopSending := context.WithCancel(context.Background())
	w = NewWorker(q, o)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(taking, sending)
	}()
	return w, func() {
		stopTaking()
		<-ended
		stopSending()
	}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s, a := &fakeQueue{}, &sender{answer: slow(3 * time.Second)}, &account{}
		q.add(3)
		time.Sleep(2 * time.Second) // they have waited
		_, stop := run(t, q, options(s, func(o *Options) { o.Observer = a }))
		time.Sleep(4 * time.Second)
		synctest.Wait()
		want := []settlement{{Op: "Done", Event: "evt_0"}, {Op: "Done", Event: "evt_1"}, {Op: "Done", Event: "evt_2"}}
		got := q.settlements()
		slices.SortFunc(got, func(a, b settlement) int { return strings.Compare(a.Event, b.Event) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("settled (-want +got):\n%s", diff)
		}
		for _, made := range s.made() {
			if made.number != 1 {
				t.Errorf("%s began as attempt %d", made.event, made.number)
			}
		}
		attempted, done, dead := a.read()
		if attempted != 3 || done != 3 || dead != 0 || !slices.Equal(a.ages, []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second}) {
			t.Errorf("observed %d attempts, %d done, %d dead, ages %v", attempted, done, dead, a.ages)
		}
		stop()
	})
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		outcomes []delivery.Outcome
		want     []string // operations
		dead     settlement
	}{
		{"at the second attempt", []delivery.Outcome{{Status: 503}, {Status: 200}}, []string{"Later", "Done"}, settlement{}},
		{"at the last attempt", []delivery.Outcome{{Status: 500}, {Err: errors.New("refused")}, {Status: 429}, {Status: 200}}, []string{"Later", "Later", "Later", "Done"}, settlement{}},
		{
			"never",
			[]delivery.Outcome{{Status: 500}, {Status: 500}, {Status: 500}, {Status: 502}, {Status: 200}},
			[]string{"Later", "Later", "Later", "Dead"},
			settlement{Op: "Dead", Event: "evt_0", Status: 502, Reason: "4 attempts failed, the last with 502"},
		},
		{"refused for good", []delivery.Outcome{{Status: 422}}, []string{"Dead"}, settlement{Op: "Dead", Event: "evt_0", Status: 422, Reason: "the target refused it with 422"}},
		{"as late as it asks", []delivery.Outcome{{Status: 503, RetryAfter: 40 * time.Minute}, {Status: 200}}, []string{"Later", "Done"}, settlement{}},
		{
			"later than may be",
			[]delivery.Outcome{{Status: 503, RetryAfter: 2 * time.Hour}, {Status: 503}},
			[]string{"Later", "Dead"},
			settlement{Op: "Dead", Event: "evt_0", Status: 503, Reason: "no attempt left within 1h0m0s, the last failed with 503"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, a := &fakeQueue{}, &account{}
				s := &sender{answer: func(_ context.Context, _ event.Event, n int) delivery.Outcome { return tc.outcomes[n-1] }}
				q.add(1)
				_, stop := run(t, q, options(s, func(o *Options) { o.Observer = a }))
				time.Sleep(time.Hour + time.Second)
				stop()
				settled, made := q.settlements(), s.made()
				if len(settled) != len(tc.want) || len(made) != len(tc.want) {
					t.Fatalf("settled %+v after %+v, want %q", settled, made, tc.want)
				}
				for i, got := range settled {
					if got.Op != tc.want[i] || made[i].number != i+1 {
						t.Errorf("attempt %d: %+v, want %s", made[i].number, got, tc.want[i])
					}
					if got.Op != "Later" {
						continue
					}
					if got.Attempt != i+2 || got.Delay < max(time.Second<<i/2, min(tc.outcomes[i].RetryAfter, time.Hour)) {
						t.Errorf("attempt %d: %+v", i+1, got)
					}
					if waited := made[i+1].at.Sub(made[i].at); waited != got.Delay {
						t.Errorf("attempt %d came %s after the one before, wanted %s", i+2, waited, got.Delay)
					}
				}
				last := settled[len(settled)-1]
				if tc.dead != (settlement{}) && tc.dead != last {
					t.Errorf("dead %+v, want %+v", last, tc.dead)
				}
				attempted, done, dead := a.read()
				if attempted != len(tc.want) || done+dead != 1 || (dead == 1) != (last.Op == "Dead") {
					t.Errorf("observed %d attempts, %d done, %d dead", attempted, done, dead)
				}
			})
		})
	}
}

// TestShortBackoff checks that a retry that is due before the next poll does not wait for it.
func TestShortBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := &fakeQueue{}, &sender{answer: always(503)}
		q.add(1)
		_, stop := run(t, q, options(s, func(o *Options) {
			o.Policy = retry.Policy{MaxAttempts: 5, MinBackoff: 10 * time.Millisecond, MaxBackoff: 20 * time.Millisecond, MaxAge: time.Hour}
		}))
		time.Sleep(100 * time.Millisecond)
		stop()
		if made := s.made(); len(made) != 5 || q.count("Dead") != 1 {
			t.Errorf("%d attempts in 100 ms, want five with 20 ms between two at most", len(made))
		}
	})
}

func TestSettlingIsTriedAgain(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{
		0: 0, 1: 400 * time.Millisecond, 4: 6 * time.Second, // 0.4 + 0.8 + 1.6 + 3.2
	} {
		for status, op := range map[int]string{200: "Done", 503: "Later", 400: "Dead"} {
			synctest.Test(t, func(t *testing.T) {
				left := failures
				q, a, s := &fakeQueue{}, &account{}, &sender{answer: always(status)}
				q.fail = func(asked string) error {
					if asked == op && left > 0 {
						left--
						return errors.New("Redis is away")
					}
					return nil
				}
				q.add(1)
				begin := time.Now()
				_, stop := run(t, q, options(s, func(o *Options) { o.Observer = a; o.Policy.MinBackoff = time.Minute; o.Policy.MaxBackoff = time.Minute }))
				for q.count(op) == 0 {
					time.Sleep(100 * time.Millisecond)
				}
				if took := time.Since(begin); took < want || took > want+100*time.Millisecond {
					t.Errorf("%d failures of %s: settled after %s, want %s", failures, op, took, want)
				}
				stop()
				_, done, dead := a.read()
				if attempts := len(s.made()); attempts != 1 || (done == 1) != (op == "Done") || (dead == 1) != (op == "Dead") {
					t.Errorf("%s: %d attempts, %d done, %d dead", op, attempts, done, dead)
				}
			})
		}
	}
}

// TestSettlingFails checks that an event that cannot be settled is not counted, and is delivered again when its lease expires.
func TestSettlingFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		left := 5 // after 0.4, 1.2, 2.8 and 6 s; the next try would come after the settleTimeout
		q, a, s := &fakeQueue{}, &account{}, &sender{answer: always(200)}
		q.fail = func(op string) error {
			if op == "Done" && left > 0 {
				left--
				return errors.New("Redis is away")
			}
			return nil
		}
		q.add(1)
		_, stop := run(t, q, options(s, func(o *Options) { o.Observer = a; o.Log = slog.New(slog.NewTextHandler(&log, nil)) }))
		time.Sleep(settleTimeout + time.Second)
		synctest.Wait()
		if attempted, done, dead := a.read(); attempted != 1 || done != 0 || dead != 0 {
			t.Errorf("observed %d attempts, %d done, %d dead", attempted, done, dead)
		}
		time.Sleep(time.Minute)
		stop()
		if attempted, done, _ := a.read(); attempted != 2 || done != 1 {
			t.Errorf("after the lease: %d attempts, %d done", attempted, done)
		}
		if got := s.made(); len(got) != 2 || got[1].number != 2 || got[1].at.Sub(got[0].at) < 25*time.Second {
			t.Errorf("attempts %+v, want the second after a lease", got)
		}
		if !strings.Contains(log.String(), "delivered again with the same ID") {
			t.Errorf("the log says %s", log.String())
		}
	})
}

func TestLeaseThatIsLost(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 400, 500} {
		synctest.Test(t, func(t *testing.T) {
			q, a, s := &fakeQueue{lost: true}, &account{}, &sender{answer: always(status)}
			q.add(1)
			_, stop := run(t, q, options(s, func(o *Options) { o.Observer = a }))
			time.Sleep(time.Second)
			stop()
			if attempted, done, dead := a.read(); attempted != 1 || done != 0 || dead != 0 {
				t.Errorf("%d: observed %d attempts, %d done, %d dead; somebody else counts this event", status, attempted, done, dead)
			}
		})
	}
}

func TestQueueThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := &fakeQueue{}, &sender{answer: always(200)}
		away := true
		q.fail = func(op string) error {
			if away && op == "Take" {
				return errors.New("Redis is away")
			}
			return nil
		}
		q.add(1)
		w, stop := run(t, q, options(s))
		for range 50 { // a wake-up must not shorten a pause
			w.Wake()
			time.Sleep(100 * time.Millisecond)
		}
		q.mu.Lock()
		if n := len(q.takes); n < 4 || n > 6 {
			t.Errorf("%d calls in five seconds of failure, want one a second", n)
		}
		away = false
		q.mu.Unlock()
		time.Sleep(errorInterval)
		synctest.Wait()
		if q.count("Done") != 1 {
			t.Error("not delivered when the queue is back")
		}
		stop()
	})
}

func TestWake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := &fakeQueue{}, &sender{answer: always(200)}
		o := options(s)
		idle := NewWorker(q, o)
		for range 3 {
			idle.Wake() // does not block, though nothing runs
		}
		w, stop := run(t, q, o)
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		for i := 1; i <= 100; i++ {
			begin := time.Now()
			q.add(1)
			w.Wake()
			synctest.Wait()
			if q.count("Done") != i || time.Since(begin) != 0 {
				t.Fatalf("event %d: %d delivered after %s", i, q.count("Done"), time.Since(begin))
			}
			time.Sleep(time.Duration(i) * time.Millisecond)
		}
		q.add(1) // by another receiver: this one is not woken
		time.Sleep(pollInterval)
		synctest.Wait()
		if q.count("Done") != 101 {
			t.Error("what another receiver stored is not found within a poll")
		}
		stop()
	})
}

// hasty is a queue whose first answer reports a retry that is due at once.
type hasty struct {
	*fakeQueue
	asked bool
}

func (q *hasty) Take(ctx context.Context, limit int, bytes int64, lease time.Duration) ([]delivery.Lease, time.Duration, error) {
	if !q.asked {
		q.asked = true
		return nil, 0, nil
	}
	return q.fakeQueue.Take(ctx, limit, bytes, lease)
}

func TestARetryThatIsDueAtOnceWaitsForNoPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		q.add(1)
		_, stop := run(t, &hasty{fakeQueue: q}, options(&sender{answer: always(200)}))
		time.Sleep(pollInterval / 2)
		if q.count("Done") != 1 {
			t.Error("the retry waits for the next poll")
		}
		stop()
	})
}

// TestIdle bounds the calls of an idle worker to its queue.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		_, stop := run(t, q, options(&sender{answer: always(200)}, func(o *Options) { o.Timeout = 9 * time.Second })) // a fourth of a lease is whole polls
		time.Sleep(time.Hour)
		stop()
		if n := len(q.takes); n < 3590 || n > 3610 {
			t.Errorf("%d calls of Take in an idle hour, want one a second", n)
		}
		if n := len(q.tidied); n < 6 || n > 7 {
			t.Errorf("tidied %d times in an hour, want one in ten minutes", n)
		}
		if first, second := q.tidied[0], q.tidied[1]; second.Sub(first) != tidyInterval {
			t.Errorf("tidied again after %s, want %s", second.Sub(first), tidyInterval)
		}
		const lease = 24 * time.Second // the timeout and a margin
		var last time.Time
		for i, k := range q.takes {
			if k.limit != 4 {
				t.Fatalf("take %d asks for %d events, four slots are free", i, k.limit)
			}
			switch {
			case k.lease == 0:
			case k.lease != lease:
				t.Fatalf("a lease of %s, want %s", k.lease, lease)
			case !last.IsZero() && k.at.Sub(last) != lease/4:
				t.Fatalf("looked for dead consumers after %s, want %s", k.at.Sub(last), lease/4)
			default:
				last = k.at
			}
		}
		if q.takes[0].lease != lease {
			t.Error("the first take does not look for what dead consumers hold")
		}
	})
}

func TestTidyThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{fail: func(op string) error {
			if op == "Tidy" {
				return errors.New("Redis is busy")
			}
			return nil
		}}
		var log bytes.Buffer
		_, stop := run(t, q, options(&sender{answer: always(200)}, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) }))
		q.add(1)
		time.Sleep(11 * time.Minute)
		stop()
		if said := strings.Count(log.String(), "Redis is busy"); q.count("Done") != 1 || len(q.tidied) != 2 || said != 2 {
			t.Errorf("%d delivered, tidied %d times, and logged %d times that it failed", q.count("Done"), len(q.tidied), said)
		}
	})
}

func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := &fakeQueue{}, &sender{answer: slow(time.Second)}
		q.add(40)
		begin := time.Now()
		w, stop := run(t, q, options(s))
		for q.count("Done") < 40 {
			w.Wake()
			time.Sleep(10 * time.Millisecond)
		}
		if s.highest != 4 {
			t.Errorf("%d attempts at once, want 4", s.highest)
		}
		if took := time.Since(begin); took > 10*time.Second+100*time.Millisecond {
			t.Errorf("40 events of a second by four took %s", took)
		}
		for _, k := range q.takes {
			if k.limit < 1 || k.limit > 4 {
				t.Errorf("asked for %d events", k.limit)
			}
		}
		stop()
	})
}

// A worker keeps as many goroutines as it has had attempts at once, and each of them makes attempts again.
func TestGoroutinesAreUsedAgain(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			q, s := &fakeQueue{}, &sender{answer: slow(time.Millisecond)}
			w, stop := run(t, q, options(s))
			for range 10 {
				q.add(most)
				w.Wake()
				time.Sleep(10 * time.Millisecond)
			}
			synctest.Wait()
			if idle := w.idle.Load(); q.count("Done") != 10*most || idle != int64(most) {
				t.Errorf("%d delivered, %d at once: %d goroutines wait for another attempt", q.count("Done"), most, idle)
			}
			stop()
		})
	}
}

// An attempt that a shutdown cuts short gives back its admission: it was no probe, and does not count against the rate.
func TestCutShortIsNoProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, g := &fakeQueue{}, NewGate(1, retry.Policy{}, nil)
		q.add(1)
		g.Report(delivery.Outcome{Status: 410}, time.Now().Add(-goneProbe))
		o := options(&sender{answer: slow(time.Hour)}, func(o *Options) { o.Gate = g })
		p := NewPool(reachable())
		p.Apply(map[Route]Plan{{"crm", delivery.General}: {"a", func() *Worker { return NewWorker(q, o) }}})
		time.Sleep(time.Millisecond)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		p.Stop(ended)
		if n, wait := g.Admit(1, time.Now()); n != 1 {
			t.Errorf("%d admitted afterwards, ask again after %s", n, wait)
		}
	})
}

// TestShutdown ends taking while attempts are in flight: they finish and are settled, and nothing new begins.
func TestShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := &fakeQueue{}, &sender{answer: slow(3 * time.Second)}
		q.add(10)
		_, stop := run(t, q, options(s))
		time.Sleep(time.Second)
		begin := time.Now()
		stop()
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("ended after %s, the attempts under way take two more seconds", took)
		}
		if len(s.made()) != 4 || q.count("Done") != 4 || len(q.settlements()) != 4 {
			t.Errorf("%d attempts, settled %+v", len(s.made()), q.settlements())
		}
	})
}

func TestShutdownWhileIdleIsAtOnce(t *testing.T) {
	t.Parallel()
	for _, fails := range []error{nil, errors.New("Redis is away")} {
		synctest.Test(t, func(t *testing.T) {
			q := &fakeQueue{fail: func(string) error { return fails }}
			_, stop := run(t, q, options(&sender{answer: always(200)}))
			time.Sleep(100 * time.Millisecond)
			begin := time.Now()
			stop()
			if took := time.Since(begin); took != 0 {
				t.Errorf("ended after %s", took)
			}
		})
	}
}

// TestShutdownWhileTaking checks that events leased by then are delivered, and do not wait for the lease to expire.
func TestShutdownWhileTaking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := &fakeQueue{}, &sender{answer: always(200)}
		q.add(2)
		q.during = func(ctx context.Context) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		_, stop := run(t, q, options(s))
		time.Sleep(500 * time.Millisecond)
		stop()
		if q.count("Done") != 2 || len(q.takes) != 1 {
			t.Errorf("%d delivered by %d takes", q.count("Done"), len(q.takes))
		}
	})
}

// TestCutShort ends sending while attempts are in flight: their events return to the queue unchanged.
func TestCutShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q, a, s := &fakeQueue{}, &account{}, &sender{answer: slow(time.Hour)}
		s.answer = func(ctx context.Context, e event.Event, n int) delivery.Outcome {
			if e.ID == "evt_2" { // this one's answer comes in the last moment
				<-ctx.Done()
				return delivery.Outcome{Status: 200}
			}
			return slow(time.Hour)(ctx, e, n)
		}
		q.add(3)
		q.entries[1].lease.Attempt = 3
		left := 1
		q.fail = func(op string) error {
			if op == "Later" && left > 0 {
				left--
				return errors.New("Redis is busy")
			}
			return nil
		}
		o := options(s, func(o *Options) { o.Observer = a; o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		p := NewPool(reachable())
		p.Apply(map[Route]Plan{{"crm", delivery.General}: {"a", func() *Worker { return NewWorker(q, o) }}})
		time.Sleep(time.Second)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		p.Stop(ctx)
		if o.Gate.run != 0 {
			t.Errorf("%d attempts that were cut short count as failures of the target", o.Gate.run)
		}
		if took := time.Since(begin); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("stopped after %s", took)
		}
		want := []settlement{
			{Op: "Later", Event: "evt_0", Attempt: 1}, {Op: "Later", Event: "evt_1", Attempt: 3}, {Op: "Done", Event: "evt_2"},
		}
		got := q.settlements()
		slices.SortFunc(got, func(a, b settlement) int { return strings.Compare(a.Event, b.Event) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("settled (-want +got):\n%s", diff)
		}
		if attempted, done, dead := a.read(); attempted != 1 || done != 1 || dead != 0 {
			t.Errorf("observed %d attempts, %d done, %d dead", attempted, done, dead)
		}
		if strings.Contains(log.String(), "attempt=0") || strings.Contains(log.String(), "attempt=2") {
			t.Errorf("the log counts attempts otherwise than the target sees them:\n%s", log.String())
		}
	})
}

// A failing queue is logged with its target and lane, but not while the store itself is known to fail.
func TestAQueueThatFailsIsLoggedUnlessTheStoreIs(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			away := errors.New("Redis is away")
			q := &fakeQueue{fail: func(string) error { return away }}
			_, stop := run(t, q, options(&sender{answer: always(200)}, func(o *Options) {
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				o.StoreFails = func(err error) bool { return known && errors.Is(err, away) }
			}))
			time.Sleep(pollInterval / 2)
			stop()
			if says := strings.Contains(log.String(), `level=WARN msg="cannot take events from the queue, retrying" target=crm lane=general error="Redis is away"`); says == known {
				t.Errorf("the store is known to fail: %t; the log says %q", known, log.String())
			}
		})
	}
}

// A busy worker takes for several free slots at once, not for each slot that becomes free.
func TestABacklogIsTakenInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const events = 640
		var begun atomic.Int64
		q, s := &fakeQueue{}, &sender{answer: func(ctx context.Context, e event.Event, n int) delivery.Outcome {
			return slow(3*time.Millisecond+time.Duration(begun.Add(1)%32)*10*time.Microsecond)(ctx, e, n)
		}}
		q.add(events)
		_, stop := run(t, q, options(s, func(o *Options) { o.MaxInFlight = 32 }))
		time.Sleep(pollInterval / 2)
		stop()
		if done, takes := q.count("Done"), len(q.takes); done != events || takes > events/4 {
			t.Errorf("%d of %d events were delivered by %d takes", done, events, takes)
		}
	})
}

func TestLogHoldsNoBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := &fakeQueue{}
		s := &sender{answer: func(_ context.Context, e event.Event, n int) delivery.Outcome {
			return []delivery.Outcome{{Err: errors.New("connection refused")}, {Status: 500, Excerpt: "canary-of-the-answer"}, {Status: 400, Excerpt: string(e.Body)}}[n-1]
		}}
		q.add(1)
		_, stop := run(t, q, options(s, func(o *Options) {
			o.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}))
		time.Sleep(time.Minute)
		stop()
		for _, want := range []string{
			`"event":"evt_0"`, `"target":"crm"`, `"type":"chat_closed"`, `"attempt":1`, `"attempt":3`, `"status":500`, "connection refused", "refused it with 400",
			`"level":"WARN","msg":"attempt failed, retrying later"`, `"level":"ERROR","msg":"given up"`, `"again_in_ms":`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log holds no %s:\n%s", want, log.String())
			}
		}
		if strings.Contains(log.String(), "canary") {
			t.Errorf("the log repeats a body:\n%s", log.String())
		}
		if lines, again := strings.Count(log.String(), "\n"), strings.Count(log.String(), `"again_in_ms":`); lines != 3 || again != 2 {
			t.Errorf("%d lines for three attempts, %d of them of one that is repeated", lines, again)
		}
	})
}

// TestNothingIsLost makes all calls fail at random: in the end every event is settled once, and the observer has been notified of each.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			rng := rand.New(rand.NewPCG(seed, 3))
			chance := func(n int) bool {
				mu.Lock()
				defer mu.Unlock()
				return rng.IntN(n) == 0
			}
			q, a := &fakeQueue{}, &account{}
			failing := true // until the storm is over
			q.fail = func(string) error {
				if failing && chance(3) {
					return errors.New("Redis is away")
				}
				return nil
			}
			s := &sender{answer: func(ctx context.Context, e event.Event, n int) delivery.Outcome {
				switch {
				case chance(3):
					return delivery.Outcome{Status: 503}
				case chance(5):
					return delivery.Outcome{Status: 400}
				case chance(4):
					return delivery.Outcome{Err: errors.New("connection reset")}
				}
				return slow(time.Duration(n)*time.Second)(ctx, e, n)
			}}
			o := options(s, func(o *Options) { o.Observer = a; o.Policy.MaxAttempts = 50; o.Policy.MaxAge = 100 * time.Hour })
			const events = 200
			// Receivers come and go; some of them are killed short.
			for i := range 5 {
				p := NewPool(reachable())
				p.Apply(map[Route]Plan{{"crm", delivery.General}: {"a", func() *Worker { return NewWorker(q, o) }}})
				q.add(events / 5)
				p.Wake([]string{"crm"}, delivery.General)
				time.Sleep(20 * time.Second)
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Second)
				p.Stop(ctx)
				cancel()
			}
			q.mu.Lock()
			failing = false
			q.mu.Unlock()
			_, stop := run(t, q, o)
			time.Sleep(time.Hour)
			stop()
			for _, e := range q.entries {
				if !e.settled {
					t.Errorf("seed %d: %s is not settled", seed, e.lease.ID)
				}
			}
			if _, done, dead := a.read(); done+dead != events || done != q.count("Done") || dead != q.count("Dead") {
				t.Errorf("seed %d: %d events: %d done, %d dead; the queue has %d and %d", seed, events, done, dead, q.count("Done"), q.count("Dead"))
			}
		})
	}
}

// reachable are queues that can be reached from the start.
func reachable() <-chan struct{} {
	ready := make(chan struct{})
	close(ready)
	return ready
}

// TestPoolWaitsForItsQueues checks that workers take nothing before their queues are reachable, start at that moment, and that a
// pool whose queues are never reached stops at once.
func TestPoolWaitsForItsQueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ready, q := make(chan struct{}), &fakeQueue{}
		q.add(1)
		p := NewPool(ready)
		p.Apply(map[Route]Plan{{"crm", delivery.General}: {"a", func() *Worker { return NewWorker(q, options(&sender{answer: always(200)})) }}})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(q.takes) != 0 {
			t.Errorf("%d calls before the queue can be reached", len(q.takes))
		}
		close(ready)
		synctest.Wait()
		if q.count("Done") != 1 {
			t.Error("the queue can be reached, and what waits in it is not delivered at once")
		}
		p.Stop(context.Background())

		never := NewPool(make(chan struct{}))
		never.Apply(map[Route]Plan{{"crm", delivery.General}: {"a", func() *Worker { return NewWorker(q, options(&sender{answer: always(200)})) }}})
		begin := time.Now()
		never.Stop(context.Background())
		if took := time.Since(begin); took != 0 {
			t.Errorf("stopped after %s", took)
		}
	})
}

func TestPoolKeepsTargetsApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(reachable())
		stuck, dead, fast := &fakeQueue{}, &fakeQueue{}, &fakeQueue{}
		stuckSender := &sender{answer: slow(9 * time.Second)}
		plan := func(target string, q *fakeQueue, s *sender) Plan {
			return Plan{"a", func() *Worker {
				return NewWorker(q, options(s, func(o *Options) { o.Target = target; o.Gate = NewGate(0, retry.Policy{}, nil) }))
			}}
		}
		failing := &sender{answer: always(503)}
		p.Apply(map[Route]Plan{
			{"stuck", delivery.General}: plan("stuck", stuck, stuckSender),
			{"dead", delivery.General}:  plan("dead", dead, failing),
			{"fast", delivery.General}:  plan("fast", fast, &sender{answer: slow(time.Millisecond)}),
		})
		stuck.add(1000)
		dead.add(1000)
		for i := 1; i <= 100; i++ {
			fast.add(1)
			p.Wake([]string{"stuck", "dead", "fast", "unknown"}, delivery.General)
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if got := fast.count("Done"); got != i {
				t.Fatalf("%d of %d delivered beside targets that are not well", got, i)
			}
		}
		if stuckSender.highest != 4 {
			t.Errorf("the stuck target has %d attempts at once", stuckSender.highest)
		}
		p.Stop(context.Background())
	})
}

func TestPoolApply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(reachable())
		queues := map[string]*fakeQueue{"a": {}, "b": {}}
		made := map[string]int{}
		senders := map[string]*sender{}
		plan := func(target, fingerprint string) Plan {
			return Plan{fingerprint, func() *Worker {
				made[target+fingerprint]++
				s := &sender{answer: slow(2 * time.Second)}
				senders[target+fingerprint] = s
				return NewWorker(queues[target], options(s, func(o *Options) { o.Target = target }))
			}}
		}
		a, b := Route{"a", delivery.General}, Route{"b", delivery.General}
		feed := func(target string) {
			queues[target].add(1)
			p.Wake([]string{target}, delivery.General)
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}

		p.Apply(map[Route]Plan{a: plan("a", "1")})
		p.Apply(map[Route]Plan{a: plan("a", "1")}) // the same: nothing happens
		feed("a")
		feed("b") // without a worker
		if diff := cmp.Diff(map[string]int{"a1": 1}, made); diff != "" {
			t.Errorf("workers (-want +got):\n%s", diff)
		}
		p.Apply(map[Route]Plan{a: plan("a", "1"), b: plan("b", "1")}) // one is added, and finds what waits
		synctest.Wait()
		if len(senders["b1"].made()) != 1 {
			t.Error("an added worker does not take what waits")
		}
		p.Apply(map[Route]Plan{a: plan("a", "2"), b: plan("b", "1")}) // one is replaced
		feed("a")
		if len(senders["a1"].made()) != 1 || len(senders["a2"].made()) != 1 {
			t.Errorf("after a replacement: %d attempts by the old worker, %d by the new", len(senders["a1"].made()), len(senders["a2"].made()))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := queues["a"].count("Done"); n != 2 {
			t.Errorf("%d settled: the replaced worker finishes what it has", n)
		}
		p.Apply(map[Route]Plan{a: plan("a", "2")}) // one is removed
		feed("b")
		time.Sleep(2 * pollInterval)
		synctest.Wait()
		if len(senders["b1"].made()) != 1 {
			t.Error("a removed worker goes on taking")
		}
		p.Apply(map[Route]Plan{a: plan("a", "2"), b: plan("b", "1")}) // and comes back, for what stayed in its queue
		synctest.Wait()
		if len(senders["b1"].made()) != 1 || made["b1"] != 2 {
			t.Errorf("a target that came back: %d workers", made["b1"])
		}
		p.Stop(context.Background())
		p.Apply(map[Route]Plan{b: plan("b", "3")})
		p.Wake([]string{"a", "b"}, delivery.General)
		if made["b3"] != 0 {
			t.Error("a stopped pool starts a worker")
		}
		if n := queues["b"].count("Done"); n != 2 {
			t.Errorf("b has %d settled, want 2", n)
		}
	})
}

func TestPoolLanes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(reachable())
		general, consent := &fakeQueue{}, &fakeQueue{}
		gate := NewGate(0, retry.Policy{}, nil)
		plan := func(q *fakeQueue, lane delivery.Lane) Plan {
			return Plan{"a", func() *Worker {
				return NewWorker(q, options(&sender{answer: slow(5 * time.Second)}, func(o *Options) { o.Lane = lane; o.Gate = gate }))
			}}
		}
		p.Apply(map[Route]Plan{
			{"crm", delivery.General}: plan(general, delivery.General), {"crm", delivery.Consent}: plan(consent, delivery.Consent),
		})
		general.add(1000) // a broadcast
		p.Wake([]string{"crm"}, delivery.General)
		time.Sleep(500 * time.Millisecond)
		consent.add(1)
		begin := time.Now()
		p.Wake([]string{"crm"}, delivery.Consent)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if consent.count("Done") != 1 {
			t.Errorf("an opt-out waits behind a broadcast for more than %s", time.Since(begin))
		}
		p.Stop(context.Background())
	})
}

// TestPoolConcurrently is for the race detector: everything at once, and a stop in the middle.
func TestPoolConcurrently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, q := NewPool(reachable()), &fakeQueue{}
		s := &sender{answer: slow(10 * time.Millisecond)}
		var crowd sync.WaitGroup
		for i := range 8 {
			crowd.Go(func() {
				for n := range 50 {
					fingerprint := fmt.Sprint(n % (i + 2))
					p.Apply(map[Route]Plan{
						{"crm", delivery.General}: {fingerprint, func() *Worker { return NewWorker(q, options(s)) }},
					})
					q.add(1)
					p.Wake([]string{"crm"}, delivery.General)
					time.Sleep(time.Millisecond)
				}
			})
		}
		time.Sleep(25 * time.Millisecond)
		p.Stop(context.Background())
		settled := len(q.settlements())
		crowd.Wait()
		time.Sleep(time.Minute)
		if after := len(q.settlements()); after != settled {
			t.Errorf("%d events were settled after Stop", after-settled)
		}
	})
}
