// Package admin serves a receiver's administrative API: its latest requests and attempts, its figures, the backlog of each
// target, and the dead letters: list, show, count, replay, discard. It does not authenticate clients, so its listener is bound to
// localhost of the Pod: kubectl port-forward reaches it, and Kubernetes decides who may use that. Requests that a web page could
// make a person's browser send are rejected, see local.go.
package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
)

// DeadLetters keeps events that were given up.
type DeadLetters interface {
	// ListDeadLetters returns up to limit dead letters of a target that match f, the oldest first, without bodies.
	ListDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int) ([]delivery.DeadLetter, error)
	// DeadLetter returns one with its body; false if there is none with that entry.
	DeadLetter(ctx context.Context, target, entry string) (delivery.DeadLetter, bool, error)
	// CountDeadLetters returns how many match f.
	CountDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter) (int, error)
	// ReplayDeadLetters puts letters back into their queues and DiscardDeadLetters removes them: the oldest limit of those that
	// match f, 0 being no limit. Both call progress from time to time, and return their counts even with an error.
	ReplayDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error)
	DiscardDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error)
	// ReplayEdited replays one with another body, or returns ErrQuota if that would exceed the webhook's limit.
	ReplayEdited(ctx context.Context, target, entry string, body []byte) (delivery.DeadLetterCount, error)
}

// Letter is a dead letter in an answer. The body, which contains people's messages, is included only if a single letter is
// requested.
type Letter struct {
	Entry      string    `json:"entry"`
	Event      string    `json:"event"`
	Type       string    `json:"type"`
	AcceptedAt time.Time `json:"acceptedAt"`
	// ReplayedAt is when it was last replayed; missing: never.
	ReplayedAt time.Time      `json:"replayedAt,omitzero"`
	DiedAt     time.Time      `json:"diedAt"`
	Attempts   int            `json:"attempts"`
	Status     int            `json:"status,omitzero"`
	Reason     string         `json:"reason"`
	Excerpt    string         `json:"excerpt,omitempty"`
	Body       jsontext.Value `json:"body,omitempty"`
	// BodyText is the body if it is not JSON.
	BodyText string `json:"bodyText,omitempty"`
}

// Progress is one line of the answer to a replay or discard. The last line has Finished or Error.
type Progress struct {
	Replayed  int `json:"replayed,omitzero"`
	Discarded int `json:"discarded,omitzero"`
	// Skipped letters cannot be replayed, because their data in Redis is not an event.
	Skipped  int    `json:"skipped,omitzero"`
	Finished bool   `json:"finished,omitzero"`
	Error    string `json:"error,omitempty"`
}

// Count is how many dead letters there are.
type Count struct {
	Count int `json:"count"`
}

const (
	// atOnce bounds concurrent requests; further ones wait. A request for one letter holds its body, of up to 1 MiB, several
	// times.
	atOnce = 2
	// writeTimeout is how long a client may take to read each part of an answer.
	writeTimeout = 20 * time.Second
	// readTimeout is how long a client may take to send a body.
	readTimeout = 20 * time.Second
)

// Options configure a Handler.
type Options struct {
	DeadLetters DeadLetters
	Recent      Recent
	Contents    Contents
	// Names returns the current targets, and Targets their states.
	Names   func() []string
	Targets func() ([]contract.TargetStatus, error)
	// MaxBodyBytes returns the bound of an event's body.
	MaxBodyBytes func() int64
}

// Handler serves the routes that openapi.json describes, all under /v1.
//
// A replay with a small limit is a canary: the oldest letters are replayed, and the rest stay. Replaying or discarding everything
// requires exactly all=true. Both answer with one JSON object per line, a Progress, while they work.
func Handler(o Options) http.Handler {
	h := handler{o, make(chan struct{}, atOnce), make(chan struct{}, mostStreams)}
	mux := http.NewServeMux()
	for _, r := range h.routes() {
		mux.HandleFunc(r.pattern, r.serve)
	}
	return local(mux)
}

// Routes are the methods and paths that a Handler serves, such as "GET /v1/targets".
func Routes() (all []string) {
	for _, r := range (handler{}).routes() {
		all = append(all, r.pattern)
	}
	return all
}

type route struct {
	pattern string
	serve   http.HandlerFunc
}

func (h handler) routes() []route {
	const letters, letter = "/v1/targets/{target}/dead-letters", "/v1/targets/{target}/dead-letters/{entry}"
	return []route{
		{"GET /v1/openapi.json", h.answer(describe)},
		{"GET /v1/events", h.answer(h.listEvents)},
		{"GET /v1/events/stream", h.stream},
		{"GET /v1/events/{event}/content", h.answer(h.content)},
		{"GET /v1/stats", h.answer(h.stats)},
		{"GET /v1/targets", h.answer(h.listTargets)},
		{"GET " + letters, h.answer(h.list)},
		{"GET " + letters + "/count", h.answer(h.count)},
		{"GET " + letter, h.answer(h.show)},
		{"POST " + letters + "/replay", h.answer(h.replay)},
		{replayOne, h.answer(h.replay)},
		{"DELETE " + letters, h.answer(h.discard)},
		{"DELETE " + letter, h.answer(h.discard)},
	}
}

type handler struct {
	Options
	places, streams chan struct{}
}

// Problem is why a request is rejected. Clients return it as it was answered.
type Problem struct {
	// Status is that of the answer: 4xx, or 503 if Redis does not answer.
	Status int
	// Sentence is the reason, and the body of the answer.
	Sentence string
}

// Error implements error.
func (p Problem) Error() string { return p.Sentence }

// answer writes the result of f as JSON, or its error. If f has written its answer itself, it returns nil and nil.
func (h handler) answer(f func(http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case h.places <- struct{}{}:
			defer func() { <-h.places }()
		case <-r.Context().Done():
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		v, err := h.checked(f, w, r)
		var body []byte
		if err == nil && v != nil {
			body, err = json.Marshal(v, anyText)
		}
		switch {
		case err != nil:
			explain(w, err)
		case v != nil:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(append(body, '\n'))
		}
	}
}

// explain writes an error.
func explain(w http.ResponseWriter, err error) {
	if p, isProblem := errors.AsType[Problem](err); isProblem {
		http.Error(w, p.Sentence, p.Status)
		return
	}
	http.Error(w, err.Error(), http.StatusServiceUnavailable)
}

// anyText accepts invalid UTF-8 and duplicate names, which a body may contain; invalid bytes are replaced.
var anyText = json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))

func (h handler) checked(f func(http.ResponseWriter, *http.Request) (any, error), w http.ResponseWriter, r *http.Request) (any, error) {
	if strings.Contains(r.Pattern, "{target}") {
		if err := h.checkTarget(r.PathValue("target"), http.StatusNotFound); err != nil {
			return nil, err
		}
	}
	if err := checkBody(r); err != nil {
		return nil, err
	}
	return f(w, r)
}

// checkBody rejects a body where none is read: its sender expects it to select something.
func checkBody(r *http.Request) error {
	if r.ContentLength != 0 && r.Pattern != replayOne {
		return bad("This request takes no body: put the parameters into the URL, as in ?type=chat_closed&limit=1")
	}
	return nil
}

func (h handler) checkTarget(name string, otherwise int) error {
	if names := h.Names(); !slices.Contains(names, name) {
		return Problem{otherwise, "There is no such target. The targets are: " + strings.Join(names, ", ")}
	}
	return nil
}

func (h handler) listTargets(_ http.ResponseWriter, r *http.Request) (any, error) {
	if _, err := readQuery(r); err != nil {
		return nil, err
	}
	return h.Targets()
}

func (h handler) list(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := readQuery(r, slices.Concat(filters, []string{"after", "limit"})...)
	if err != nil {
		return nil, err
	}
	if q.limit > mostListed {
		return nil, limitProblem(mostListed)
	}
	if q.limit == 0 {
		q.limit = defaultListed
	}
	found, err := h.DeadLetters.ListDeadLetters(r.Context(), r.PathValue("target"), q.filter, q.limit)
	letters := make([]Letter, len(found))
	for i, l := range found {
		letters[i] = show(l)
	}
	return letters, err
}

func (h handler) count(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := readQuery(r, slices.Concat(filters, []string{"after"})...)
	if err != nil {
		return nil, err
	}
	n, err := h.DeadLetters.CountDeadLetters(r.Context(), r.PathValue("target"), q.filter)
	return Count{n}, err
}

func (h handler) show(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := readQuery(r)
	if err != nil {
		return nil, err
	}
	found, err := h.deadLetter(r, q.filter.Entry)
	if err != nil {
		return nil, err
	}
	letter := show(found)
	letter.Body, letter.BodyText = shownBody(found.Body)
	return letter, nil
}

// deadLetter reads one dead letter of the request's target. It returns errNoLetter if there is none of that entry.
func (h handler) deadLetter(r *http.Request, entry string) (delivery.DeadLetter, error) {
	found, ok, err := h.DeadLetters.DeadLetter(r.Context(), r.PathValue("target"), entry)
	if err == nil && !ok {
		err = errNoLetter
	}
	return found, err
}

// shownBody returns a body as JSON, or as text if it is not JSON.
func shownBody(body []byte) (jsontext.Value, string) {
	if value := jsontext.Value(body); value.IsValid(anyText) {
		return value, ""
	}
	return nil, string(body)
}

var errNoLetter = Problem{http.StatusNotFound, "There is no such dead letter. It may have been replayed, discarded or expired."}

func show(l delivery.DeadLetter) Letter {
	letter := Letter{
		Entry: l.Entry, Event: l.ID, Type: l.Type, AcceptedAt: l.AcceptedAt.UTC(), DiedAt: l.DiedAt.UTC(),
		Attempts: l.Attempts, Status: l.Status, Reason: l.Reason, Excerpt: l.Excerpt,
	}
	if !l.ReplayedAt.IsZero() {
		letter.ReplayedAt = l.ReplayedAt.UTC()
	}
	return letter
}
