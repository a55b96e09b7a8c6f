package delivery

import (
	"time"

	"heymarket.dev/operator/internal/receiver/event"
)

// DeadLetter is an event that was given up, with the outcome of its last attempt.
type DeadLetter struct {
	event.Event
	// Entry is its ID among the dead letters.
	Entry string
	// Attempts is how many attempts were made; Status and Excerpt are those of the last answer, 0 and empty if there
	// was none.
	Attempts, Status int
	Excerpt          string
	// Reason is one sentence.
	Reason string
	DiedAt time.Time
}

// DeadLetterFilter selects dead letters of one target; its zero value selects all of them.
type DeadLetterFilter struct {
	// Entry, when set, selects one dead letter; After, when set, selects those after it.
	Entry, After string
	// Type is the event type; empty: any.
	Type string
	// Status is the last status, 0 if there was no answer; nil: any.
	Status *int
	// Reason and Text, when set, are contained in the reason and in the body. ASCII letter case is ignored.
	Reason, Text string
	// Since and Until, when set, bound the time of death, both inclusive, to the millisecond.
	Since, Until time.Time
}

// DeadLetterCount is the result of a replay or discard.
type DeadLetterCount struct {
	// Taken were replayed or discarded. Skipped could not be replayed, because their data in Redis is not an event.
	Taken, Skipped int
}
