package delivery

import (
	"cmp"
	"strconv"
	"time"

	"heymarket.dev/operator/internal/contract"
)

// Outcome is the outcome of one delivery attempt.
type Outcome struct {
	// Status is the HTTP status of the answer, or 0 if there was none.
	Status int
	// RetryAfter is the delay requested by Retry-After, or 0.
	RetryAfter time.Duration
	// Excerpt is the beginning of the answer's body, at most 256 bytes; for the dead letters, never for logs.
	Excerpt string
	// Err is why there was no answer, without URL or body; nil if there was one.
	Err error
	// Class is the class of Err; empty: contract.ErrorOther, or no error.
	Class contract.ErrorClass
}

// Delivered reports whether the target accepted the event: any 2xx.
func (o Outcome) Delivered() bool { return o.Err == nil && o.Status >= 200 && o.Status <= 299 }

// ErrorClass returns the class of a failed attempt; "" for a delivered event.
func (o Outcome) ErrorClass() contract.ErrorClass {
	switch {
	case o.Delivered():
		return ""
	case o.Err == nil:
		return contract.ClassOfStatus(o.Status)
	}
	return cmp.Or(o.Class, contract.ErrorOther)
}

// Failure returns the status of a failed attempt, or the class of its error, for a sentence.
func (o Outcome) Failure() string {
	switch class := o.ErrorClass(); {
	case o.Err == nil:
		return strconv.Itoa(o.Status)
	case class == contract.ErrorOther:
		return "an error"
	default:
		return string(class)
	}
}
