package stream

import (
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/receiver/event"
)

// The fields of an entry in a queue, and of a dead letter. They are named, not packed, so that a person can read them
// with redis-cli.
const (
	fieldID           = "id"
	fieldType         = "type"
	fieldAt           = "at" // Unix time in milliseconds
	fieldConversation = "conversation"
	fieldTrace        = "trace"
	fieldTraceState   = "tracestate"
	fieldBaggage      = "baggage"
	fieldBody         = "body"
	fieldReplayed     = "replayed" // Unix time in milliseconds; missing: never

	// Only in dead letters.
	fieldAttempts = "attempts"
	fieldStatus   = "status"
	fieldReason   = "reason"
	fieldExcerpt  = "excerpt"
)

const maxFields = 16 // names and values of an event

// encodeEvent appends e's fields to to, names and values. Empty optional ones are omitted.
func encodeEvent(to []string, e event.Event) []string {
	to = append(to, fieldID, e.ID, fieldType, e.Type, fieldAt, strconv.FormatInt(e.AcceptedAt.UnixMilli(), 10))
	if e.Conversation != "" {
		to = append(to, fieldConversation, e.Conversation)
	}
	for _, optional := range [...][2]string{{fieldTrace, e.Trace}, {fieldTraceState, e.TraceState}, {fieldBaggage, e.Baggage}} {
		if optional[1] != "" {
			to = append(to, optional[0], optional[1])
		}
	}
	return append(to, fieldBody, rueidis.BinaryString(e.Body))
}

// decodeEvent reads the fields of an entry. One without a time was not written by a receiver; it is treated as very old,
// so it is attempted once and then becomes a dead letter.
func decodeEvent(fields map[string]string) event.Event {
	e := event.Event{
		ID: fields[fieldID], Type: fields[fieldType], AcceptedAt: readTime(fields[fieldAt]),
		Conversation: fields[fieldConversation], Trace: fields[fieldTrace], TraceState: fields[fieldTraceState], Baggage: fields[fieldBaggage],
		Body: []byte(fields[fieldBody]),
	}
	if replayed := fields[fieldReplayed]; replayed != "" {
		e.ReplayedAt = readTime(replayed)
	}
	return e
}

// latest is the end of the year 9999; later times cannot be represented in JSON.
const latest = 253_402_300_799_999

// readTime parses milliseconds; invalid text yields the beginning of 1970.
func readTime(text string) time.Time {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 0 || ms > latest {
		ms = 0
	}
	return time.UnixMilli(ms)
}
