package delivery

import (
	"time"

	"heymarket.dev/operator/internal/receiver/event"
)

// DeadLetter is an event that was given up, with what is known of its end.
type DeadLetter struct {
	event.Event
	// Entry is where the dead letters keep it.
	Entry string
	// Attempts that were made, and the Status and Excerpt of the last answer; 0 and empty where there was none.
	Attempts, Status int
	Excerpt          string
	// Reason is one sentence.
	Reason string
	DiedAt time.Time
}

// DeadLetterFilter describes dead letters of one target; its zero value describes all of them.
type DeadLetterFilter struct {
	// Entry, when set, is the one that is meant; After, when set, the one behind which they begin.
	Entry, After string
	// Type is that of the event; empty: any.
	Type string
	// Status is that of the last answer, 0 for none; nil: any.
	Status *int
	// Reason and Text, when set, are contained in the reason and in the body. ASCII letter case does not count.
	Reason, Text string
	// Since and Until, when set, bound when the letter died, both included, to the millisecond.
	Since, Until time.Time
}

// DeadLetterCount is what became of dead letters that were to be replayed or discarded.
type DeadLetterCount struct {
	// Taken were replayed or discarded. Skipped could not be replayed, because what Redis holds of them is no event.
	Taken, Skipped int
}
