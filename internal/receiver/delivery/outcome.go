package delivery

import (
	"cmp"
	"time"

	"heymarket.dev/operator/internal/contract"
)

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
