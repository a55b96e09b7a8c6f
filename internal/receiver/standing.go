package receiver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"heymarket.dev/operator/internal/receiver/forward"
)

// standings are gauges of what a receiver holds to be true: whether Redis keeps what it confirms, and how each target is treated.
type standings struct {
	durable  func() (durable, known bool)
	circuits func() map[string]forward.Circuit
	skew     func() *time.Duration
	limit    func() int64

	durability, circuit, clock, room *prometheus.Desc
}

func newStandings(durable func() (durable, known bool), circuits func() map[string]forward.Circuit, skew func() *time.Duration, limit func() int64) *standings {
	name := func(n string) string { return prometheus.BuildFQName(namespace, "", n) }
	return &standings{
		durable: durable, circuits: circuits, skew: skew, limit: limit,
		durability: prometheus.NewDesc(name("durable"), "1 when Redis takes writes and promises to keep what it has confirmed, else 0. Absent until it has been asked.", nil, nil),
		circuit: prometheus.NewDesc(name("target_circuit"),
			"1 for the state (Closed, Open, Gone) of a target's circuit as this receiver sees it, 0 for the others.", []string{"target", "state"}, nil),
		clock: prometheus.NewDesc(name("redis_clock_skew_seconds"),
			"Seconds by which the clock of Redis is ahead of this receiver's; negative: behind. Absent until it has been read.", nil, nil),
		room: prometheus.NewDesc(name("dead_letter_limit"), "How many dead letters each target may have. At this number, events that a target rejects wait in its queue.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (s *standings) Describe(ch chan<- *prometheus.Desc) {
	ch <- s.durability
	ch <- s.circuit
	ch <- s.clock
	ch <- s.room
}

// Collect implements prometheus.Collector.
func (s *standings) Collect(ch chan<- prometheus.Metric) {
	if durable, known := s.durable(); known {
		ch <- prometheus.MustNewConstMetric(s.durability, prometheus.GaugeValue, one(durable))
	}
	ch <- prometheus.MustNewConstMetric(s.room, prometheus.GaugeValue, float64(s.limit()))
	if skew := s.skew(); skew != nil {
		ch <- prometheus.MustNewConstMetric(s.clock, prometheus.GaugeValue, skew.Seconds())
	}
	for target, is := range s.circuits() {
		for _, state := range []forward.Circuit{forward.Closed, forward.Open, forward.Gone} {
			ch <- prometheus.MustNewConstMetric(s.circuit, prometheus.GaugeValue, one(state == is), target, string(state))
		}
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// durability says whether Redis keeps what it confirms, once it has been asked.
func (r *Receiver) durability() (durable, known bool) {
	v := r.redis.verdict()
	return v.durable(), v.known
}

// circuits are the circuits of the targets in force.
func (r *Receiver) circuits() map[string]forward.Circuit {
	all := map[string]forward.Circuit{}
	for _, name := range r.targetNames() {
		all[name] = r.circuit(name)
	}
	return all
}

// circuit is that of a target; one that nothing was sent to yet is taken for well.
func (r *Receiver) circuit(target string) forward.Circuit {
	if g, ok := r.gates.Load(target); ok {
		return g.(*forward.Gate).Circuit()
	}
	return forward.Closed
}

// deadLetterLimit is the limit of dead letters in force.
func (r *Receiver) deadLetterLimit() int64 { return r.inForce.Load().config.Retention.DeadLetterLimit }
