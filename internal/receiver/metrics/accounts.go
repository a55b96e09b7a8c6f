package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/stream"
)

// accounts are metrics over all receivers of the webhook. They are read from the store atomically on each scrape: all
// receivers report the same.
type accounts struct {
	read    func() (map[string]stream.Account, error)
	figures []figure
	// waiting is the age of the oldest event of each target and lane.
	waiting *prometheus.Desc
}

// figure is one metric of an account.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(stream.Account) float64
}

func newAccounts(read func() (map[string]stream.Account, error)) *accounts {
	a := &accounts{
		read: read,
		waiting: prometheus.NewDesc(prometheus.BuildFQName(namespace, "", "oldest_event_age_seconds"),
			"Time that the oldest undelivered event of a target and lane has spent in its queue, over all receivers; 0 if none waits.", []string{"target", "lane"}, nil),
	}
	measure := func(kind prometheus.ValueType, name, help string, of func(stream.Account) float64) {
		desc := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, []string{"target"}, nil)
		a.figures = append(a.figures, figure{desc, kind, of})
	}
	add := func(kind prometheus.ValueType, name, help string, of func(stream.Account) int64) {
		measure(kind, name, help, func(a stream.Account) float64 { return float64(of(a)) })
	}
	counter, gauge := prometheus.CounterValue, prometheus.GaugeValue
	add(gauge, "events_pending", "Events accepted for a target and neither delivered nor given up, over all receivers.",
		func(a stream.Account) int64 { return a.Pending })
	add(gauge, "backlog_bytes", "Bytes of the pending events and dead letters of a target in Redis, over all receivers.",
		func(a stream.Account) int64 { return a.Bytes })
	add(gauge, "dead_letters", "Dead letters that are kept for a target.",
		func(a stream.Account) int64 { return a.DeadLetters })
	measure(gauge, "oldest_dead_letter_age_seconds", "Age of the oldest dead letter of a target; 0 without one.",
		func(a stream.Account) float64 { return a.OldestDeadLetter.Seconds() })
	add(gauge, "events_unaccounted", "Events missing from a target's queues, over all receivers; 0 unless Redis lost confirmed writes.",
		stream.Account.Unaccounted)
	add(counter, "account_stored_total", "Events stored for a target, over all receivers and restarts.",
		func(a stream.Account) int64 { return a.Stored })
	add(counter, "account_replayed_total", "Dead letters of a target that were put back into its queue.",
		func(a stream.Account) int64 { return a.Replayed })
	add(counter, "account_delivered_total", "Events delivered to a target, over all receivers and restarts.",
		func(a stream.Account) int64 { return a.Delivered })
	add(counter, "account_dead_total", "Events given up and kept as dead letters, over all receivers and restarts.",
		func(a stream.Account) int64 { return a.Dead })
	add(counter, "account_dropped_total", "Events dropped because their target was gone for longer than the grace period.",
		func(a stream.Account) int64 { return a.Dropped })
	add(counter, "account_discarded_total", "Dead letters that were removed by a person, or for their age.",
		func(a stream.Account) int64 { return a.Discarded })
	add(counter, "malformed_entries_total", "Entries and members in a target's keys in Redis that were not a receiver's, and were set aside.",
		func(a stream.Account) int64 { return a.Malformed })
	return a
}

// Describe implements prometheus.Collector.
func (a *accounts) Describe(ch chan<- *prometheus.Desc) {
	ch <- a.waiting
	for _, f := range a.figures {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (a *accounts) Collect(ch chan<- prometheus.Metric) {
	all, _ := a.read() // redis_up shows why there are none
	for target, account := range all {
		for _, f := range a.figures {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(account), target)
		}
		for _, lane := range delivery.Lanes() {
			ch <- prometheus.MustNewConstMetric(a.waiting, prometheus.GaugeValue, account.Oldest[lane].Seconds(), target, string(lane))
		}
	}
}
