// Package metrics exports a receiver's metrics to Prometheus: its own counters and, read on each scrape, the accounts in Redis
// and the receiver's state.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/retry"
)

// Metrics observe requests and deliveries. Every name and label is listed in docs/reference/metrics.md. Create it with New.
type Metrics struct {
	registry *prometheus.Registry
	// register adds collectors whose series carry the webhook's namespace and name, however they are scraped.
	register prometheus.Registerer

	requests  *requests
	respelled prometheus.Counter
	tokens    *prometheus.CounterVec // token
	filters   *prometheus.CounterVec // target
	keys      prometheus.Counter
	judged    *prometheus.CounterVec   // judgement
	ingest    *prometheus.HistogramVec // result

	stored    *prometheus.CounterVec   // target
	delivered *prometheus.CounterVec   // target
	dead      *prometheus.CounterVec   // target
	attempts  *prometheus.CounterVec   // target, status
	attempt   *prometheus.HistogramVec // target
	age       *prometheus.HistogramVec // target

	reloads *prometheus.CounterVec // outcome
	ignored prometheus.Gauge
}

const namespace = "heymarket_receiver"

// New returns the metrics of one webhook's receiver, all at zero. webhookNamespace and webhookName are labels of every series;
// version is the receiver's build.
func New(webhookNamespace, webhookName, version string) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	}
	fast := []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .5, 1, 5}
	slow := []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 600, 3600, 86400}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, labelled by the version of the receiver and of Go.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	registry := prometheus.NewRegistry()
	m := &Metrics{
		registry: registry,
		register: prometheus.WrapRegistererWith(prometheus.Labels{"namespace": webhookNamespace, "webhook": webhookName}, registry),
		requests: newRequests(),
		respelled: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "respelled_total",
			Help: `Events of type "message_received", the corrected spelling, taken as "message_recieved".`,
		}),
		tokens:  counter("token_used_total", "Authenticated deliveries by the token that they carried (current, previous).", "token"),
		filters: counter("filter_failures_total", "Events whose filter could not be evaluated; they become dead letters of the target.", "target"),
		keys: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "deduplication_key_failures_total",
			Help: "Events whose deduplication key could not be evaluated or was empty; the profile of their type stood in.",
		}),
		judged: counter("deduplication_decisions_total", "Deliveries that equal an event that was stored before, by what was decided: "+
			"repeat, late_repeat and opt_in_withheld were dropped, returned was stored as a new event.", "decision"),
		ingest:    histogram("request_duration_seconds", "Time from a request's header to its answer.", fast, "result"),
		stored:    counter("events_stored_total", "Events stored for a target.", "target"),
		delivered: counter("events_delivered_total", "Events delivered to a target.", "target"),
		dead:      counter("events_dead_total", "Events given up and kept as dead letters.", "target"),
		attempts:  counter("attempts_total", "Attempts to deliver, by the answer's status, or \"none\" where there was no answer.", "target", "status"),
		attempt:   histogram("attempt_duration_seconds", "Time of one attempt.", fast, "target"),
		age:       histogram("event_age_seconds", "Time from acceptance, or from the last replay, to delivery.", slow, "target"),
		reloads:   counter("config_reloads_total", "Changes of the mounted files, by outcome (applied, rejected).", "outcome"),
		ignored: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "config_ignored_members",
			Help: "Members of the configuration that this receiver does not know, because a newer operator wrote it. They have no effect.",
		}),
	}
	m.register.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build,
		m.requests, m.respelled, m.tokens, m.filters, m.keys, m.judged, m.ingest,
		m.stored, m.delivered, m.dead, m.attempts, m.attempt, m.age, m.reloads, m.ignored)
	return m
}

// Handler serves scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Ignored records how many members of the current configuration this build does not know.
func (m *Metrics) Ignored(members int) { m.ignored.Set(float64(members)) }

// Reloaded records that changed files were read, and whether they were applied.
func (m *Metrics) Reloaded(applied bool) {
	if applied {
		m.reloads.WithLabelValues(reloadApplied).Inc()
		return
	}
	m.reloads.WithLabelValues(reloadRejected).Inc()
}

// The outcomes of a change to the mounted files.
const (
	reloadApplied  = "applied"
	reloadRejected = "rejected"
)

// noAnswer is the status of an attempt without an answer.
const noAnswer = "none"

// Begin initializes the counters of a target to zero, so that a rule sees the first event as an increase.
func (m *Metrics) Begin(target string) {
	for _, v := range []*prometheus.CounterVec{m.stored, m.delivered, m.dead, m.filters} {
		v.WithLabelValues(target)
	}
	m.attempts.WithLabelValues(target, noAnswer)
	for _, token := range []string{ingest.CurrentToken, ingest.PreviousToken} {
		m.tokens.WithLabelValues(token)
	}
	for _, j := range []event.Judgement{event.Repeat, event.Returned, event.LateRepeat, event.OptInWithheld} {
		m.judged.WithLabelValues(string(j))
	}
	for _, outcome := range []string{reloadApplied, reloadRejected} {
		m.reloads.WithLabelValues(outcome)
	}
}

// Watch adds metrics of connections.
func (m *Metrics) Watch(c *ingest.Connections) {
	m.register.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Name: "connections", Help: "Open connections to the events port.",
		}, func() float64 { return float64(c.Open()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "connections_displaced_total",
			Help: "Connections to the events port that were closed without a complete request, to make room for others.",
		}, func() float64 { return float64(c.Displaced()) }),
	)
}

// Answered implements ingest.Observer.
func (m *Metrics) Answered(r ingest.Report) {
	m.requests.count(r.Result, r.Reason)
	m.ingest.WithLabelValues(string(r.Result)).Observe(r.Took.Seconds())
	if r.Respelled {
		m.respelled.Inc()
	}
	if r.Token != "" {
		m.tokens.WithLabelValues(r.Token).Inc()
	}
	if r.KeyFailed {
		m.keys.Inc()
	}
	if r.Judgement != "" && r.Judgement != event.New {
		m.judged.WithLabelValues(string(r.Judgement)).Inc()
	}
	for _, t := range r.FilterFailed {
		m.filters.WithLabelValues(t).Inc()
	}
	for _, t := range r.Targets {
		m.stored.WithLabelValues(t).Inc()
	}
}

// Attempted implements forward.Observer.
func (m *Metrics) Attempted(target string, o delivery.Outcome, took time.Duration) {
	status := noAnswer
	if o.Err == nil {
		status = strconv.Itoa(o.Status)
	}
	m.attempts.WithLabelValues(target, status).Inc()
	m.attempt.WithLabelValues(target).Observe(took.Seconds())
}

// Settled implements forward.Observer.
func (m *Metrics) Settled(target string, v retry.Verdict, age time.Duration) {
	switch v {
	case retry.Done:
		m.delivered.WithLabelValues(target).Inc()
		m.age.WithLabelValues(target).Observe(age.Seconds())
	case retry.GiveUp:
		m.dead.WithLabelValues(target).Inc()
	case retry.Again:
	}
}
