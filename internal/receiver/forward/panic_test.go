package forward

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

// An event that makes the receiver panic becomes a dead letter, and the others are delivered.
func TestAPanicCostsOneEventAlone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		change   func(*Options)
		attempts int // at the event that is dead in the end
	}{
		{"of the sender", func(o *Options) {
			o.Sender = &sender{answer: func(_ context.Context, e event.Event, _ int) delivery.Outcome {
				if e.ID == "evt_1" {
					panic("canary-of-the-text")
				}
				return delivery.Outcome{Status: 200}
			}}
		}, 4},
		{"of the check", func(o *Options) {
			o.Check = func(_ context.Context, e event.Event) error {
				if e.ID == "evt_1" {
					panic("canary-of-the-text")
				}
				return nil
			}
		}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, s, a := &fakeQueue{}, &sender{answer: always(200)}, &account{}
				var log bytes.Buffer
				q.add(3)
				_, stop := run(t, q, options(s, tc.change, func(o *Options) {
					o.Observer, o.MaxInFlight, o.Log = a, 1, slog.New(slog.NewTextHandler(&log, nil))
				}))
				time.Sleep(time.Minute)
				stop()
				if attempted, done, dead := a.read(); attempted != 2+tc.attempts || done != 2 || dead != 1 {
					t.Errorf("%d attempts, %d delivered, %d dead; want %d, 2, 1", attempted, done, dead, 2+tc.attempts)
				}
				if said := log.String(); !strings.Contains(said, "panic_test.go:") || strings.Contains(said, "canary") {
					t.Errorf("the log does not name the place, or too much: %s", said)
				}
			})
		})
	}
}
