// Package delivery has the words in which store, workers, targets and the administrative API speak of handing an accepted
// event on: its lane, its lease, what became of an attempt, and the dead letter at the end. It is a leaf beside event.
package delivery

import "heymarket.dev/operator/internal/receiver/event"

// Lane is a separate path through store, delivery and retry.
type Lane string

const (
	// General carries everything that no other lane carries.
	General Lane = "general"
	// Consent carries opt-outs and opt-ins, so that no broadcast's backlog delays a withdrawal of consent.
	Consent Lane = "consent"
)

// Lanes are all lanes, the most urgent first.
func Lanes() []Lane { return []Lane{Consent, General} }

// LaneOf returns the lane in which events of a type travel.
func LaneOf(eventType string) Lane {
	if event.IsConsent(eventType) {
		return Consent
	}
	return General
}

// Lease is an event lent by its queue to one consumer, until it is settled or the lease runs out.
type Lease struct {
	event.Event
	// Attempt is the number of the attempt that the lease is for, from 1. Attempts of crashed consumers count.
	Attempt int
	// Entry is where the queue keeps the event, and Bytes what it takes there. They mean something to the queue only.
	Entry string
	Bytes int
}
