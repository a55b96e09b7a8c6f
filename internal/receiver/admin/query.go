package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/recent"
)

const (
	defaultListed = 100
	mostListed    = 1000
	mostTaken     = 1_000_000_000
	mostText      = 256
)

// filters are the parameters that select dead letters.
var filters = []string{"type", "status", "reason", "text", "diedSince", "diedUntil"}

// query selects the letters or events of a request.
type query struct {
	filter delivery.DeadLetterFilter
	limit  int // 0: none
	all    bool
	// event, target, outcome and since apply to requests for events.
	event, target string
	outcome       recent.Outcome
	since         uint64
}

// readQuery reads the path and the parameters of a request. These calls destroy or resend events, so nothing is
// guessed: a parameter that is unknown, empty, repeated or malformed is an error, and never treated as missing.
func readQuery(r *http.Request, allowed ...string) (q query, err error) {
	if _, named := pathEntry(r); named {
		q.filter.Entry, allowed = r.PathValue("entry"), nil
		if !isEntry(q.filter.Entry) {
			return q, bad("The ID of a dead letter has the form 1700000000000-0.")
		}
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, bad("The parameters cannot be read: separate them by & and percent-encode other characters.")
	}
	for name, given := range values {
		switch {
		case !slices.Contains(allowed, name) && len(allowed) == 0:
			return q, bad("This request takes no parameters, not even %q.", name)
		case !slices.Contains(allowed, name):
			return q, bad("There is no parameter %q here. The parameters are: %s.", name, strings.Join(allowed, ", "))
		case len(given) > 1:
			return q, bad("The parameter %s is given %d times: give it once.", name, len(given))
		case given[0] == "":
			return q, bad("The parameter %s is empty: give it a value or leave it out.", name)
		}
		if err := q.set(name, given[0]); err != nil {
			return q, err
		}
	}
	if q.all && len(values) > 1 {
		return q, bad("all=true means every dead letter of the target: leave out the other parameters, or leave out all.")
	}
	return q, nil
}

func pathEntry(r *http.Request) (string, bool) {
	return r.PathValue("entry"), strings.Contains(r.Pattern, "{entry}")
}

func (q *query) set(name, value string) (err error) {
	switch name {
	case "type":
		q.filter.Type = event.WireType(value)
		if !event.IsTypeName(q.filter.Type) {
			return bad("type is an event type such as %s.", event.ChatClosed)
		}
	case "status":
		status, err := strconv.ParseUint(value, 10, 16)
		if err != nil || status != 0 && (status < 100 || status > 999) {
			return bad("status is an HTTP status such as 422, or 0 for letters that never got an answer.")
		}
		q.filter.Status = new(int(status))
	case "reason", "text":
		if len(value) > mostText || strings.TrimSpace(value) == "" { // nearly every body contains a space
			return bad("%s is a text of up to %d bytes, and not only spaces.", name, mostText)
		}
		if name == "reason" {
			q.filter.Reason = value
		} else {
			q.filter.Text = value
		}
	case "diedSince", "diedUntil":
		at, err := time.Parse(time.RFC3339, value)
		if err != nil || at.Unix() < 0 {
			return bad("%s is a time such as 2026-11-21T12:00:00Z.", name)
		}
		if name == "diedSince" {
			q.filter.Since = at
		} else {
			q.filter.Until = at
		}
	case "after":
		q.filter.After = value
		if !isEntry(value) {
			return bad("after is the ID of a dead letter, such as 1700000000000-0.")
		}
	case "limit":
		limit, err := strconv.ParseUint(value, 10, 32)
		if q.limit = int(limit); err != nil || limit < 1 || limit > mostTaken {
			return limitProblem(mostTaken)
		}
	case "event":
		if q.event = value; !eventPattern.MatchString(value) {
			return bad("event is the ID of an event, such as evt_abcdefghijklmnopqrstuvwxyz.")
		}
	case "target":
		q.target = value // the handler checks that it exists
	case "outcome":
		if q.outcome = recent.Outcome(value); !slices.Contains(recent.Outcomes(), q.outcome) {
			return bad("outcome is one of %s.", strings.Join(recent.OutcomeNames(), ", "))
		}
	case "since":
		if q.since, err = strconv.ParseUint(value, 10, 53); err != nil {
			return bad("since is the sequence of an event that was listed before.")
		}
	case "all":
		if q.all = value == "true"; !q.all {
			return bad("all is true or left out.")
		}
	}
	return nil
}

func limitProblem(most int) error { return bad("limit is a number from 1 to %d.", most) }

func bad(format string, args ...any) error {
	return Problem{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

var eventPattern = regexp.MustCompile(`^evt_[a-z2-7]{26}$`)

var entryPattern = regexp.MustCompile(`^([0-9]{1,20})-([0-9]{1,20})$`)

// isEntry reports whether text is the ID of a stream entry: two numbers of 64 bits.
func isEntry(text string) bool {
	parts := entryPattern.FindStringSubmatch(text)
	if parts == nil {
		return false
	}
	for _, part := range parts[1:] {
		if _, err := strconv.ParseUint(part, 10, 64); err != nil {
			return false
		}
	}
	return true
}
