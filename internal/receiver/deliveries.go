package receiver

import (
	"sync"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/retry"
)

// deliveries is an Observer that notes when each target last took an event and why it does not, and passes everything on to
// another Observer.
type deliveries struct {
	forward.Observer
	errors  targetErrors
	minutes sync.Map // target → *atomic.Int64, minutes since the epoch
}

// Attempted implements forward.Observer.
func (d *deliveries) Attempted(target string, o delivery.Outcome, took time.Duration) {
	d.errors.note(target, o, time.Now())
	d.Observer.Attempted(target, o, took)
}

// Settled implements forward.Observer.
func (d *deliveries) Settled(target string, v retry.Verdict, age time.Duration) {
	if v == retry.Done {
		d.note(target, time.Now())
	}
	d.Observer.Settled(target, v, age)
}

// note is called for every delivery, so it writes once a minute.
func (d *deliveries) note(target string, at time.Time) {
	last, known := d.minutes.Load(target)
	if !known {
		last, _ = d.minutes.LoadOrStore(target, new(atomic.Int64))
	}
	if minute := at.Unix() / 60; last.(*atomic.Int64).Load() < minute {
		last.(*atomic.Int64).Store(minute)
	}
}

// last is cut to the minute; zero: not since this process began.
func (d *deliveries) last(target string) time.Time {
	if minutes, known := d.minutes.Load(target); known {
		return time.Unix(minutes.(*atomic.Int64).Load()*60, 0).UTC()
	}
	return time.Time{}
}
