package receiver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/stream"
)

// standings are gauges of what a receiver holds to be true: whether Redis keeps what it confirms, how each target is treated,
// and what of its configuration rules compare with.
type standings struct {
	of      *Receiver
	pending func(target string) bool

	durability, circuit, failing, clock, room, bytes, retention, tokens *prometheus.Desc
}

func newStandings(r *Receiver, accounts func() (map[string]stream.Account, error)) *standings {
	name := func(n string) string { return prometheus.BuildFQName(namespace, "", n) }
	return &standings{
		of: r,
		pending: func(target string) bool {
			all, err := accounts()
			return err != nil || all[target].Pending > 0
		},
		failing: prometheus.NewDesc(name("target_failing"),
			"1 while this receiver's attempts to deliver to a target fail, by the class of the latest error; absent while none does.", []string{"target", "class"}, nil),
		retention: prometheus.NewDesc(name("dead_letter_retention_seconds"), "How long dead letters are kept.", nil, nil),
		bytes: prometheus.NewDesc(name("backlog_limit_bytes"),
			"How many bytes the pending events and dead letters of all targets may have together; beyond it new events are rejected. Absent without a limit.", nil, nil),
		tokens:     prometheus.NewDesc(name("tokens"), "How many tokens are accepted: 2 while a rotation is under way.", nil, nil),
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
	ch <- s.bytes
	ch <- s.failing
	ch <- s.retention
	ch <- s.tokens
}

// Collect implements prometheus.Collector.
func (s *standings) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	if v := s.of.redis.verdict(); v.known {
		gauge(s.durability, one(v.durable()))
	}
	f := s.of.inForce.Load()
	gauge(s.room, float64(f.config.Retention.DeadLetterLimit))
	if limit := s.of.quota.bytes(s.of.store.MaxMemory()); limit > 0 {
		gauge(s.bytes, float64(limit))
	}
	gauge(s.retention, f.config.Retention.DeadLetters.Std().Seconds())
	gauge(s.tokens, float64(len(f.tokens)))
	if skew := s.of.skew.Load(); skew != nil {
		gauge(s.clock, skew.Seconds())
	}
	for _, target := range s.of.targetNames() {
		is := s.of.circuit(target)
		for _, state := range []forward.Circuit{forward.Closed, forward.Open, forward.Gone} {
			gauge(s.circuit, one(state == is), target, string(state))
		}
		if e := s.of.taken.errors.of(target, s.pending(target), time.Now()); e != nil {
			gauge(s.failing, 1, target, string(e.Class))
		}
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
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
