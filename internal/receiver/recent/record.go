package recent

import (
	"slices"
	"time"

	"heymarket.dev/operator/internal/contract"
)

// Outcome is the outcome of a request, or of an attempt including its decision.
type Outcome string

// The outcomes. The first group applies to requests, with the names used in metrics, the second to attempts.
const (
	Stored    Outcome = "stored"
	Duplicate Outcome = "duplicate"
	Ignored   Outcome = "ignored"
	Refused   Outcome = "refused"

	Delivered Outcome = "delivered"
	// Retry means another attempt at Record.RetryAt.
	Retry Outcome = "retry"
	// DeadLetter means that the event was given up.
	DeadLetter Outcome = "dead_letter"
	// Interrupted means that a shutdown cut the attempt short: it does not count, and any receiver may start another at once.
	Interrupted Outcome = "interrupted"
	// Unsettled means that Redis did not confirm the decision: the event will be delivered again under its ID.
	Unsettled Outcome = "unsettled"
	// Superseded means that another attempt had already settled the event.
	Superseded Outcome = "superseded"
)

// Outcomes are all outcomes.
func Outcomes() []Outcome {
	return []Outcome{Stored, Duplicate, Ignored, Refused, Delivered, Retry, DeadLetter, Interrupted, Unsettled, Superseded}
}

// OutcomeNames are all outcomes as strings.
func OutcomeNames() (names []string) {
	for _, o := range Outcomes() {
		names = append(names, string(o))
	}
	return names
}

// OfRequest reports whether the outcome is one of a request; the others are of attempts.
func (o Outcome) OfRequest() bool {
	return o == Stored || o == Duplicate || o == Ignored || o == Refused
}

// Record is one answered request, or one delivery attempt. It holds no content.
type Record struct {
	// Sequence increases from record to record of a receiver, across restarts, and is below 2^53.
	Sequence uint64 `json:"sequence"`
	// Receiver is the Pod's name.
	Receiver string `json:"receiver"`
	// Time is when the request was answered, or when the attempt was settled.
	Time    time.Time `json:"time"`
	Outcome Outcome   `json:"outcome"`
	// Event and Type are missing if the request could not be read that far, and Event if no target accepts the type.
	Event string `json:"event,omitempty"`
	Type  string `json:"type,omitempty"`
	// Status is the answer to Heymarket, or the target's answer; 0: it did not answer, or was not called.
	Status int `json:"status"`
	// TookMS is in milliseconds, to the microsecond.
	TookMS float64 `json:"tookMs"`
	// Reason is a code for a refused request, or a sentence for an event that was given up, at most 80 bytes.
	Reason string `json:"reason,omitempty"`

	// Targets are those that the event was stored for; Filtered are those whose filter rejected it.
	Targets  []string `json:"targets,omitempty"`
	Filtered []string `json:"filtered,omitempty"`

	// Target is the target of an attempt; Attempt is its number, from 1; 0: the event was given up without one.
	Target  string              `json:"target,omitempty"`
	Attempt int                 `json:"attempt,omitzero"`
	Error   contract.ErrorClass `json:"error,omitempty"`
	RetryAt time.Time           `json:"retryAt,omitzero"`
}

// Filter selects records; its zero value selects all of them.
type Filter struct {
	Event, Type string
	// Target is the target of an attempt, or one that a request was stored or filtered for.
	Target  string
	Outcome Outcome
}

const (
	mostTargets = 16
	idBytes     = 30
	typeBytes   = 64
	reasonBytes = 80
)

// slot is a Record in its stored form. It holds no pointer into a request, an answer or a configuration, so its memory use is
// its size.
type slot struct {
	sequence uint64
	at       int64 // Unix time in microseconds
	class    contract.ErrorClass
	took     uint32 // microseconds
	delay    uint32 // milliseconds until the next attempt
	status   uint16
	attempt  uint16
	outcome  uint8 // index in outcomes

	idLength, typeLength, reasonLength uint8

	stored, filtered uint8 // how many of targets
	targets          [mostTargets]uint8
	id               [idBytes]byte
	eventType        [typeBytes]byte
	reason           [reasonBytes]byte
}

var outcomes = Outcomes()

func (s *slot) setEvent(id, eventType string) {
	s.idLength, s.typeLength = uint8(copy(s.id[:], id)), uint8(copy(s.eventType[:], eventType))
}

func (s *slot) matches(f Filter, target int) bool {
	return (f.Outcome == "" || outcomes[s.outcome] == f.Outcome) &&
		(f.Event == "" || string(s.id[:s.idLength]) == f.Event) &&
		(f.Type == "" || string(s.eventType[:s.typeLength]) == f.Type) &&
		(f.Target == "" || target >= 0 && s.has(uint8(target)))
}

func (s *slot) has(target uint8) bool {
	return slices.Contains(s.targets[:s.stored+s.filtered], target)
}
