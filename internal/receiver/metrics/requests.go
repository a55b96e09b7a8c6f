package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"heymarket.dev/operator/internal/receiver/ingest"
)

// requests counts requests by outcome. The total is counted at the same time, so that every scrape is consistent: two
// separate counters would differ whenever a request is answered between their collections.
type requests struct {
	total, received *prometheus.Desc

	mu   sync.Mutex
	n    uint64
	each map[outcome]uint64
}

type outcome struct {
	result ingest.Result
	reason ingest.Reason
}

func newRequests() *requests {
	name := func(s string) string { return prometheus.BuildFQName(namespace, "", s) }
	// Initialized to zero, so that a rule sees the first one of each as an increase.
	each := map[outcome]uint64{{result: ingest.Stored}: 0, {result: ingest.Duplicate}: 0, {result: ingest.Ignored}: 0}
	for _, reason := range ingest.Reasons() {
		each[outcome{ingest.Refused, reason}] = 0
	}
	return &requests{
		received: prometheus.NewDesc(name("requests_received_total"),
			"Requests to the events port, health checks excluded. Equals the sum of requests_total over all results, at every scrape.", nil, nil),
		total: prometheus.NewDesc(name("requests_total"),
			"Requests by result (stored, duplicate, ignored, refused) and reason of a refusal.", []string{"result", "reason"}, nil),
		each: each,
	}
}

func (r *requests) count(result ingest.Result, reason ingest.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	r.each[outcome{result, reason}]++
}

// Describe implements prometheus.Collector.
func (r *requests) Describe(ch chan<- *prometheus.Desc) {
	ch <- r.received
	ch <- r.total
}

// Collect implements prometheus.Collector.
func (r *requests) Collect(ch chan<- prometheus.Metric) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(r.received, prometheus.CounterValue, float64(r.n))
	for o, n := range r.each {
		ch <- prometheus.MustNewConstMetric(r.total, prometheus.CounterValue, float64(n), string(o.result), string(o.reason))
	}
}
