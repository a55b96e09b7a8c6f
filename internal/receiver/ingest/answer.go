package ingest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"heymarket.dev/operator/internal/receiver/event"
)

// Result is the outcome of one request.
type Result string

// The results. Every request has exactly one, so that received = stored + duplicate + ignored + refused.
const (
	Stored    Result = "stored"
	Duplicate Result = "duplicate"
	Ignored   Result = "ignored"
	Refused   Result = "refused"
)

// Reason is why a request was refused. The values are stable: they are a label of the metrics.
type Reason string

// The reasons, each with the HTTP status of the answer.
const (
	UnknownPath  Reason = "path"          // 404
	Method       Reason = "method"        // 405
	MediaType    Reason = "media_type"    // 415
	TooLarge     Reason = "too_large"     // 413
	Unreadable   Reason = "unreadable"    // 400: the body ended early or too slowly
	Malformed    Reason = "malformed"     // 400
	WrongToken   Reason = "token"         // 401
	RateLimited  Reason = "rate_limited"  // 429: too many wrong tokens from one client
	WrongWebhook Reason = "webhook_id"    // 403
	Backlog      Reason = "backlog"       // 429
	BacklogBytes Reason = "backlog_bytes" // 429
	Unconfirmed  Reason = "not_confirmed" // 503
	Internal     Reason = "internal"      // 500: a bug in the receiver
)

// Reasons are all reasons.
func Reasons() []Reason {
	return []Reason{
		UnknownPath, Method, MediaType, TooLarge, Unreadable, Malformed, WrongToken, RateLimited, WrongWebhook, Backlog, BacklogBytes, Unconfirmed, Internal,
	}
}

// Report describes one request to an Observer. It contains only values that may be logged.
type Report struct {
	Result Result
	Reason Reason // with Refused
	Status int
	// Type, Webhook and EventID are set as far as the request could be read.
	Type    string
	Webhook int64
	EventID string
	// Targets are the targets that the event was stored for.
	Targets []string
	// Filtered are the targets whose filter rejected it.
	Filtered []string
	// Respelled reports that the type arrived in the corrected spelling of the provider's misspelling.
	Respelled bool
	// Token is the token that matched, CurrentToken or PreviousToken; empty if none did.
	Token string
	// FilterFailed are the Targets whose filter could not be evaluated; it is evaluated again before delivery.
	FilterFailed []string
	// KeyFailed reports that the deduplication key could not be evaluated, and the profile of the type was used instead.
	KeyFailed bool
	// Judgement is how the store judged the delivery; empty if it was not asked or did not answer.
	Judgement event.Judgement
	// Err is the cause of a refusal, for logs; nil otherwise.
	Err  error
	Took time.Duration
}

// PreferResult is the value of the request header Prefer (RFC 7240) by which a sender asks for the result of its request: the
// body of a 200 is then a JSON object with the members "result", a Result, and "event", the event's ID or "". It has an effect
// only for senders with a valid token.
const PreferResult = "return=representation"

// closes is a value of the header Connection. It must not be changed.
var closes = []string{"close"}

// answer writes an answer. A refusal closes the connection, or strangers could occupy all connections with cheap requests. The
// connection stays open if a valid token has arrived on it, since other clients may share it behind a proxy, unless the body has
// not been read to its end. prefer are the values of the header Prefer.
func answer(w http.ResponseWriter, r Report, c *connection, prefer []string) {
	if r.Result != Refused {
		// net/http sends 200 with an empty body by itself, at less cost.
		if slices.Contains(prefer, PreferResult) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Preference-Applied", PreferResult)
			fmt.Fprintf(w, "{\"result\":%q,\"event\":%q}\n", r.Result, r.EventID)
		}
		return
	}
	header := w.Header()
	if !c.isProven() {
		header["Connection"] = closes
	}
	switch r.Reason {
	case Method:
		header.Set("Allow", http.MethodPost)
	case TooLarge, Unreadable:
		header["Connection"] = closes // the rest of the body is not read
	case RateLimited:
		header.Set("Retry-After", retryAfterOne)
		header["Connection"] = closes // the body may be unread, and guessing must cost a connection per attempt
	case Backlog, BacklogBytes:
		header.Set("Retry-After", "30")
	case Unconfirmed:
		header.Set("Retry-After", "5")
	}
	http.Error(w, sentences[r.Reason](r), r.Status)
}

// sentences explain an error to the sender. They quote nothing from the request.
var sentences = map[Reason]func(Report) string{
	UnknownPath:  plain("There is no webhook at this URL. Compare it with the one in the Secret that ends in -url."),
	Method:       plain("Events are sent by POST."),
	MediaType:    plain("Events are sent as application/json, in UTF-8 and not compressed."),
	TooLarge:     plain("The body is larger than this webhook accepts."),
	Unreadable:   plain("The body ended before it was complete."),
	Malformed:    func(r Report) string { return r.Err.Error() },
	WrongToken:   plain(`The member "token" is missing or is not the token of this webhook.`),
	WrongWebhook: plain(`The member "id" names another webhook than the one that this URL belongs to.`),
	RateLimited:  plain("Too many requests with a wrong token. Compare the token of this webhook, and send this event again later."),
	Backlog:      plain("Too many events wait for a target. Nothing was stored; send this event again later."),
	BacklogBytes: plain("This webhook has reached its limit of waiting events. Nothing was stored; send this event again later."),
	Internal:     plain("The receiver failed on this event. Send it again later, and contact its operator."),
	Unconfirmed:  plain("The event could not be stored safely. Send it again later."),
}

func plain(sentence string) func(Report) string { return func(Report) string { return sentence } }

func refuse(status int, reason Reason, err error) Report {
	return Report{Result: Refused, Reason: reason, Status: status, Err: err}
}
