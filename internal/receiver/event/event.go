// Package event models what Heymarket sends: the envelope, its twelve types, and when two deliveries are the same event.
// It is a leaf: it imports no other package of the receiver.
package event

import "time"

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

// subject is what the event_data of a type describes; it decides how repeats are recognized.
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

// IsConsent reports whether a type says that a person withdraws or gives consent to messages.
func IsConsent(eventType string) bool { return subjectOf(eventType) == consent }

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
