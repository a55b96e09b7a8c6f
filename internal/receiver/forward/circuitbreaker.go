package forward

import (
	"net/http"
	"sync"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/retry"
)

// A target that starts to fail is held first: single attempts, with short growing pauses, until the first success. Only if it
// fails for openAfter does its circuit open. So a burst of concurrent failures costs a moment and changes no state, and a dead
// target gets few attempts from the start.
const (
	holdAfter     = 10 // consecutive failures, in a failing window
	shortestPause = 50 * time.Millisecond
	openAfter     = 5 * time.Second
	firstProbe    = time.Second
	slowestProbe  = time.Minute
	goneProbe     = time.Hour
	// reopening is how long after its circuit has closed a target is still expected to fail again: the pauses between probes
	// then resume at their last length.
	reopening     = time.Minute
	waitForAnswer = 50 * time.Millisecond // while a probe is in flight
	// burstShare is the fraction of a second's attempts that may start at once after an idle time.
	burstShare = 10
)

// Gate decides how many attempts at one target may start now, by its circuit and its rate. All lanes of a target share one.
// Its methods may be called concurrently.
//
// The circuit is not sony/gobreaker's or failsafe-go's: their half-open state cannot return a probe that found no event, has
// no growing pauses, and opens at the first burst that is large enough, however short.
type Gate struct {
	rate   float64 // attempts a second; 0: unlimited
	policy retry.Policy
	// onChange is called at every change of the circuit, without the lock held.
	onChange func(from, to contract.Circuit)

	mu      sync.Mutex
	circuit contract.Circuit
	recent  window
	run     int       // failures since the last success
	began   time.Time // when the first of them occurred
	since   time.Time // when the failures that make the window a failing one started; zero: it is not failing
	held    bool      // single attempts only
	probing bool
	pause   time.Duration // between single attempts
	nextTry time.Time     // when the next one may start
	closed  time.Time     // when the circuit closed last
	reached time.Duration // the pause reached by then
	tokens  float64
	filled  time.Time
}

// NewGate returns a Gate with a closed circuit. rate is in attempts a second, 0 for no limit. policy decides which answers are
// failures of the target. onChange may be nil.
func NewGate(rate int, policy retry.Policy, onChange func(from, to contract.Circuit)) *Gate {
	if onChange == nil {
		onChange = func(_, _ contract.Circuit) {}
	}
	return &Gate{rate: float64(rate), policy: policy, onChange: onChange, circuit: contract.CircuitClosed, tokens: 1}
}

// Circuit returns the current state.
func (g *Gate) Circuit() contract.Circuit {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.circuit
}

// Held returns when the next single attempt may start; zero if attempts are not held back.
func (g *Gate) Held() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.held {
		return time.Time{}
	}
	return g.nextTry
}

// Admit returns how many of up to want attempts may start at now, and if that is none, after what time to ask again. Unused
// admissions must be returned by Return.
func (g *Gate) Admit(want int, now time.Time) (n int, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held {
		switch {
		case g.probing:
			return 0, waitForAnswer
		case now.Before(g.nextTry):
			return 0, g.nextTry.Sub(now)
		}
		want = 1
	}
	if g.rate > 0 {
		g.fill(now)
		if g.tokens < 1 {
			return 0, time.Duration((1-g.tokens)/g.rate*float64(time.Second)) + 1 // rounded up, to avoid an immediate retry
		}
		want = min(want, int(g.tokens))
		g.tokens -= float64(want)
	}
	g.probing = g.held
	return want, 0
}

// Return returns n unused admissions.
func (g *Gate) Return(n int) {
	if n == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	g.tokens += float64(n)
}

// Report records the outcome of an admitted attempt.
func (g *Gate) Report(o delivery.Outcome, now time.Time) {
	g.mu.Lock()
	from := g.circuit
	g.judge(o, now)
	to := g.circuit
	g.mu.Unlock()
	if from != to {
		g.onChange(from, to)
	}
}

func (g *Gate) judge(o delivery.Outcome, now time.Time) {
	g.probing = false
	switch {
	case o.Err == nil && o.Status == http.StatusGone:
		g.circuit, g.held, g.nextTry = contract.CircuitGone, true, now.Add(goneProbe)
	case !g.policy.Failing(o):
		g.succeed(now)
	case g.circuit == contract.CircuitGone: // a missing answer does not revoke the 410
		g.nextTry = now.Add(goneProbe)
	default:
		g.fail(o, now)
	}
}

func (g *Gate) succeed(now time.Time) {
	if g.circuit != contract.CircuitClosed {
		g.circuit, g.closed, g.reached = contract.CircuitClosed, now, g.pause
		g.recent = window{}
	}
	g.recent.add(false, now)
	if !g.recent.failing(now) {
		g.since = time.Time{}
	}
	g.run, g.held, g.pause, g.nextTry = 0, false, 0, time.Time{}
}

func (g *Gate) fail(o delivery.Outcome, now time.Time) {
	if g.run++; g.run == 1 {
		g.began = now
	}
	g.recent.add(true, now)
	if g.circuit == contract.CircuitClosed {
		switch {
		case !g.recent.failing(now):
			g.since = time.Time{}
			return
		case g.since.IsZero():
			g.since = g.began
		}
	}
	if g.held && now.Before(g.nextTry) {
		return // a late result from before
	}
	switch {
	case g.circuit == contract.CircuitClosed && now.Sub(g.since) >= openAfter:
		g.circuit, g.pause = contract.CircuitOpen, max(g.pause, firstProbe/2)
		if now.Sub(g.closed) < reopening {
			g.pause = max(g.pause, g.reached)
		}
	case g.circuit == contract.CircuitClosed && g.run < holdAfter:
		return
	}
	g.held = true
	g.pause = min(max(2*g.pause, shortestPause), slowestProbe)
	g.nextTry = now.Add(max(g.pause, min(o.RetryAfter, slowestProbe)))
}

// fill adds the tokens accrued since the last call. An idle time yields only a fraction of a second's attempts: a target with
// a rate limit must not get a burst after a quiet hour.
func (g *Gate) fill(now time.Time) {
	if !g.filled.IsZero() {
		g.tokens += now.Sub(g.filled).Seconds() * g.rate
	}
	g.tokens = min(g.tokens, max(g.rate/burstShare, 1))
	g.filled = now
}
