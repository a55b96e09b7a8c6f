// Package ingest takes events in: it bounds a request, checks whose it is, identifies the event, appends it to the
// store, and only then answers 200.
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

// Store judges an event by its identity, and keeps news for the named targets. A nil error means that the write is
// confirmed. stored is the id of the event that was stored.
type Store interface {
	Append(ctx context.Context, id event.Identity, e event.Event, targets []string) (judgement event.Judgement, stored string, err error)
}

// ErrFull is what a Store's error must wrap when a target's queue is at its bound and nothing has been stored.
var ErrFull = errors.New("a target's queue is full")

// ErrQuota is what a Store's error must wrap when the webhook has stored as many bytes as it may have and nothing has been stored.
var ErrQuota = errors.New("the webhook has stored as many bytes as it may have")

// Observer is notified of every request after its answer is decided. It must not block.
type Observer interface {
	Answered(Report)
}

// Settings are what a Handler goes by. They can be replaced while it serves.
type Settings struct {
	// Namespace and Name of the webhook take part in the events' ids.
	Namespace, Name string
	// Paths at which events are accepted, the secret segment included.
	Paths []string
	// Tokens that are accepted; an empty one matches nothing.
	Tokens [][]byte
	// WebhookID, when set, is the only webhook configuration whose deliveries are accepted.
	WebhookID *int64
	// EventTypes are accepted; empty means all.
	EventTypes []string
	// Targets with the types that each wants; empty means all.
	Targets []Target
	// MaxBodyBytes bounds a body.
	MaxBodyBytes int64
	// TrustedProxies are those whose word about the client is believed when wrong tokens are counted. Without any, nothing is
	// refused before its body is read.
	TrustedProxies []netip.Prefix
	// Expressions are the filters and the deduplication key; nil: there are none.
	Expressions Expressions
	// Tracer follows requests; nil: no tracing, the traceparent of a request travels on all the same.
	Tracer Tracer
}

// Expressions reads events for the expressions of the configuration.
type Expressions interface {
	// Read returns an event as the expressions see it. It may read the body when it is first asked for something in it.
	Read(eventType string, body []byte) Subject
}

// Subject is one event as the expressions of the configuration see it.
type Subject interface {
	// Key returns what takes the place of the deduplication profile, or "" where no expression does.
	Key(ctx context.Context) (string, error)
	// Wants says whether a target wants the event with this id; one without a filter does.
	Wants(ctx context.Context, target, id string) (bool, error)
}

// Tracer follows requests.
type Tracer interface {
	// Begin returns the traceparent to keep with the event of a request that came with the one given, which may be
	// empty or nonsense, and what to call with the Report when the request is answered.
	Begin(traceparent string) (trace string, end func(Report))
}

// Target is a target's name and the event types that it wants; none means all.
type Target struct {
	Name       string
	EventTypes []string
	// Ordered says that the target wants the events of a conversation in order.
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

// NewHandler returns a Handler that goes by s.
func NewHandler(store Store, observer Observer, s Settings) *Handler {
	h := &Handler{store: store, observer: observer, throttle: newThrottle()}
	h.Use(s)
	return h
}

// Use replaces the settings. Requests under way finish by the old ones.
func (h *Handler) Use(s Settings) { h.rules.Store(newRules(s, h.rules.Load())) }

// TokenUses returns when each token in force was last used, the current one first.
func (h *Handler) TokenUses() []TokenUse { return h.rules.Load().tokenUses() }

// Drain makes every answer from now on end its connection, so that a proxy sends its next request elsewhere, and makes load
// balancers see the receiver as unhealthy.
func (h *Handler) Drain() { h.draining.Store(true) }

// ServeHTTP answers one delivery, the health check of a load balancer, or a probe of the operator. The body of a refusal is one sentence for the person
// who set up the webhook.
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
	if h.draining.Load() { // the request may have begun before
		w.Header()["Connection"] = closes
	}
	answer(w, report, connection, req.Header["Prefer"])
	h.observer.Answered(report)
	end(report)
}
