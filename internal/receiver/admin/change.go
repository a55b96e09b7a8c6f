package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"heymarket.dev/operator/internal/receiver/delivery"
)

// change replays or discards; it is one of the two methods of DeadLetters.
type change func(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error)

func (h handler) replay(w http.ResponseWriter, r *http.Request) (any, error) {
	if r.Pattern == replayOne && hasBody(r) {
		return h.replayEdited(w, r)
	}
	return h.change(w, r, h.DeadLetters.ReplayDeadLetters, replayed)
}

func replayed(c delivery.DeadLetterCount) Progress {
	return Progress{Replayed: c.Taken, Skipped: c.Skipped}
}

func (h handler) discard(w http.ResponseWriter, r *http.Request) (any, error) {
	return h.change(w, r, h.DeadLetters.DiscardDeadLetters, func(c delivery.DeadLetterCount) Progress {
		return Progress{Discarded: c.Taken}
	})
}

// change performs a request and writes a line after each page. Nothing is written before the first page is done: until
// then an error sets the status, and afterwards it is a line.
func (h handler) change(w http.ResponseWriter, r *http.Request, do change, line func(delivery.DeadLetterCount) Progress) (any, error) {
	q, err := readQuery(r, slices.Concat(filters, []string{"limit", "all"})...)
	if err != nil {
		return nil, err
	}
	one := q.filter.Entry != ""
	if !q.all && q.limit == 0 && q.filter == (delivery.DeadLetterFilter{}) {
		return nil, Problem{http.StatusBadRequest, "This would take every dead letter of the target: set " + strings.Join(filters, ", ") + " or limit, or all=true if that is intended."}
	}
	var last delivery.DeadLetterCount
	done, err := do(r.Context(), r.PathValue("target"), q.filter, q.limit, func(c delivery.DeadLetterCount) {
		if last != (delivery.DeadLetterCount{}) { // the counts of the previous page
			writeLine(w, line(last))
		}
		last = c
	})
	switch {
	case err != nil && done == (delivery.DeadLetterCount{}):
		return nil, err
	case one && done.Taken == 0 && done.Skipped == 0:
		return nil, errNoLetter
	}
	end := line(done)
	end.Finished = err == nil
	if err != nil {
		end.Error = err.Error()
	}
	writeLine(w, end)
	return nil, nil
}

func writeLine(w http.ResponseWriter, p Progress) {
	text, err := json.Marshal(p, anyText)
	if err != nil {
		return // a Progress can be encoded
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/jsonl")
	_, _ = w.Write(append(text, '\n'))
	_ = control.Flush()
}
