package admin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/recent"
)

// Recent keeps the receiver's latest requests and attempts.
type Recent interface {
	Latest(sequence uint64, f recent.Filter, limit int) recent.Page
	After(sequence uint64, f recent.Filter, limit int) recent.Page
	Stats(targets []string) recent.Stats
}

// Contents finds stored events.
type Contents interface {
	// FindEvent returns an event that is pending for one of the targets, or one of their dead letters; false if there is none.
	FindEvent(ctx context.Context, targets []string, id string) (event.Event, bool, error)
}

// Content is the content of an event as Heymarket sent it, without the token.
type Content struct {
	Event string         `json:"event"`
	Type  string         `json:"type"`
	Body  jsontext.Value `json:"body,omitempty"`
	// BodyText is the body if it is not JSON.
	BodyText string `json:"bodyText,omitempty"`
}

// Events is the answer with the latest records.
type Events struct {
	// Sequence is that of the receiver's latest record; pass it to get the records after it.
	Sequence uint64 `json:"sequence"`
	// Gap reports that records after the requested sequence are no longer kept.
	Gap bool `json:"gap,omitzero"`
	// Events are ordered by sequence, the latest first.
	Events []recent.Record `json:"events"`
}

// Gap is the data of an event "gap" of a stream: records after the sequence After are no longer kept.
type Gap struct {
	After uint64 `json:"after"`
}

// GapEvent is the name of that event. The others have none.
const GapEvent = "gap"

// Stats are the figures of a receiver, with the backlog of its targets.
type Stats struct {
	recent.Stats
	// Waiting are the states of all targets, over all receivers; missing if Redis does not answer.
	Waiting []contract.TargetStatus `json:"waiting,omitempty"`
	// Error is why Waiting is missing.
	Error string `json:"error,omitempty"`
}

const (
	// mostStreams bounds concurrent streams.
	mostStreams = 16
	// KeepAlive is how often a comment is written to an idle stream.
	KeepAlive = 15 * time.Second
	// streamPause lets records accumulate, so that a stream under load costs little.
	streamPause = 50 * time.Millisecond
	// streamPage bounds the records that are written at once.
	streamPage = 250
	// streamTimeout is how long a client may take to read them. A slower one is disconnected.
	streamTimeout = 10 * time.Second
)

// eventQuery reads the parameters of a request for events.
func (h handler) eventQuery(r *http.Request, allowed ...string) (query, recent.Filter, error) {
	q, err := readQuery(r, append(allowed, "event", "type", "target", "outcome", "since")...)
	if err == nil && q.target != "" {
		err = h.checkTarget(q.target, http.StatusBadRequest)
	}
	return q, recent.Filter{Event: q.event, Type: q.filter.Type, Target: q.target, Outcome: q.outcome}, err
}

func (h handler) listEvents(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, filter, err := h.eventQuery(r, "limit")
	switch {
	case err != nil:
		return nil, err
	case q.limit > recent.Kept:
		return nil, limitProblem(recent.Kept)
	case q.limit == 0:
		q.limit = defaultListed
	}
	page := h.Recent.Latest(q.since, filter, q.limit)
	return Events{Sequence: page.Next, Gap: page.Gap, Events: page.Records}, nil
}

func (h handler) content(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := readQuery(r)
	if err == nil {
		err = q.set("event", r.PathValue("event"))
	}
	if err != nil {
		return nil, err
	}
	found, ok, err := h.Contents.FindEvent(r.Context(), h.Names(), q.event)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, Problem{http.StatusNotFound, "The content of this event is no longer stored: no target waits for it, and it is not a dead letter."}
	}
	c := Content{Event: found.ID, Type: found.Type}
	c.Body, c.BodyText = shownBody(found.Body)
	return c, nil
}

func (h handler) stats(_ http.ResponseWriter, r *http.Request) (any, error) {
	if _, err := readQuery(r); err != nil {
		return nil, err
	}
	s := Stats{Stats: h.Recent.Stats(h.Names())}
	var err error
	if s.Waiting, err = h.Targets(); err != nil {
		s.Error = err.Error()
	}
	return s, nil
}

// stream writes records as they are added, as server-sent events whose IDs are sequences. It starts after the sequence in since,
// or in the header Last-Event-ID, by which a client resumes; without either, with the next record. No records are buffered for a
// client: one that is too slow is disconnected, or gets a gap.
func (h handler) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default:
		http.Error(w, fmt.Sprintf("There are %d streams already. Close one of them.", mostStreams), http.StatusTooManyRequests)
		return
	}
	q, filter, err := h.eventQuery(r)
	if noBody := checkBody(r); noBody != nil {
		err = noBody
	}
	if last := r.Header.Get("Last-Event-ID"); err == nil && last != "" {
		err = q.set("since", last)
	}
	if err == nil && q.since == 0 {
		q.since = h.Recent.Latest(0, filter, 0).Next
	}
	if err != nil {
		explain(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	text := bytes.NewBufferString(": open\n\n")
	for {
		page := h.Recent.After(q.since, filter, streamPage)
		if page.Gap {
			data, _ := json.Marshal(Gap{q.since}) // cannot fail
			fmt.Fprintf(text, "event: %s\ndata: %s\n\n", GapEvent, data)
		}
		for i := range page.Records {
			data, _ := json.Marshal(&page.Records[i]) // its text is valid
			fmt.Fprintf(text, "id: %d\ndata: %s\n\n", page.Records[i].Sequence, data)
		}
		q.since = page.Next
		if text.Len() > 0 && !send(w, text) {
			return
		}
		if !await(r.Context(), page.Changed) {
			if r.Context().Err() != nil {
				return
			}
			text.WriteString(": keep-alive\n\n")
		}
	}
}

// send writes the buffered text to a stream, and reports whether the client has read it in time.
func send(w http.ResponseWriter, text *bytes.Buffer) bool {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(streamTimeout))
	if _, err := text.WriteTo(w); err != nil {
		return false
	}
	return control.Flush() == nil
}

// await waits for changed, and then lets more records accumulate. It returns false if nothing has changed for KeepAlive, or ctx
// has ended.
func await(ctx context.Context, changed <-chan struct{}) bool {
	silent := time.NewTimer(KeepAlive)
	defer silent.Stop()
	select {
	case <-changed:
	case <-silent.C:
		return false
	case <-ctx.Done():
		return false
	}
	select {
	case <-time.After(streamPause):
		return true
	case <-ctx.Done():
		return false
	}
}
