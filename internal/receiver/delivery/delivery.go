// Package delivery defines the types that store, workers, targets and the administrative API share for delivering an
// accepted event: its lane, its lease, the outcome of an attempt, and the dead letter at the end. It is a leaf beside
// event.
package delivery

import "heymarket.dev/operator/internal/receiver/event"

// Lane is a separate path through store, delivery and retry.
type Lane string

const (
	// General carries all events that no other lane carries.
	General Lane = "general"
	// Consent carries opt-outs and opt-ins, so that no broadcast's backlog delays a withdrawal of consent.
	Consent Lane = "consent"
)

// Lanes are all lanes, the most urgent first.
func Lanes() []Lane { return []Lane{Consent, General} }

// LaneOf returns the lane for events of a type.
func LaneOf(eventType string) Lane {
	if event.IsConsent(eventType) {
		return Consent
	}
	return General
}

// Lease is an event leased by its queue to one consumer, until it is settled or the lease expires.
type Lease struct {
	event.Event
	// Attempt is the number of the attempt that the lease is for, from 1. Attempts of crashed consumers count.
	Attempt int
	// Entry is the event's ID in the queue, and Bytes its size there. They are meaningful only to the queue.
	Entry string
	Bytes int
}
