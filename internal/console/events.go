package console

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"heymarket.dev/operator/internal/receiver/recent"
)

const (
	// keptEvents bounds the events of one webhook, and keptSteps the steps of one event.
	keptEvents = 1500
	keptSteps  = 60
)

// shownEvent is a request from Heymarket with all resulting attempts and repeats.
type shownEvent struct {
	// Key is the ID of its element in pages, and ID that of the event; "" if the request could not be read that far.
	Key, ID, Type string
	At            time.Time
	// Request is the request's record; nil: only attempts are known.
	Request *recent.Record
	// Steps are attempts and repeats, the oldest first, the last keptSteps of them. Last is the last one for each
	// target.
	Steps []recent.Record
	Last  map[string]recent.Record

	added, changed uint64 // numbers of the watcher's changes
}

var eventPattern = regexp.MustCompile(`^evt_[a-z2-7]{26}$`)

func (e *shownEvent) add(r recent.Record) {
	switch {
	case r.Outcome.OfRequest() && e.Request == nil && (r.Outcome != recent.Duplicate || e.ID == ""):
		e.Request, e.At = &r, r.Time
		return
	case r.Target != "" && !r.Outcome.OfRequest():
		e.Last[r.Target] = r
	}
	if e.At.IsZero() {
		e.At = r.Time
	}
	if e.Steps = append(e.Steps, r); len(e.Steps) > keptSteps {
		e.Steps = slices.Delete(e.Steps, 0, len(e.Steps)-keptSteps)
	}
}

// copied returns a copy of e, for a reader without the lock.
func (e *shownEvent) copied() *shownEvent {
	c := *e
	c.Steps, c.Last = slices.Clone(e.Steps), maps.Clone(e.Last)
	return &c
}

// The states of an event.
const (
	stateDelivered = "delivered"
	stateRetrying  = "retrying"
	stateDead      = "dead letter"
	stateQueued    = "queued"
)

var states = []string{stateDelivered, stateQueued, stateRetrying, stateDead, string(recent.Duplicate), string(recent.Ignored), string(recent.Refused)}

// State returns the state of the event in one word: with several targets, the worst of them.
func (e *shownEvent) State() string {
	delivered, retrying := 0, false
	for _, r := range e.Last {
		switch r.Outcome {
		case recent.DeadLetter:
			return stateDead
		case recent.Delivered, recent.Superseded:
			delivered++
		default:
			retrying = true
		}
	}
	switch {
	case retrying:
		return stateRetrying
	case e.Request != nil && e.Request.Outcome != recent.Stored:
		return string(e.Request.Outcome)
	case delivered > 0 && (e.Request == nil || delivered >= len(e.Request.Targets)):
		return stateDelivered
	}
	return stateQueued
}

// Has reports whether the event involves a target.
func (e *shownEvent) Has(target string) bool {
	_, attempted := e.Last[target]
	return attempted || e.Request != nil && (slices.Contains(e.Request.Targets, target) || slices.Contains(e.Request.Filtered, target))
}

// Waiting returns the last attempt for each target at which the event will be retried.
func (e *shownEvent) Waiting() (all []recent.Record) {
	for _, r := range e.Last {
		if r.Outcome == recent.Retry {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b recent.Record) int { return a.RetryAt.Compare(b.RetryAt) })
	return all
}

// says returns a sentence about a record, without its target.
func says(r recent.Record) string {
	because := ""
	if r.Reason != "" {
		because = ": " + r.Reason
	} else if r.Error != "" {
		because = ": " + string(r.Error)
	}
	switch r.Outcome {
	case recent.Stored:
		return "Accepted and stored"
	case recent.Duplicate:
		return "Repeat accepted, already stored"
	case recent.Ignored:
		if len(r.Filtered) > 0 {
			return "Ignored: no target's filter wants it"
		}
		return "Ignored: no target wants this type"
	case recent.Refused:
		return "Rejected" + because
	case recent.Delivered:
		return "Delivered"
	case recent.Retry:
		return fmt.Sprintf("Failed%s; next attempt at %s", because, r.RetryAt.Local().Format(time.TimeOnly))
	case recent.DeadLetter:
		return "Given up" + because
	case recent.Interrupted:
		return "Interrupted by a shutdown; tried again at once"
	case recent.Unsettled:
		return "Redis did not confirm the result; delivered again with the same ID"
	case recent.Superseded:
		return "Another attempt had already decided"
	}
	return string(r.Outcome)
}

// filter selects events; its zero value selects all of them.
type filter struct{ Type, Target, State, ID string }

func (f filter) matches(e *shownEvent) bool {
	return (f.Type == "" || e.Type == f.Type) && (f.Target == "" || e.Has(f.Target)) && (f.State == "" || e.State() == f.State) && (f.ID == "" || e.ID == f.ID)
}
