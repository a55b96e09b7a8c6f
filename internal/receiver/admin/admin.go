// Package admin serves the dead letters to people: list, show, replay, discard. It asks nobody who they are, so its
// listener is bound to localhost of the Pod; kubectl port-forward leads there, and Kubernetes decides who may use that.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"heymarket.dev/operator/internal/receiver/event"
)

// DeadLetters keeps events that were given up.
type DeadLetters interface {
	// DeadLetters returns up to limit dead letters of a target that match, the oldest first, behind the entry after.
	DeadLetters(ctx context.Context, target, after string, limit int, match func(event.DeadLetter) bool) ([]event.DeadLetter, error)
	// Replay puts letters back into their queues and Discard removes them; both return how many.
	Replay(ctx context.Context, target string, letters []event.DeadLetter) (int, error)
	Discard(ctx context.Context, target string, letters []event.DeadLetter) (int, error)
}

const (
	defaultLimit = 100
	maxLimit     = 1000
	// all is how many letters one replay or discard without a limit takes.
	all = 1_000_000
)

// Letter is a dead letter as it is shown. The body, which is people's text, is shown only when one letter is asked for.
type Letter struct {
	Entry      string         `json:"entry"`
	Event      string         `json:"event"`
	Type       string         `json:"type"`
	AcceptedAt time.Time      `json:"acceptedAt"`
	DiedAt     time.Time      `json:"diedAt"`
	Attempts   int            `json:"attempts"`
	Status     int            `json:"status,omitzero"`
	Reason     string         `json:"reason"`
	Excerpt    string         `json:"excerpt,omitempty"`
	Body       jsontext.Value `json:"body,omitempty"`
}

// Done says how many letters were replayed or discarded.
type Done struct {
	Replayed  int `json:"replayed,omitzero"`
	Discarded int `json:"discarded,omitzero"`
}

// Handler serves
//
//	GET    /targets/{target}/dead-letters            ?type= ?status= ?after= ?limit=   a list, the oldest first
//	GET    /targets/{target}/dead-letters/{entry}                                      one, with its body
//	POST   /targets/{target}/dead-letters/replay     ?type= ?status= ?limit=           replay those that match
//	POST   /targets/{target}/dead-letters/{entry}/replay                               replay one
//	DELETE /targets/{target}/dead-letters            ?type= ?status= ?limit= ?all=true discard those that match
//	DELETE /targets/{target}/dead-letters/{entry}                                      discard one
//
// A replay with a small limit is a canary: the oldest go first, and the rest stay. To discard everything takes all=true.
// Targets returns the names that exist.
func Handler(d DeadLetters, targets func() []string) http.Handler {
	h := handler{d, targets}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /targets/{target}/dead-letters", h.answer(h.list))
	mux.HandleFunc("GET /targets/{target}/dead-letters/{entry}", h.answer(h.show))
	mux.HandleFunc("POST /targets/{target}/dead-letters/replay", h.answer(h.replay))
	mux.HandleFunc("POST /targets/{target}/dead-letters/{entry}/replay", h.answer(h.replay))
	mux.HandleFunc("DELETE /targets/{target}/dead-letters", h.answer(h.discard))
	mux.HandleFunc("DELETE /targets/{target}/dead-letters/{entry}", h.answer(h.discard))
	return mux
}

type handler struct {
	letters DeadLetters
	targets func() []string
}

// problem is an error that is the asker's to mend.
type problem struct {
	status int
	text   string
}

func (p problem) Error() string { return p.text }

func (h handler) answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(h.targets(), r.PathValue("target")) {
			http.Error(w, "There is no such target; there are: "+strings.Join(h.targets(), ", "), http.StatusNotFound)
			return
		}
		v, err := f(r)
		if p, ok := errors.AsType[problem](err); ok {
			http.Error(w, p.text, p.status)
			return
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.MarshalWrite(w, v, jsontext.WithIndent("  "))
	}
}

func (h handler) list(r *http.Request) (any, error) {
	found, err := h.find(r, defaultLimit, maxLimit)
	letters := make([]Letter, len(found))
	for i, l := range found {
		letters[i] = show(l)
	}
	return letters, err
}

func (h handler) show(r *http.Request) (any, error) {
	found, err := h.find(r, 1, 1)
	if err != nil {
		return nil, err
	}
	letter := show(found[0])
	if body := jsontext.Value(found[0].Body); body.IsValid() {
		letter.Body = body
	}
	return letter, nil
}

func (h handler) replay(r *http.Request) (any, error) {
	found, err := h.find(r, all, all)
	if err != nil {
		return nil, err
	}
	n, err := h.letters.Replay(r.Context(), r.PathValue("target"), found)
	return Done{Replayed: n}, err
}

func (h handler) discard(r *http.Request) (any, error) {
	if r.PathValue("entry") == "" && r.URL.RawQuery == "" {
		return nil, problem{http.StatusBadRequest, "This would discard every dead letter of the target. Say type, status or limit, or all=true."}
	}
	found, err := h.find(r, all, all)
	if err != nil {
		return nil, err
	}
	n, err := h.letters.Discard(r.Context(), r.PathValue("target"), found)
	return Done{Discarded: n}, err
}

// find returns the one letter that the path names, or those that the query describes.
func (h handler) find(r *http.Request, limit, most int) ([]event.DeadLetter, error) {
	target := r.PathValue("target")
	if entry := r.PathValue("entry"); entry != "" {
		found, err := h.letters.DeadLetters(r.Context(), target, "", 1, func(l event.DeadLetter) bool { return l.Entry == entry })
		if err == nil && len(found) == 0 {
			err = problem{http.StatusNotFound, "There is no such dead letter; it may have been replayed or discarded."}
		}
		return found, err
	}
	q, err := readQuery(r.URL.Query(), limit, most)
	if err != nil {
		return nil, err
	}
	return h.letters.DeadLetters(r.Context(), target, q.after, q.limit, q.match)
}

type query struct {
	after, eventType string
	status, limit    int
}

func readQuery(v url.Values, limit, most int) (q query, err error) {
	for name := range v {
		if !slices.Contains([]string{"after", "all", "type", "status", "limit"}, name) {
			return q, problem{http.StatusBadRequest, fmt.Sprintf("There is no parameter %q; there are: type, status, after, limit.", name)}
		}
	}
	q = query{after: v.Get("after"), eventType: v.Get("type"), status: -1, limit: limit}
	if s := v.Get("status"); s != "" {
		if q.status, err = strconv.Atoi(s); err != nil || q.status < 0 {
			return q, problem{http.StatusBadRequest, "status is an HTTP status such as 422, or 0 for letters that never got an answer."}
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.limit, err = strconv.Atoi(s); err != nil || q.limit < 1 || q.limit > most {
			return q, problem{http.StatusBadRequest, fmt.Sprintf("limit is a number from 1 to %d.", most)}
		}
	}
	return q, nil
}

func (q query) match(l event.DeadLetter) bool {
	return (q.eventType == "" || q.eventType == l.Type) && (q.status < 0 || q.status == l.Status)
}

func show(l event.DeadLetter) Letter {
	return Letter{
		Entry: l.Entry, Event: l.ID, Type: l.Type, AcceptedAt: l.AcceptedAt.UTC(), DiedAt: l.DiedAt.UTC(),
		Attempts: l.Attempts, Status: l.Status, Reason: l.Reason, Excerpt: l.Excerpt,
	}
}
