package forward

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/retry"
)

func TestAnEventThatFailsTheCheckIsBuriedWithoutAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s, a := &fakeQueue{}, &sender{answer: always(200)}, &account{}
		q.add(2)
		_, stop := run(t, q, options(s, func(o *Options) {
			o.Observer = a
			o.Check = func(_ context.Context, e event.Event) error {
				if e.ID == "evt_0" {
					return errors.New("filter failed: 1:1: no")
				}
				return nil
			}
		}))
		time.Sleep(time.Second)
		synctest.Wait()
		var buried settlement
		for _, x := range q.settlements() {
			if x.Op == "Dead" {
				buried = x
			}
		}
		if diff := cmp.Diff(settlement{Op: "Dead", Event: "evt_0", Reason: "filter failed: 1:1: no"}, buried); diff != "" {
			t.Error(diff)
		}
		attempted, done, dead := a.read()
		if attempted != 1 || done != 1 || dead != 1 || len(s.made()) != 1 || s.made()[0].event != "evt_1" {
			t.Errorf("%d attempts of %v, %d done, %d dead; want one of evt_1, one done and one dead", attempted, s.made(), done, dead)
		}
		stop()
	})
}

// The probe of an open circuit may find an event that fails the check. It is returned, so that the next event is a probe.
func TestAnEventThatFailsTheCheckIsNoProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s, gate := &fakeQueue{}, &sender{answer: always(200)}, NewGate(0, retry.Policy{}, nil)
		failing, good := 3, 2
		q.add(failing)
		breakCircuit(t, gate, delivery.Outcome{Status: 500}, time.Now().Add(-time.Hour))
		_, stop := run(t, q, options(s, func(o *Options) {
			o.Gate = gate
			o.Check = func(_ context.Context, e event.Event) error {
				if e.ID < fmt.Sprintf("evt_%d", failing) {
					return errors.New("no")
				}
				return nil
			}
		}))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if q.count("Dead") != failing || gate.Circuit() != contract.CircuitOpen || len(s.made()) != 0 {
			t.Errorf("%d dead, circuit %s, %d attempts; want %d, contract.CircuitOpen and none", q.count("Dead"), gate.Circuit(), len(s.made()), failing)
		}
		q.add(good)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if q.count("Done") != good || gate.Circuit() != contract.CircuitClosed {
			t.Errorf("%d of %d delivered, circuit %s; the next event is no probe", q.count("Done"), good, gate.Circuit())
		}
		stop()
	})
}

// If an event's age is unknown, only the attempts count.
func TestNoEventIsGivenUpForItsAgeWhileClocksDiffer(t *testing.T) {
	t.Parallel()
	for _, differ := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			q := &fakeQueue{}
			q.add(1)
			q.entries[0].lease.AcceptedAt = time.Now().Add(-1000 * time.Hour)
			_, stop := run(t, q, options(&sender{answer: always(503)}, func(o *Options) {
				o.ClocksDiffer = func() bool { return differ }
			}))
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if dead := q.count("Dead") == 1; dead == differ {
				t.Errorf("clocks differ: %t, given up: %t", differ, dead)
			}
			stop()
		})
	}
}

// A replayed dead letter has its full time again.
func TestAReplayedEventIsAsOldAsItsReplay(t *testing.T) {
	t.Parallel()
	for status, op := range map[int]string{200: "Done", 503: "Later"} {
		synctest.Test(t, func(t *testing.T) {
			q, a := &fakeQueue{}, &account{}
			q.add(1)
			q.entries[0].lease.AcceptedAt = time.Now().Add(-1000 * time.Hour)
			q.entries[0].lease.ReplayedAt = time.Now().Add(-time.Minute)
			_, stop := run(t, q, options(&sender{answer: always(status)}, func(o *Options) { o.Observer = a }))
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if got := q.settlements(); len(got) != 1 || got[0].Op != op || op == "Done" && !slices.Equal(a.ages, []time.Duration{time.Minute}) {
				t.Errorf("after %d: %+v, settled at the age of %v", status, got, a.ages)
			}
			stop()
		})
	}
}
