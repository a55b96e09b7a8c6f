package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

// ErrQuota is returned by DeadLetters.ReplayEdited when the webhook would have more bytes in Redis than it may have. The letter stays.
var ErrQuota = errors.New("the webhook would have more bytes in Redis than it may have")

// replayOne is the only route whose requests may have a body, which replaces that of the letter.
const replayOne = "POST /v1/targets/{target}/dead-letters/{entry}/replay"

// hasBody reports whether a request has or intends to have a body: an empty file must not replay the letter unchanged.
func hasBody(r *http.Request) bool { return r.ContentLength != 0 || r.Header.Get("Content-Type") != "" }

// replayEdited replays one letter with the body of the request, checked as if it had been delivered.
func (h handler) replayEdited(w http.ResponseWriter, r *http.Request) (any, error) {
	q, err := readQuery(r)
	if err != nil {
		return nil, err
	}
	text, err := readEdited(w, r, h.MaxBodyBytes())
	if err != nil {
		return nil, err
	}
	letter, err := h.deadLetter(r, q.filter.Entry)
	if err != nil {
		return nil, err
	}
	body, err := event.Edit(letter.Event, text)
	if err != nil {
		return nil, bad("The edited event is rejected: %s.", err)
	}
	return h.change(w, r, func(ctx context.Context, target string, f delivery.DeadLetterFilter, _ int, _ func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error) {
		count, err := h.DeadLetters.ReplayEdited(ctx, target, f.Entry, body)
		if errors.Is(err, ErrQuota) {
			err = Problem{http.StatusConflict, "The edited event is larger, and the webhook has as many bytes in Redis as it may have: replay or discard other dead letters first."}
		}
		return count, err
	}, replayed)
}

// readEdited reads a JSON body of up to most bytes, the bound for events from Heymarket.
func readEdited(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return nil, Problem{http.StatusUnsupportedMediaType, "The body is the edited event: send it with Content-Type: application/json, or leave it out to replay the event as it is."}
	}
	tooLarge := Problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("The edited event is larger than the %d bytes that receivers of this webhook accept.", most)}
	if r.ContentLength > most {
		return nil, tooLarge
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTimeout))
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	_ = control.SetReadDeadline(time.Time{}) // or it would interrupt the following work
	if _, longer := errors.AsType[*http.MaxBytesError](err); longer {
		return nil, tooLarge
	}
	switch {
	case err != nil:
		return nil, bad("The body could not be read.")
	case len(text) == 0:
		return nil, bad("The body is empty: send the edited event, or leave out Content-Type to replay the event as it is.")
	}
	return text, nil
}
