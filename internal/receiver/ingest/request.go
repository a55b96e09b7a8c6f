package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"heymarket.dev/operator/internal/receiver/event"
)

// request is one request and its decision, under the rules that were in force when it arrived.
type request struct {
	*http.Request
	rules      *rules
	handler    *Handler
	connection *connection
	began      time.Time
	// trace is the traceparent to keep with the event; if empty, the request's own or a new one.
	trace    string
	delivery event.Delivery
}

// decide accepts the request's event if it is authentic and wanted. A panic becomes a refusal: one event must not affect others,
// and every request must be counted.
func (r *request) decide() (report Report) {
	defer func() {
		if v := recover(); v != nil {
			report = refuse(http.StatusInternalServerError, Internal, event.Panicked(v))
		}
	}()
	if refusal, refused := r.checkHeader(); refused {
		return refusal
	}
	sender, own := client(r.Request, r.rules.TrustedProxies)
	if own && r.handler.throttle.refuseUnread(sender, r.began) {
		return refuse(http.StatusTooManyRequests, RateLimited, nil)
	}
	if refusal, refused := r.read(); refused {
		return refusal
	}
	token := r.rules.authenticate(r.delivery.Token)
	if token == nil {
		if r.handler.throttle.failed(sender, r.began) {
			return refuse(http.StatusTooManyRequests, RateLimited, nil)
		}
		return refuse(http.StatusUnauthorized, WrongToken, nil)
	}
	r.handler.throttle.passed(sender, own)
	r.connection.prove()
	token.note(r.began)
	report = r.accept()
	report.Type, report.Webhook, report.Respelled, report.Token = r.delivery.Type, r.delivery.WebhookID, r.delivery.Respelled, token.name
	return report
}

// checkHeader performs the checks that do not need the body.
func (r *request) checkHeader() (refusal Report, refused bool) {
	switch {
	case !matches(r.rules.paths, sha256.Sum256([]byte(r.URL.Path))):
		return refuse(http.StatusNotFound, UnknownPath, nil), true
	case r.Method != http.MethodPost:
		return refuse(http.StatusMethodNotAllowed, Method, nil), true
	case !isPlainJSON(r.Header):
		return refuse(http.StatusUnsupportedMediaType, MediaType, nil), true
	}
	return Report{}, false
}

// read reads the body and decodes it.
func (r *request) read() (refusal Report, refused bool) {
	body, err := readBody(r.Request, r.rules.MaxBodyBytes, r.connection)
	if err == nil && !r.connection.completed() {
		err = errDisplaced
	}
	switch {
	case errors.Is(err, errTooLarge):
		return refuse(http.StatusRequestEntityTooLarge, TooLarge, nil), true
	case err != nil:
		return refuse(http.StatusBadRequest, Unreadable, err), true
	}
	if r.delivery, err = event.Decode(body); err != nil {
		return refuse(http.StatusBadRequest, Malformed, err), true
	}
	return Report{}, false
}

// accept stores the event of an authenticated delivery for the targets that want it.
func (r *request) accept() Report {
	d := &r.delivery
	switch wanted := r.rules.WebhookID; {
	case wanted == nil:
	case d.OddWebhookID:
		return refuse(http.StatusBadRequest, Malformed, event.BadID)
	case !d.HasWebhookID || d.WebhookID != *wanted:
		return refuse(http.StatusForbidden, WrongWebhook, nil)
	}
	targets, ordered := r.rules.wanting(d.Type)
	if len(targets) == 0 {
		return Report{Result: Ignored, Status: http.StatusOK}
	}
	// A sender that disconnects changes nothing: the event has arrived, and its repeat will be a duplicate.
	ctx := context.WithoutCancel(r.Context())
	id, judged := r.judge(ctx, targets)
	if len(judged.Targets) == 0 {
		judged.Result, judged.Status, judged.EventID = Ignored, http.StatusOK, id.ID()
		return judged
	}
	e := r.event(id.ID(), ordered)
	judgement, stored, err := r.handler.store.Append(ctx, id, e, judged.Targets)
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

// event returns the event to store for the delivery.
func (r *request) event(id string, ordered bool) event.Event {
	parent := r.Header.Get("Traceparent")
	e := event.Event{
		ID: id, Type: r.delivery.Type, AcceptedAt: r.began, Body: r.delivery.Body, Trace: r.trace,
		TraceState: event.TraceState(parent, r.Header["Tracestate"]), Baggage: event.Baggage(r.Header["Baggage"]),
	}
	if e.Trace == "" {
		e.Trace = event.ContinueTrace(parent)
	}
	if ordered {
		e.Conversation = r.delivery.Conversation()
	}
	return e
}

// judge returns the event's identity and a Report with the targets whose filters accept it. A filter that cannot be evaluated
// drops nothing: its target gets the event, and the worker evaluates it again before delivery and dead-letters the event with the
// reason if it fails again. If the key cannot be evaluated, the profile's is used.
func (r *request) judge(ctx context.Context, targets []string) (event.Identity, Report) {
	d, namespace, name := &r.delivery, r.rules.Namespace, r.rules.Name
	if r.rules.Expressions == nil {
		return d.Identity(namespace, name), Report{Targets: targets}
	}
	subject := r.rules.Expressions.Read(d.Type, d.Body)
	var out Report
	var id event.Identity
	switch text, err := subject.Key(ctx); {
	case text != "":
		id = d.IdentityBy(namespace, name, text)
	default:
		id, out.KeyFailed = d.Identity(namespace, name), err != nil
	}
	for _, t := range targets {
		switch wanted, err := subject.Wants(ctx, t, id.ID()); {
		case err != nil:
			out.FilterFailed = append(out.FilterFailed, t)
			out.Targets = append(out.Targets, t)
		case wanted:
			out.Targets = append(out.Targets, t)
		default:
			out.Filtered = append(out.Filtered, t)
		}
	}
	return id, out
}
