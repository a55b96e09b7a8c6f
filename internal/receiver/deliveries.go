package receiver

import (
	"sync"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/metrics"
	"heymarket.dev/operator/internal/receiver/recent"
	"heymarket.dev/operator/internal/receiver/retry"
)

// requests is an ingest.Observer that counts requests and remembers the latest.
type requests struct {
	metrics *metrics.Metrics
	recent  *recent.Ring
}

// Answered implements ingest.Observer.
func (r requests) Answered(report ingest.Report) {
	r.metrics.Answered(report)
	r.recent.Answered(report)
}

// deliveries is a forward.Observer that notes when each target last took an event and why it does not, counts attempts, and remembers
// the latest.
type deliveries struct {
	metrics *metrics.Metrics
	recent  *recent.Ring
	errors  targetErrors
	minutes sync.Map // target → *atomic.Int64, minutes since the epoch
}

// Attempted implements forward.Observer.
func (d *deliveries) Attempted(target string, o delivery.Outcome, took time.Duration) {
	d.errors.note(target, o, time.Now())
	d.metrics.Attempted(target, o, took)
}

// Settled implements forward.Observer.
func (d *deliveries) Settled(target string, v retry.Verdict, age time.Duration) {
	if v == retry.Done {
		d.note(target, time.Now())
	}
	d.metrics.Settled(target, v, age)
}

// Finished implements forward.Observer.
func (d *deliveries) Finished(a forward.Attempt) { d.recent.Finished(a) }

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
