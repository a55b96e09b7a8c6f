// Package event models Heymarket's events: the envelope, the twelve types, and the rules by which two deliveries are the
// same event. It is a leaf: it imports no other package of the receiver.
package event

import "time"

// The twelve event types that Heymarket documents, in their wire spelling.
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

// messageReceivedCorrected is the provider's misspelled type without the misspelling. It is accepted as MessageReceived,
// so that no message is lost if the provider corrects it.
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

// WireType returns a type in its wire spelling.
func WireType(eventType string) string {
	if eventType == messageReceivedCorrected {
		return MessageReceived
	}
	return eventType
}

// subject is the kind of object that the event_data of a type describes; it decides how repeats are recognized.
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

// IsConsent reports whether a type records that a person gives or withdraws consent to messages.
func IsConsent(eventType string) bool { return subjectOf(eventType) == consent }

// Event is an accepted delivery on its way to the targets.
type Event struct {
	// ID is "evt_" and 26 characters: stable across the provider's retries, the receiver's, and replays.
	ID string
	// Type is the type in its wire spelling.
	Type string
	// AcceptedAt is when the receiver accepted the event, to the millisecond.
	AcceptedAt time.Time
	// ReplayedAt is when a person last put the event back into its queue, or zero.
	ReplayedAt time.Time
	// Body is the provider's request body, byte for byte, without the member that holds the token.
	Body []byte
	// Conversation identifies the conversation that the event belongs to, or is empty.
	Conversation string
	// Trace is a W3C traceparent, or empty.
	Trace string
	// TraceState and Baggage are the W3C headers that came with it, within their limits, or empty.
	TraceState, Baggage string
}

// QueuedAt returns when the event last entered its queue: accepted or replayed. The time limit for attempts starts here.
func (e Event) QueuedAt() time.Time {
	if e.ReplayedAt.After(e.AcceptedAt) {
		return e.ReplayedAt
	}
	return e.AcceptedAt
}
