package stream_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

const (
	accountKey = "hmw:{staging/support}:account:" + target
	queueKey   = "hmw:{staging/support}:q:" + target + ":general"
)

// account reads the account of a target, less the times in it, and holds that it adds up.
func account(t *testing.T, s *stream.Store, target string) stream.Account {
	t.Helper()
	all, err := s.Accounts(t.Context(), []string{target})
	if err != nil {
		t.Fatal(err)
	}
	wantSums(t, all[0])
	all[0].Bytes = 0 // held in TestAFaultAtEveryCommand
	all[0].Oldest, all[0].OldestDeadLetter, all[0].NextRetry = nil, 0, nil
	return all[0]
}

// Accounts contain, for each target and lane, how long events and dead letters have been waiting, and when the next retry
// is due.
func TestTheOldestOfEachLaneIsKnown(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	read := func() stream.Account {
		t.Helper()
		all, err := s.Accounts(t.Context(), []string{target})
		if err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	if a := read(); a.Oldest != nil || a.OldestDeadLetter != 0 || a.NextRetry != nil {
		t.Errorf("before the first event: %+v", a)
	}
	bury(t, s, 1)
	appendTo(t, s, 1, target)
	if age, there := read().Oldest[delivery.General]; !there || age > time.Hour {
		t.Errorf("the event that has just come is %s old", age)
	}
	// Entries of the year 1970, which are older than everything else in their queues.
	for _, key := range []string{"hmw:{staging/support}:q:" + target + ":consent", "hmw:{staging/support}:dead:" + target} {
		r.MustDo("DEL", key)
		r.MustDo("XADD", key, "1000-0", "id", "evt_old")
		r.MustDo("XADD", key, "*", "id", "evt_new")
	}
	decades := func(age time.Duration) bool { return (time.Since(time.Unix(1, 0)) - age).Abs() < time.Hour }
	a := read()
	if !decades(a.Oldest[delivery.Consent]) || a.Oldest[delivery.General] > time.Hour || !decades(a.OldestDeadLetter) || a.NextRetry != nil {
		t.Errorf("with old entries: %+v", a)
	}
	later := func(delay time.Duration) {
		t.Helper()
		for _, l := range take(t, s.Queue(target, delivery.General, unordered), 1, 0) {
			if ok, err := s.Queue(target, delivery.General, unordered).Later(t.Context(), l, 2, delay); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
	}
	later(time.Hour)
	if a := read(); a.NextRetry == nil || *a.NextRetry > time.Hour || *a.NextRetry < time.Minute || a.Oldest[delivery.General] == 0 {
		t.Errorf("with a retry in an hour: %+v", a)
	}
	appendTo(t, s, 2, target)
	later(0)
	if a := read(); a.NextRetry == nil || *a.NextRetry != 0 {
		t.Errorf("with one that is overdue besides: %+v", a)
	}
}

func wantSums(t *testing.T, a stream.Account) {
	t.Helper()
	if n := a.Unaccounted(); n != 0 {
		t.Errorf("%d events are unaccounted for: %+v", n, a)
	}
	if a.Dead != a.Replayed+a.Discarded+a.DeadLetters {
		t.Errorf("the dead letters do not add up: %+v", a)
	}
}

func TestEveryWayOfAnEventIsAccountedFor(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	if got := account(t, s, target); !reflect.DeepEqual(got, stream.Account{}) {
		t.Errorf("before the first event: %+v", got)
	}
	q := s.Queue(target, delivery.General, unordered)
	bury(t, s, 4)
	for n := 10; n < 13; n++ {
		appendTo(t, s, n, target, "audit")
	}
	all := letters(t, s, "", 10)
	if _, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 2, nil); err != nil {
		t.Fatal(err)
	}
	for _, l := range all[1:3] { // one of them is gone already
		if _, err := s.DiscardDeadLetters(t.Context(), target, delivery.DeadLetterFilter{Entry: l.Entry}, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	leases := take(t, q, 10, 0)
	for range 2 { // the second time changes nothing
		for _, l := range leases[:2] {
			if _, err := q.Done(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ok, err := q.Later(t.Context(), leases[2], 2, time.Hour); err != nil || !ok {
		t.Fatal(ok, err)
	}
	key, e := newEvent(12)
	if got, err := s.Append(t.Context(), key, e, []string{target}, limits); err != nil || got.Judgement != event.Repeat {
		t.Fatal(got, err)
	}
	want := stream.Account{Stored: 7, Replayed: 2, Delivered: 2, Dead: 4, Discarded: 1, Pending: 3, DeadLetters: 1}
	if diff := cmp.Diff(want, account(t, s, target)); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(stream.Account{Stored: 3, Pending: 3}, account(t, s, "audit")); diff != "" {
		t.Errorf("account of audit (-want +got):\n%s", diff)
	}
}

// The purpose of the account: detecting that something other than a receiver removes an event.
func TestALossShowsInTheAccount(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	for n := range 3 {
		appendTo(t, s, n, target)
	}
	r.MustDo("XTRIM", queueKey, "MAXLEN", "1")
	all, err := s.Accounts(t.Context(), []string{target})
	if err != nil || all[0].Unaccounted() != 2 {
		t.Errorf("account: %+v, %v; want 2 events unaccounted for", all, err)
	}
}

// An account needs no opening. It is complete from its first count on, because receivers of the previous release, which may
// serve the same queues during an upgrade or a rollback, read every field of an account that exists.
func TestAnAccountBeginsWithItsFirstCount(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	take(t, s.Queue(target, delivery.General, unordered), 1, 0)
	if got := r.MustDo("EXISTS", accountKey); got != "0" {
		t.Errorf("there is an account before the first event: %s", r.MustDo("HGETALL", accountKey))
	}
	appendTo(t, s, 1, target)
	fields := strings.Fields(r.MustDo("HKEYS", accountKey))
	slices.Sort(fields)
	if diff := cmp.Diff([]string{"dead", "delivered", "discarded", "dropped", "replayed", "stored"}, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

// Several receivers store, deliver, fail, give up, replay, discard and crash, Redis crashes, and a reader at any
// moment finds that the account adds up. In the end it agrees with the callers' results.
func TestTheAccountAddsUpAtEveryMoment(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute) // it ends as soon as enough has happened
	defer stop()
	var (
		wg       sync.WaitGroup
		next     atomic.Int64
		stored   atomic.Int64 // confirmed to a caller
		readings atomic.Int64
		restarts atomic.Int64
	)
	enough := func(a stream.Account) bool {
		return readings.Load() >= 50 && restarts.Load() >= 6 && a.Delivered > 0 && a.Dead > 0 && a.Replayed > 0 && a.Discarded > 0
	}
	chance := func(n int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) }
	for i := range 2 {
		s := connect(t, r, fmt.Sprint("feeder-", i))
		wg.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1))
				key, e := newEvent(n)
				if n%5 == 0 {
					e.Type = event.TargetOptOut
				}
				// Like a sender: again until someone confirms.
				for ctx.Err() == nil {
					if _, err := s.Append(ctx, key, e, []string{target}, limits); err == nil {
						stored.Add(1)
						break
					}
				}
			}
		})
	}
	for i := range 3 {
		s := connect(t, r, fmt.Sprint("worker-", i))
		wg.Go(func() {
			dice := chance(i)
			for ctx.Err() == nil {
				q := s.Queue(target, delivery.Lanes()[dice.IntN(2)], unordered)
				leases, _, err := q.Take(ctx, 1+dice.IntN(5), anyBytes, lease)
				if err != nil {
					continue // Redis is away
				}
				for _, l := range leases {
					switch dice.IntN(10) {
					case 0: // a crash
					case 1:
						_, _ = q.Later(ctx, l, l.Attempt+1, 0)
					case 2, 3:
						_, _ = q.Dead(ctx, l, delivery.Outcome{Status: 400}, "no")
					default:
						_, _ = q.Done(ctx, l)
					}
				}
			}
		})
	}
	keeper := connect(t, r, "keeper")
	wg.Go(func() {
		dice := chance(10)
		for ctx.Err() == nil {
			limit := 1 + dice.IntN(5)
			if dice.IntN(2) == 0 {
				_, _ = keeper.ReplayDeadLetters(ctx, target, delivery.DeadLetterFilter{}, limit, nil)
			} else {
				_, _ = keeper.DiscardDeadLetters(ctx, target, delivery.DeadLetterFilter{}, limit, nil)
			}
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			all, err := keeper.Accounts(ctx, []string{target})
			if err != nil {
				continue
			}
			wantSums(t, all[0])
			if readings.Add(1); enough(all[0]) {
				stop()
			}
		}
	})
	for dice := chance(11); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(200+dice.IntN(600)) * time.Millisecond):
			r.Kill()
			r.Run()
			restarts.Add(1)
		}
	}
	wg.Wait()
	var last []stream.Account
	for deadline := time.Now().Add(time.Minute); ; {
		var err error
		if last, err = keeper.Accounts(t.Context(), []string{target}); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	a := last[0]
	wantSums(t, a)
	t.Logf("%d readings; %+v", readings.Load(), a)
	// An event whose confirmation was lost may be stored nevertheless.
	if a.Stored < stored.Load() || a.Stored > next.Load() {
		t.Errorf("%d events are stored; %d were confirmed, %d tried", a.Stored, stored.Load(), next.Load())
	}
	if !enough(a) {
		t.Errorf("too little happened in %d readings and %d restarts: %+v", readings.Load(), restarts.Load(), a)
	}
}
