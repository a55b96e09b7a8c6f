package receiver

import (
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/metrics"
	"heymarket.dev/operator/internal/receiver/recent"
	"heymarket.dev/operator/internal/receiver/retry"
)

// requests is an ingest.Observer that counts requests and records the latest.
type requests struct {
	metrics *metrics.Metrics
	recent  *recent.Ring
}

// Answered implements ingest.Observer.
func (r requests) Answered(report ingest.Report) {
	r.metrics.Answered(report)
	r.recent.Answered(report)
}

// deliveries is a forward.Observer that records the health of targets, counts attempts, and records the latest.
type deliveries struct {
	metrics *metrics.Metrics
	recent  *recent.Ring
	health  delivery.Health
}

// Attempted implements forward.Observer.
func (d *deliveries) Attempted(target string, o delivery.Outcome, took time.Duration) {
	d.health.Attempted(target, o, time.Now())
	d.metrics.Attempted(target, o, took)
}

// Settled implements forward.Observer.
func (d *deliveries) Settled(target string, v retry.Verdict, age time.Duration) {
	if v == retry.Done {
		d.health.Delivered(target, time.Now())
	}
	d.metrics.Settled(target, v, age)
}

// Finished implements forward.Observer.
func (d *deliveries) Finished(a forward.Attempt) { d.recent.Finished(a) }
