package stream_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

var ordered = stream.QueueOptions{DeadLetterLimit: 1000, Ordered: true}

// say appends event number n of a conversation.
func say(t *testing.T, s *stream.Store, conversation string, n int) {
	t.Helper()
	var key event.Key
	copy(key[:], fmt.Sprintf("%s/%d", conversation, n))
	e := event.Event{
		ID: key.ID(), Type: event.MessageSent, AcceptedAt: time.Now(), Conversation: conversation, Body: fmt.Appendf(nil, "%s/%d", conversation, n),
	}
	if got, err := s.Append(t.Context(), plain(key), e, []string{target}, limits); err != nil || got.Judgement != event.New {
		t.Fatalf("Append(%s/%d) = %v, %v", conversation, n, got, err)
	}
}

func bodies(leases []delivery.Lease) []string {
	out := []string{}
	for _, l := range leases {
		out = append(out, string(l.Body))
	}
	return out
}

func wantTaken(t *testing.T, q *stream.Queue, want ...string) []delivery.Lease {
	t.Helper()
	leases := take(t, q, 100, 0)
	if diff := cmp.Diff(append([]string{}, want...), bodies(leases)); diff != "" {
		t.Fatalf("taken (-want +got):\n%s", diff)
	}
	return leases
}

func done(t *testing.T, q *stream.Queue, l delivery.Lease) {
	t.Helper()
	if ok, err := q.Done(t.Context(), l); err != nil || !ok {
		t.Fatalf("Done(%s) = %v, %v", l.Body, ok, err)
	}
}

func TestAConversationGoesOneAtATime(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, ordered)
	for n := range 3 {
		say(t, s, "7", n)
		say(t, s, "77", n) // a name that begins with another's
		say(t, s, "", n)   // no conversation: no order, no waiting
	}
	first := wantTaken(t, q, "7/0", "77/0", "/0", "/1", "/2")
	wantLent(t, r, 5) // a parked event has no lease that could end
	wantTaken(t, q)
	done(t, q, first[1])
	if parked := r.MustDo("ZCARD", "hmw:{staging/support}:p:crm:general"); parked != "3" {
		t.Errorf("%s events are parked, want 7/1, 7/2 and 77/2", parked)
	}
	second := wantTaken(t, q, "77/1")
	done(t, q, first[0])
	done(t, q, second[0])
	for _, l := range wantTaken(t, q, "7/1", "77/2") { // by acceptance, not by who came free first
		done(t, q, l)
	}
	done(t, q, wantTaken(t, q, "7/2")[0])
	say(t, s, "7", 3) // a quiet conversation continues
	done(t, q, wantTaken(t, q, "7/3")[0])
}

func TestARetryAndAPoisonedEventHoldUpOnlyTheirConversation(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	q := s.Queue(target, delivery.General, ordered)
	say(t, s, "1", 0)
	say(t, s, "1", 1)
	say(t, s, "2", 0)
	first := wantTaken(t, q, "1/0", "2/0")
	if ok, err := q.Later(t.Context(), first[0], 2, 0); err != nil || !ok {
		t.Fatalf("Later = %v, %v", ok, err)
	}
	done(t, q, first[1])
	again := takeEventually(t, q, 0)
	if string(again.Body) != "1/0" || again.Attempt != 2 {
		t.Fatalf("took %s, attempt %d; want 1/0, attempt 2, before 1/1", again.Body, again.Attempt)
	}
	if ok, err := q.Dead(t.Context(), again, delivery.Outcome{Status: 400}, "no"); err != nil || !ok {
		t.Fatalf("Dead = %v, %v", ok, err)
	}
	done(t, q, wantTaken(t, q, "1/1")[0])
	wantBacklog(t, s, backlog{DeadLetters: 1})
}

func TestOrderSurvivesACrashedConsumer(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	crashed, alive := connect(t, r, "crashed"), connect(t, r, "alive")
	say(t, crashed, "1", 0)
	say(t, crashed, "1", 1)
	wantTaken(t, crashed.Queue(target, delivery.General, ordered), "1/0")
	q := alive.Queue(target, delivery.General, ordered)
	l := takeEventually(t, q, lease)
	if string(l.Body) != "1/0" {
		t.Fatalf("took %s first", l.Body)
	}
	done(t, q, l)
	done(t, q, wantTaken(t, q, "1/1")[0])
}

func TestALongConversationBlocksNoOther(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	q := s.Queue(target, delivery.General, ordered)
	const long = 2500
	many := stream.Limits{Window: time.Hour, Backlog: 2 * long}
	for n := range long {
		key := event.Key{1, byte(n >> 8), byte(n)}
		e := event.Event{ID: key.ID(), Type: event.MessageSent, Conversation: "1", Body: fmt.Appendf(nil, "1/%d", n)}
		if _, err := s.Append(t.Context(), plain(key), e, []string{target}, many); err != nil {
			t.Fatal(err)
		}
	}
	key := event.Key{2}
	other := event.Event{ID: key.ID(), Type: event.MessageSent, Conversation: "2", Body: []byte("2/0")}
	if _, err := s.Append(t.Context(), plain(key), other, []string{target}, many); err != nil {
		t.Fatal(err)
	}
	var got []string
	for calls := 0; len(got) < 2 && calls < 10; calls++ {
		leases, next, err := q.Take(t.Context(), 10, anyBytes, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, bodies(leases)...); len(got) < 2 && next != 0 {
			t.Fatalf("there is more, but Take says: next in %v", next)
		}
	}
	if diff := cmp.Diff([]string{"1/0", "2/0"}, got); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
}

// Several consumers take, fail, crash and settle at random: each conversation still arrives in order, nothing is lost.
func TestOrderHoldsAcrossConsumersAndAccidents(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const conversations, each = 5, 40
	feeder := connect(t, r, "feeder")
	var (
		mu      sync.Mutex
		arrived = map[string][]int{}
		total   int
	)
	finished := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return total == conversations*each
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range each {
			for c := range conversations {
				say(t, feeder, fmt.Sprint(c), n)
			}
		}
	})
	for worker := range 3 {
		wg.Go(func() {
			chance := rand.New(rand.NewPCG(seed, uint64(worker)))
			s := connect(t, r, fmt.Sprintf("worker-%d", worker))
			q := s.Queue(target, delivery.General, ordered)
			for deadline := time.Now().Add(30 * time.Second); !finished() && time.Now().Before(deadline); {
				leases, _, err := q.Take(t.Context(), 1+chance.IntN(3), anyBytes, lease)
				if err != nil {
					t.Error(err)
					return
				}
				for _, l := range leases {
					var c, n int
					if _, err := fmt.Sscanf(string(l.Body), "%d/%d", &c, &n); err != nil {
						t.Error(err)
					}
					switch chance.IntN(6) {
					case 0: // a crash: never settled, taken over when the lease is over
					case 1:
						_, err = q.Later(t.Context(), l, l.Attempt+1, 0)
					default:
						mu.Lock()
						arrived[l.Conversation] = append(arrived[l.Conversation], n)
						mu.Unlock()
						var ok bool
						if ok, err = q.Done(t.Context(), l); ok {
							mu.Lock()
							total++
							mu.Unlock()
						}
					}
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if total != conversations*each {
		t.Fatalf("%d of %d events were settled", total, conversations*each)
	}
	for c, got := range arrived {
		next := 0
		for _, n := range got {
			if n == next {
				next++
			} else if n > next {
				t.Errorf("conversation %s: %d arrived before %d: %v", c, n, next, got)
				break
			} // an earlier one again is a duplicate, which a slow worker may cause
		}
		if next != each {
			t.Errorf("conversation %s: %d of %d arrived", c, next, each)
		}
	}
	wantBacklog(t, feeder, backlog{})
	if left := r.MustDo("EXISTS", "hmw:{staging/support}:r:crm:general", "hmw:{staging/support}:h:crm:general", "hmw:{staging/support}:p:crm:general"); left != "0" {
		t.Errorf("%s keys are left of retries, heads and parked events, want none", left)
	}
}
