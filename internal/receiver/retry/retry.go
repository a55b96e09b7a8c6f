// Package retry decides what follows an attempt: nothing, another attempt and when, or giving up. It is pure: time and
// randomness are arguments.
package retry

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
)

// Policy is the schedule of attempts for one target. All fields must be positive.
type Policy struct {
	// MaxAttempts includes the first attempt.
	MaxAttempts int
	// MinBackoff is the delay before the second attempt; it doubles for each further one, up to MaxBackoff.
	MinBackoff, MaxBackoff time.Duration
	// MaxAge is counted from acceptance; no attempt starts later than that.
	MaxAge time.Duration
	// Statuses are retried besides 408, 409, 410, 425, 429 and 5xx: statuses that describe the path to the target, such as
	// the 404 of a rollout, and not the event.
	Statuses []int
}

// Verdict is what follows an attempt.
type Verdict int

const (
	// Done means that the target accepted the event.
	Done Verdict = iota
	// Again means another attempt after Decision.Delay.
	Again
	// GiveUp makes the event a dead letter, with Decision.Reason.
	GiveUp
)

// Decision is a Verdict with its parameters.
type Decision struct {
	Verdict Verdict
	// Delay is the time until the next attempt, for Again.
	Delay time.Duration
	// Reason is one sentence without URL, body or address, for GiveUp.
	Reason string
}

// Decide returns what follows attempt number attempt (from 1) at an event of the given age. chance is in [0,1) and spreads
// the delays: a delay is between half and all of the exponential backoff, and at least the target's Retry-After, except that
// a delay beyond MaxAge becomes a last attempt at that age.
func (p Policy) Decide(attempt int, age time.Duration, o delivery.Outcome, chance float64) Decision {
	if o.Delivered() {
		return Decision{Verdict: Done}
	}
	if o.Err == nil && !p.Retryable(o.Status) {
		return Decision{Verdict: GiveUp, Reason: fmt.Sprintf("the target refused it with %d", o.Status)}
	}
	if attempt >= p.MaxAttempts {
		return Decision{Verdict: GiveUp, Reason: fmt.Sprintf("%s failed, the last with %s", attempts(attempt), o.Failure())}
	}
	backoff, left := p.backoff(attempt, chance), p.MaxAge-max(age, 0)
	delay := max(backoff, min(o.RetryAfter, left)) // some targets ask for the year 9999
	if delay > left {
		return Decision{Verdict: GiveUp, Reason: fmt.Sprintf("no attempt left within %s, the last failed with %s", p.MaxAge, o.Failure())}
	}
	return Decision{Verdict: Again, Delay: delay}
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}

// Retryable reports whether a status other than 2xx may be followed by a success: 408, 409, 410, 425, 429, 5xx and Statuses.
// A 410 describes the target, which wants no more events, and not the event: it waits for a person's decision.
func (p Policy) Retryable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusGone, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500 || slices.Contains(p.Statuses, status)
}

// Failing reports whether an outcome means that the target itself, or the path to it, fails: it counts against the target's
// circuit. 409 and 425 are retried but do not count: they concern this event alone.
func (p Policy) Failing(o delivery.Outcome) bool {
	if o.Err != nil {
		return true
	}
	return p.Retryable(o.Status) && o.Status != http.StatusConflict && o.Status != http.StatusTooEarly
}

func (p Policy) backoff(attempt int, chance float64) time.Duration {
	d := p.MinBackoff
	for i := 1; i < attempt && d < p.MaxBackoff; i++ {
		d += min(d, p.MaxBackoff-d) // doubled, without overflow
	}
	return d/2 + time.Duration(chance*float64(d/2))
}
