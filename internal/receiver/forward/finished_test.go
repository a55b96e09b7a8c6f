package forward

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/retry"
)

// An observer is notified of each attempt's decision, and whether it was recorded.
func TestFinished(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		queue  *fakeQueue
		change func(*Options)
		status int
		verdict
	}{
		"delivered":     {status: 204, verdict: verdict{number: 1, status: 204, then: retry.Done, settled: true}},
		"again":         {status: 503, verdict: verdict{number: 1, status: 503, then: retry.Again, settled: true}},
		"given up":      {status: 422, verdict: verdict{number: 1, status: 422, then: retry.GiveUp, reason: "the target refused it with 422", settled: true}},
		"somebody else": {queue: &fakeQueue{lost: true}, status: 200, verdict: verdict{number: 1, status: 200, then: retry.Done}},
		"not confirmed": {queue: &fakeQueue{fail: func(op string) error {
			if op == "Done" {
				return errors.New("Redis is away")
			}
			return nil
		}}, status: 200, verdict: verdict{number: 1, status: 200, then: retry.Done, failed: true}},
		"not sent": {
			change: func(o *Options) {
				o.Check = func(context.Context, event.Event) error { return errors.New("filter failed") }
			},
			verdict: verdict{then: retry.GiveUp, reason: "filter failed", settled: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, a := tc.queue, &account{}
				if q == nil {
					q = &fakeQueue{}
				}
				q.add(1)
				_, stop := run(t, q, options(&sender{answer: always(tc.status)}, func(o *Options) {
					o.Observer = a
					o.Policy.MinBackoff, o.Policy.MaxBackoff = time.Hour, time.Hour
					if tc.change != nil {
						tc.change(o)
					}
				}))
				time.Sleep(settleTimeout + time.Second)
				stop()
				if len(a.finished) != 1 {
					t.Fatalf("%d attempts are reported, want one: %+v", len(a.finished), a.finished)
				}
				got := a.finished[0]
				if got.Target != "crm" || got.Event != "evt_0" || got.Interrupted {
					t.Errorf("reported as %+v", got)
				}
				if v := (verdict{got.Number, got.Outcome.Status, got.Decision.Verdict, got.Decision.Reason, got.Settled, got.SettleErr != nil}); v != tc.verdict {
					t.Errorf("%+v, want %+v", v, tc.verdict)
				}
			})
		})
	}
}

type verdict struct {
	number, status  int
	then            retry.Verdict
	reason          string
	settled, failed bool
}

func TestFinishedWhenCutShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, a := &fakeQueue{}, &account{}
		q.add(1)
		o := options(&sender{answer: slow(time.Hour)}, func(o *Options) { o.Observer = a })
		p := NewPool(reachable())
		p.Apply(map[Route]Plan{{"crm", delivery.General}: {"a", func() *Worker { return NewWorker(q, o) }}})
		time.Sleep(time.Second)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		p.Stop(ended)
		if len(a.finished) != 1 || !a.finished[0].Interrupted || a.finished[0].Number != 1 || !a.finished[0].Settled {
			t.Errorf("reported as %+v, want one interrupted attempt", a.finished)
		}
	})
}
