// Package ingest takes events in: it bounds a request, checks whose it is, identifies the event, appends it to the
// store, and only then answers 200.
package ingest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/netip"
	"slices"
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

// Observer is told about every request after its answer is decided. It must not block.
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

// Which of the tokens matched.
const (
	CurrentToken  = "current"
	PreviousToken = "previous"
)

// TokenUse says when a token was last used by a genuine delivery.
type TokenUse struct {
	// Name is CurrentToken or PreviousToken.
	Name string
	// LastUsed is cut to the minute; zero: not since this process began.
	LastUsed time.Time
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

// rules are Settings prepared for one request after the other.
type rules struct {
	Settings
	paths  [][sha256.Size]byte
	tokens []knownToken
}

type knownToken struct {
	name   string
	digest [sha256.Size]byte
	// lastUsed is in minutes since the epoch. A token takes it along when it becomes the previous one.
	lastUsed *atomic.Int64
}

// NewHandler returns a Handler that goes by s.
func NewHandler(store Store, observer Observer, s Settings) *Handler {
	h := &Handler{store: store, observer: observer, throttle: newThrottle()}
	h.Use(s)
	return h
}

// Use replaces the settings. Requests under way finish by the old ones.
func (h *Handler) Use(s Settings) {
	r := &rules{Settings: s}
	for _, p := range s.Paths {
		r.paths = append(r.paths, sha256.Sum256([]byte(p)))
	}
	for i, text := range s.Tokens {
		if len(text) == 0 { // a body without a token would match it
			continue
		}
		t := knownToken{CurrentToken, sha256.Sum256(text), new(atomic.Int64)}
		if i > 0 {
			t.name = PreviousToken
		}
		if old := h.rules.Load(); old != nil {
			for _, known := range old.tokens {
				if known.digest == t.digest {
					t.lastUsed = known.lastUsed
				}
			}
		}
		r.tokens = append(r.tokens, t)
	}
	h.rules.Store(r)
}

// TokenUses returns when each token in force was last used, the current one first.
func (h *Handler) TokenUses() []TokenUse {
	tokens := h.rules.Load().tokens
	uses := make([]TokenUse, len(tokens))
	for i, t := range tokens {
		uses[i].Name = t.name
		if minute := t.lastUsed.Load(); minute > 0 {
			uses[i].LastUsed = time.Unix(minute*60, 0).UTC()
		}
	}
	return uses
}

// Drain makes every answer from now on end its connection, so that a proxy sends its next request elsewhere, and makes load
// balancers see the receiver as unhealthy.
func (h *Handler) Drain() { h.draining.Store(true) }

// ServeHTTP answers one delivery, or the health check of a load balancer. The body of a refusal is one sentence for the person
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
	trace, end := "", func(Report) {}
	if rules.Tracer != nil {
		trace, end = rules.Tracer.Begin(req.Header.Get("Traceparent"))
	}
	report := rules.decide(req, h, trace, begin)
	report.Took = time.Since(begin)
	if h.draining.Load() { // the request may have begun before
		w.Header()["Connection"] = closes
	}
	answer(w, report, connection)
	h.observer.Answered(report)
	end(report)
}

// decide is take, with a panic made into a refusal: one event must not end the others, and every request is counted.
func (r *rules) decide(req *http.Request, h *Handler, trace string, now time.Time) (report Report) {
	defer func() {
		if v := recover(); v != nil {
			report = refuse(http.StatusInternalServerError, Internal, event.Panicked(v))
		}
	}()
	return r.take(req, h, trace, now)
}

// take decides about one request, and stores its event where there is one.
func (r *rules) take(req *http.Request, h *Handler, trace string, now time.Time) Report {
	if !matches(r.paths, sha256.Sum256([]byte(req.URL.Path))) {
		return refuse(http.StatusNotFound, UnknownPath, nil)
	}
	if req.Method != http.MethodPost {
		return refuse(http.StatusMethodNotAllowed, Method, nil)
	}
	if !isPlainJSON(req.Header) {
		return refuse(http.StatusUnsupportedMediaType, MediaType, nil)
	}
	sender, own := client(req, r.TrustedProxies)
	if own && h.throttle.refuseUnread(sender, now) {
		return refuse(http.StatusTooManyRequests, RateLimited, nil)
	}
	connection := connectionOf(req)
	body, err := readBody(req, r.MaxBodyBytes, connection)
	if err == nil && !connection.completed() {
		err = errDisplaced
	}
	switch {
	case errors.Is(err, errTooLarge):
		return refuse(http.StatusRequestEntityTooLarge, TooLarge, nil)
	case err != nil:
		return refuse(http.StatusBadRequest, Unreadable, err)
	}
	delivery, err := event.Decode(body)
	if err != nil {
		return refuse(http.StatusBadRequest, Malformed, err)
	}
	used := r.authenticate(delivery.Token)
	if used == nil {
		if h.throttle.failed(sender, now) {
			return refuse(http.StatusTooManyRequests, RateLimited, nil)
		}
		return refuse(http.StatusUnauthorized, WrongToken, nil)
	}
	h.throttle.passed(sender, own)
	connection.prove()
	used.note(now)
	if trace == "" {
		trace = event.ContinueTrace(req.Header.Get("Traceparent"))
	}
	e := event.Event{
		Type: delivery.Type, AcceptedAt: now, Body: delivery.Body, Trace: trace,
		TraceState: event.TraceState(req.Header.Get("Traceparent"), req.Header["Tracestate"]), Baggage: event.Baggage(req.Header["Baggage"]),
	}
	report := r.store(req.Context(), &delivery, h.store, e)
	report.Type, report.Webhook, report.Respelled, report.Token = delivery.Type, delivery.WebhookID, delivery.Respelled, used.name
	return report
}

// authenticate returns the token that a delivery carries, or nil. It compares with all of them, always, in constant time.
func (r *rules) authenticate(given []byte) *knownToken {
	digest := sha256.Sum256(given)
	found := -1
	for i, t := range slices.Backward(r.tokens) {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(t.digest[:], digest[:]), i, found)
	}
	if found < 0 {
		return nil
	}
	return &r.tokens[found]
}

// note remembers that t was used. It writes once a minute, so that deliveries do not fight for it.
func (t *knownToken) note(now time.Time) {
	if minute := now.Unix() / 60; t.lastUsed.Load() < minute {
		t.lastUsed.Store(minute)
	}
}

// store decides about a delivery that is genuine. It completes the event that it stores.
func (r *rules) store(ctx context.Context, d *event.Delivery, store Store, e event.Event) Report {
	switch {
	case r.WebhookID == nil:
	case d.OddWebhookID:
		return refuse(http.StatusBadRequest, Malformed, event.BadID)
	case !d.HasWebhookID || d.WebhookID != *r.WebhookID:
		return refuse(http.StatusForbidden, WrongWebhook, nil)
	}
	targets, ordered := r.wanting(d.Type)
	if len(targets) == 0 {
		return Report{Result: Ignored, Status: http.StatusOK}
	}
	// A sender that hangs up changes nothing: the event is here, and its repeat will be a duplicate.
	ctx = context.WithoutCancel(ctx)
	id, judged := r.judge(ctx, d, targets)
	if len(judged.Targets) == 0 {
		judged.Result, judged.Status, judged.EventID = Ignored, http.StatusOK, id.ID()
		return judged
	}
	e.ID = id.ID()
	if ordered {
		e.Conversation = d.Conversation()
	}
	judgement, stored, err := store.Append(ctx, id, e, judged.Targets)
	report := judged
	report.Result, report.Status = Stored, http.StatusOK
	switch {
	case errors.Is(err, ErrFull):
		report = refuse(http.StatusTooManyRequests, Backlog, err)
	case errors.Is(err, ErrQuota):
		report = refuse(http.StatusTooManyRequests, BacklogBytes, err)
	case err != nil:
		report = refuse(http.StatusServiceUnavailable, Unconfirmed, err)
	case !judgement.Stored():
		report = Report{Result: Duplicate, Status: http.StatusOK}
	default:
		e.ID = stored
	}
	report.EventID, report.KeyFailed, report.Judgement = e.ID, judged.KeyFailed, judgement
	return report
}

// judge returns the event's identity, and in a Report the targets that want it by their expressions. A filter that cannot be
// evaluated drops nothing: its target gets the event, and the worker that would send it decides again, and buries it
// with the reason. A key that cannot be evaluated is the profile's.
func (r *rules) judge(ctx context.Context, d *event.Delivery, targets []string) (event.Identity, Report) {
	if r.Expressions == nil {
		return d.Identity(r.Namespace, r.Name), Report{Targets: targets}
	}
	subject := r.Expressions.Read(d.Type, d.Body)
	var out Report
	var id event.Identity
	switch text, err := subject.Key(ctx); {
	case text != "":
		id = d.IdentityBy(r.Namespace, r.Name, text)
	default:
		id, out.KeyFailed = d.Identity(r.Namespace, r.Name), err != nil
	}
	for _, t := range targets {
		switch wanted, err := subject.Wants(ctx, t, id.ID()); {
		case err != nil:
			out.FilterFailed = append(out.FilterFailed, t)
			out.Targets = append(out.Targets, t)
		case wanted:
			out.Targets = append(out.Targets, t)
		}
	}
	return id, out
}

// wanting returns the targets that want a type, and whether one of them wants an order.
func (r *rules) wanting(eventType string) (targets []string, ordered bool) {
	if !wants(r.EventTypes, eventType) {
		return nil, false
	}
	targets = make([]string, 0, len(r.Targets))
	for _, t := range r.Targets {
		if wants(t.EventTypes, eventType) {
			targets = append(targets, t.Name)
			ordered = ordered || t.Ordered
		}
	}
	return targets, ordered
}

func wants(types []string, t string) bool { return len(types) == 0 || slices.Contains(types, t) }

// matches compares with all of known, always, in constant time: neither how much of a secret was right nor which of two
// it was shows in the time that it takes.
func matches(known [][sha256.Size]byte, sum [sha256.Size]byte) bool {
	found := 0
	for i := range known {
		found |= subtle.ConstantTimeCompare(known[i][:], sum[:])
	}
	return found == 1
}
