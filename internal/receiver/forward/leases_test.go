package forward

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

// starved answers after d, regardless of its context: like a worker without CPU time.
func starved(d time.Duration) func(context.Context, event.Event, int) delivery.Outcome {
	return func(context.Context, event.Event, int) delivery.Outcome {
		time.Sleep(d)
		return delivery.Outcome{Status: 200}
	}
}

// Two receivers serve one target, and attempts take three times as long as a lease. Without extension the events are sent
// twice; with it they are not.
func TestAnAttemptThatOutlastsItsLeaseIsMadeOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		fail     error
		attempts int
	}{
		{"extended", nil, 2},
		{"not extended", errors.New("no extension"), 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, s := &fakeQueue{}, &sender{answer: starved(3 * (10*time.Second + leaseMargin))}
				q.fail = func(op string) error {
					if op == "Extend" {
						return tc.fail
					}
					return nil
				}
				q.add(2)
				var log bytes.Buffer
				_, stopFirst := run(t, q, options(s, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) }))
				time.Sleep(time.Second)
				_, stopSecond := run(t, q, options(s, func(o *Options) { o.MaxInFlight = 2 }))
				time.Sleep(80 * time.Second)
				stopFirst()
				stopSecond()
				if said := strings.Contains(log.String(), "no extension"); said != (tc.fail != nil) {
					t.Errorf("the log says %q", log.String())
				}
				if got := len(s.made()); got < tc.attempts || tc.fail == nil && got != tc.attempts {
					t.Errorf("%d attempts, want %d", got, tc.attempts)
				}
				for _, e := range q.entries {
					if !e.settled {
						t.Errorf("%s is not settled", e.lease.Entry)
					}
				}
			})
		})
	}
}

// A lease is kept even if two of its extensions fail.
func TestAnExtensionIsTriedThreeTimesInALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lease = 10*time.Second + leaseMargin
		q, s, failures := &fakeQueue{}, &sender{answer: starved(4 * lease)}, 0
		q.fail = func(op string) error {
			switch {
			case op == "Extend" && failures < 2:
				failures++
				return errors.New("Redis is away")
			case op == "Extend":
				failures = 0
			}
			return nil
		}
		q.add(1)
		_, stopFirst := run(t, q, options(s))
		time.Sleep(time.Second)
		_, stopSecond := run(t, q, options(s))
		time.Sleep(5 * lease)
		stopFirst()
		stopSecond()
		if got := len(s.made()); got != 1 {
			t.Errorf("%d attempts, want one", got)
		}
	})
}

func TestOnlyLongAttemptsAreExtended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s, extended := &fakeQueue{}, &sender{answer: slow(5 * time.Second)}, new(atomic.Int64)
		q.fail = func(op string) error {
			if op == "Extend" {
				extended.Add(1)
			}
			return nil
		}
		q.add(40)
		_, stop := run(t, q, options(s))
		time.Sleep(time.Minute)
		stop()
		if n := extended.Load(); n != 0 {
			t.Errorf("%d extensions, want none", n)
		}
	})
}

// An extended lease has the full time before it is extended again.
func TestALongAttemptIsExtendedOnceInAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lease = 10*time.Second + leaseMargin
		q, s, extended := &fakeQueue{}, &sender{answer: starved(6 * lease)}, new(atomic.Int64)
		q.fail = func(op string) error {
			if op == "Extend" {
				extended.Add(1)
			}
			return nil
		}
		q.add(1)
		_, stop := run(t, q, options(s))
		time.Sleep(7 * lease)
		stop()
		if n := extended.Load(); n < 6 || n > int64(6*lease/extendAfter(lease)) {
			t.Errorf("%d extensions in six leases, want between one and three for each", n)
		}
	})
}

// A lost lease is not extended again and again, and the attempt ends normally.
func TestALeaseThatHasPassedOnIsLetGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q, s, extended := &fakeQueue{lost: true}, &sender{answer: starved(100 * time.Second)}, new(atomic.Int64)
		q.fail = func(op string) error {
			if op == "Extend" {
				extended.Add(1)
			}
			return nil
		}
		q.add(1)
		_, stop := run(t, q, options(s, func(o *Options) { o.MaxInFlight, o.Log = 1, slog.New(slog.NewTextHandler(&log, nil)) }))
		time.Sleep(90 * time.Second)
		if n := extended.Load(); n != 1 || len(s.made()) != 1 {
			t.Errorf("%d extensions were tried in %d attempts; want 1 in 1", n, len(s.made()))
		}
		stop()
		if n := strings.Count(log.String(), `level=WARN msg="an attempt has outlived its lease; another receiver may deliver the event too" target=crm event=evt_0`); n != 1 {
			t.Errorf("%d lines warn of a second delivery:\n%s", n, log.String())
		}
	})
}

// A shutdown waits for the attempts in flight, and extends their leases meanwhile: another receiver must not repeat them.
func TestLeasesAreExtendedDuringShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := &fakeQueue{}, &sender{answer: starved(3 * (10*time.Second + leaseMargin))}
		q.add(2)
		_, stopFirst := run(t, q, options(s))
		time.Sleep(time.Second)
		_, stopSecond := run(t, q, options(s))
		stopFirst() // returns when both attempts are settled, three leases later
		if got := len(s.made()); got != 2 || q.count("Done") != 2 {
			t.Errorf("%d attempts, %d settled; want two of each", got, q.count("Done"))
		}
		stopSecond()
	})
}

// The end of one attempt's lease does not affect that of a later attempt at the same event.
func TestALeaseOfALaterAttemptIsItsOwn(t *testing.T) {
	t.Parallel()
	h, first, second := newHeld(), delivery.Lease{Entry: "1-0", Attempt: 1}, delivery.Lease{Entry: "1-0", Attempt: 2}
	h.add(first)
	h.add(second)
	h.renew(first)
	h.remove(first)
	if got := h.leases["1-0"].Attempt; got != 2 {
		t.Errorf("the lease of attempt %d is kept, want that of 2", got)
	}
	h.remove(second)
	h.renew(second)
	if len(h.leases) != 0 {
		t.Errorf("a lease that has ended is renewed: %+v", h.leases)
	}
}
