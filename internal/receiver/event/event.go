// Package event knows what Heymarket sends: the envelope, its twelve types, and how two deliveries are told to be the
// same event. It is a leaf: it imports no other room.
package event

import (
	"cmp"
	"time"

	"heymarket.dev/operator/internal/contract"
)

// The twelve event types that Heymarket documents, in their spelling on the wire.
const (
	MessageSent               = "message_sent"
	MessageReceived           = "message_recieved" // Heymarket's own spelling
	ChatReassigned            = "chat_reassigned"
	ChatClosed                = "chat_closed"
	ChatOpened                = "chat_opened"
	ChatPending               = "chat_pending"
	ChatTransferred           = "chat_transferred"
	TargetOptOut              = "target_opt_out"
	TargetOptIn               = "target_opt_in"
	TargetDoubleOptIn         = "target_double_opt_in"
	TargetDoubleOptRestricted = "target_double_opt_restricted"
	IncomingCall              = "incoming_call"
)

// messageReceivedCorrected is how the provider's type would read without its misspelling. It is taken as MessageReceived,
// so that a correction at their end does not lose a single message at ours.
const messageReceivedCorrected = "message_received"

// Types are the documented types, in the order of the provider's reference.
func Types() []string {
	return []string{
		MessageSent, MessageReceived,
		ChatReassigned, ChatClosed, ChatOpened, ChatPending, ChatTransferred,
		TargetOptOut, TargetOptIn, TargetDoubleOptIn, TargetDoubleOptRestricted,
		IncomingCall,
	}
}

// WireType returns a type in its spelling on the wire.
func WireType(eventType string) string {
	if eventType == messageReceivedCorrected {
		return MessageReceived
	}
	return eventType
}

// subject is what the event_data of a type describes; it decides how deliveries are told apart.
type subject int

const (
	undocumented subject = iota
	message
	conversation
	consent
)

func subjectOf(eventType string) subject {
	switch eventType {
	case MessageSent, MessageReceived:
		return message
	case ChatReassigned, ChatClosed, ChatOpened, ChatPending, ChatTransferred:
		return conversation
	case TargetOptOut, TargetOptIn, TargetDoubleOptIn, TargetDoubleOptRestricted:
		return consent
	}
	return undocumented
}

// Lane is a way through store, delivery and retry of its own.
type Lane string

const (
	// General carries everything that has no lane of its own.
	General Lane = "general"
	// Consent carries opt-outs and opt-ins, so that no broadcast's backlog delays a withdrawal of consent.
	Consent Lane = "consent"
)

// Lanes are all lanes, the most urgent first.
func Lanes() []Lane { return []Lane{Consent, General} }

// LaneOf returns the lane in which events of a type travel.
func LaneOf(eventType string) Lane {
	if subjectOf(eventType) == consent {
		return Consent
	}
	return General
}

// Event is an accepted delivery on its way to the targets.
type Event struct {
	// ID is "evt_" and 26 characters: stable over the provider's retries, ours, and replays.
	ID string
	// Type is the type in its wire spelling.
	Type string
	// AcceptedAt is when the receiver took the event in, to the millisecond.
	AcceptedAt time.Time
	// ReplayedAt is when a person last put the event back into its queue, or zero.
	ReplayedAt time.Time
	// Body is what the provider sent, byte for byte, less the member that holds the token.
	Body []byte
	// Conversation identifies the conversation that the event belongs to, or is empty.
	Conversation string
	// Trace is a W3C traceparent, or empty.
	Trace string
	// TraceState and Baggage are the W3C headers that came with it, within their limits, or empty.
	TraceState, Baggage string
}

// QueuedAt is when the event last entered its queue: accepted, or replayed. Attempts are bounded in time from here on.
func (e Event) QueuedAt() time.Time {
	if e.ReplayedAt.After(e.AcceptedAt) {
		return e.ReplayedAt
	}
	return e.AcceptedAt
}

// Lease is an event lent by its queue to one consumer, until it is settled or the lease runs out.
type Lease struct {
	Event
	// Attempt is the number of the attempt that the lease is for, from 1. Attempts of crashed consumers count.
	Attempt int
	// Entry is where the queue keeps the event, and Bytes what it takes there. They mean something to the queue only.
	Entry string
	Bytes int
}

// DeadLetter is an event that was given up, with what is known of its end.
type DeadLetter struct {
	Event
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
}

// DeadLetterCount is what became of dead letters that were to be replayed or discarded.
type DeadLetterCount struct {
	// Taken were replayed or discarded. Skipped could not be replayed, because what Redis holds of them is no event.
	Taken, Skipped int
}

// Outcome is what became of one attempt to hand an event to a target.
type Outcome struct {
	// Status is the HTTP status of the answer, or 0 where there was none.
	Status int
	// RetryAfter is what the answer asked for in Retry-After, or 0.
	RetryAfter time.Duration
	// Excerpt is the beginning of the answer's body, at most 256 bytes; for the dead letters, never for logs.
	Excerpt string
	// Err says why there was no answer, without URL or body; nil where there was one.
	Err error
	// Class is that of Err; empty: contract.ErrorOther, or no error.
	Class contract.ErrorClass
}

// Delivered says whether the target took the event: any 2xx.
func (o Outcome) Delivered() bool { return o.Err == nil && o.Status >= 200 && o.Status <= 299 }

// ErrorClass is the class of a failed attempt; "" for a delivered event.
func (o Outcome) ErrorClass() contract.ErrorClass {
	switch {
	case o.Delivered():
		return ""
	case o.Err == nil:
		return contract.ClassOfStatus(o.Status)
	}
	return cmp.Or(o.Class, contract.ErrorOther)
}
