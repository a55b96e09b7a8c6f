package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/stream"
)

// State is the state of a receiver at a scrape.
type State struct {
	// Redis reports whether Redis accepts writes, and Durable whether it is configured to keep them as well; nil:
	// not known yet.
	Redis   bool
	Durable *bool
	// ClockSkew is how far the clock of Redis is ahead; nil: not known yet.
	ClockSkew *time.Duration
	// BacklogLimit is in bytes; 0: none.
	BacklogLimit        int64
	DeadLetterLimit     int64
	DeadLetterRetention time.Duration
	// Tokens is how many tokens are accepted.
	Tokens  int
	Targets []TargetState
}

// TargetState is this receiver's state of one target.
type TargetState struct {
	Name    string
	Circuit contract.Circuit
	// Failing is the class of the latest error; empty: attempts succeed.
	Failing contract.ErrorClass
}

// Report adds the accounts and the state of the receiver, which are read at each scrape.
func (m *Metrics) Report(accounts func() (map[string]stream.Account, error), state func() State) {
	m.register.MustRegister(newAccounts(accounts), newStates(state))
}

// states are the gauges of a State.
type states struct {
	read func() State

	redis, durable, circuit, failing, clock, deadLetters, backlog, retention, tokens *prometheus.Desc
}

func newStates(read func() State) *states {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &states{
		read:      read,
		redis:     desc("redis_up", "1 when Redis answered and took writes at this scrape, else 0."),
		failing:   desc("target_failing", "1 while this receiver's attempts to deliver to a target fail, by the class of the latest error; absent while none does.", "target", "class"),
		retention: desc("dead_letter_retention_seconds", "How long dead letters are kept."),
		backlog: desc("backlog_limit_bytes",
			"How many bytes the pending events and dead letters of all targets may have together; beyond it new events are rejected. Absent without a limit."),
		tokens:      desc("tokens", "How many tokens are accepted: 2 while a rotation is under way."),
		durable:     desc("durable", "1 when Redis accepts writes and is durable, else 0. Absent until it has been checked."),
		circuit:     desc("target_circuit", "1 for the state (Closed, Open, Gone) of a target's circuit as this receiver sees it, 0 for the others.", "target", "state"),
		clock:       desc("redis_clock_skew_seconds", "Seconds by which the clock of Redis is ahead of this receiver's; negative: behind. Absent until it has been read."),
		deadLetters: desc("dead_letter_limit", "How many dead letters each target may have. At this number, events that a target rejects wait in its queue."),
	}
}

// Describe implements prometheus.Collector.
func (s *states) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.redis, s.durable, s.circuit, s.failing, s.clock, s.deadLetters, s.backlog, s.retention, s.tokens} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *states) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	now := s.read()
	gauge(s.redis, one(now.Redis))
	if now.Durable != nil {
		gauge(s.durable, one(*now.Durable))
	}
	if now.ClockSkew != nil {
		gauge(s.clock, now.ClockSkew.Seconds())
	}
	if now.BacklogLimit > 0 {
		gauge(s.backlog, float64(now.BacklogLimit))
	}
	gauge(s.deadLetters, float64(now.DeadLetterLimit))
	gauge(s.retention, now.DeadLetterRetention.Seconds())
	gauge(s.tokens, float64(now.Tokens))
	for _, t := range now.Targets {
		for _, c := range contract.Circuits() {
			gauge(s.circuit, one(t.Circuit == c), t.Name, string(c))
		}
		if t.Failing != "" {
			gauge(s.failing, 1, t.Name, string(t.Failing))
		}
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
