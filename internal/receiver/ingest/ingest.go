// Package ingest accepts events: it bounds a request, authenticates it, identifies the event, appends it to the store, and only
// then answers 200.
package ingest

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/receiver/event"
)

// Store deduplicates an event by its identity and stores a new one for the named targets. A nil error means that the write is
// confirmed. stored is the ID of the stored event.
type Store interface {
	Append(ctx context.Context, id event.Identity, e event.Event, targets []string) (judgement event.Judgement, stored string, err error)
}

// ErrFull is wrapped by a Store's error if a target's queue is at its bound and nothing has been stored.
var ErrFull = errors.New("a target's queue is full")

// ErrQuota is wrapped by a Store's error if the webhook has stored as many bytes as it may have and nothing has been stored.
var ErrQuota = errors.New("the webhook has stored as many bytes as it may have")

// Observer is notified of every request after its answer is decided. It must not block.
type Observer interface {
	Answered(Report)
}

// Settings configure a Handler. They can be replaced while it serves.
type Settings struct {
	// Namespace and Name of the webhook are part of the events' IDs.
	Namespace, Name string
	// Paths at which events are accepted, including the secret segment.
	Paths []string
	// Tokens that are accepted; an empty one matches nothing.
	Tokens [][]byte
	// WebhookID, when set, is the only webhook configuration whose deliveries are accepted.
	WebhookID *int64
	// EventTypes are accepted; empty means all.
	EventTypes []string
	// Targets with the types that each accepts; empty means all.
	Targets []Target
	// MaxBodyBytes bounds a body.
	MaxBodyBytes int64
	// TrustedProxies are the proxies whose forwarded client addresses are trusted when failed tokens are counted. If empty, no
	// request is refused before its body is read.
	TrustedProxies []netip.Prefix
	// Expressions are the filters and the deduplication key; nil if there are none.
	Expressions Expressions
	// Tracer traces requests; nil: no tracing, but the traceparent of a request is still passed on.
	Tracer Tracer
}

// Expressions prepares events for the expressions of the configuration.
type Expressions interface {
	// Read returns an event for evaluation. It may parse the body lazily.
	Read(eventType string, body []byte) Subject
}

// Subject is one event as the expressions of the configuration evaluate it.
type Subject interface {
	// Key returns the key that replaces the deduplication profile, or "" if no expression does.
	Key(ctx context.Context) (string, error)
	// Wants reports whether a target's filter accepts the event with this ID; a target without a filter accepts all.
	Wants(ctx context.Context, target, id string) (bool, error)
}

// Tracer traces requests.
type Tracer interface {
	// Begin returns the traceparent to keep with the event, and the function to call with the Report when the request is
	// answered. traceparent is the request's own, which may be empty or invalid.
	Begin(traceparent string) (trace string, end func(Report))
}

// Target is a target's name and the event types that it accepts; none means all.
type Target struct {
	Name       string
	EventTypes []string
	// Ordered reports that the target gets the events of a conversation in order.
	Ordered bool
}

// Handler is the http.Handler for events.
type Handler struct {
	store    Store
	observer Observer
	throttle *throttle
	rules    atomic.Pointer[rules]
	draining atomic.Bool
}

// NewHandler returns a Handler that uses s.
func NewHandler(store Store, observer Observer, s Settings) *Handler {
	h := &Handler{store: store, observer: observer, throttle: newThrottle()}
	h.Use(s)
	return h
}

// Use replaces the settings. Requests in flight finish with the old ones.
func (h *Handler) Use(s Settings) { h.rules.Store(newRules(s, h.rules.Load())) }

// TokenUses returns when each token in force was last used, the current one first.
func (h *Handler) TokenUses() []TokenUse { return h.rules.Load().tokenUses() }

// Drain makes every answer from now on close its connection, so that a proxy sends its next request elsewhere, and fails load
// balancers' health checks.
func (h *Handler) Drain() { h.draining.Store(true) }

// ServeHTTP answers one delivery, a load balancer's health check, or the operator's probe. The body of a refusal is one sentence
// for the person who set up the webhook.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	connection := connectionOf(req)
	defer connection.release()
	if isHealthCheck(req) {
		h.answerHealth(w, connection)
		return
	}
	begin := time.Now()
	rules := h.rules.Load()
	if lines := rules.probed(req); lines != "" {
		h.answerProbe(w, connection, lines)
		return
	}
	trace, end := "", func(Report) {}
	if rules.Tracer != nil {
		trace, end = rules.Tracer.Begin(req.Header.Get("Traceparent"))
	}
	report := (&request{Request: req, rules: rules, handler: h, connection: connection, began: begin, trace: trace}).decide()
	report.Took = time.Since(begin)
	if h.draining.Load() { // it may have been set during the request
		w.Header()["Connection"] = closes
	}
	answer(w, report, connection, req.Header["Prefer"])
	h.observer.Answered(report)
	end(report)
}
