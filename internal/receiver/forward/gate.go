package forward

import (
	"net/http"
	"sync"
	"time"

	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/retry"
)

// Circuit says how a target is treated, judged by its latest answers.
type Circuit string

// The circuits.
const (
	// Closed is the rule: events flow.
	Closed Circuit = "Closed"
	// Open means that the target has failed many times in a row: it is probed with single events. The others wait in
	// their queue and spend no attempts.
	Open Circuit = "Open"
	// Gone means that the target answered 410: it wants no events any more. It is probed rarely, in case that was a
	// mistake.
	Gone Circuit = "Gone"
)

const (
	breakAfter    = 10 // failures in a row
	firstProbe    = time.Second
	slowestProbe  = time.Minute
	goneProbe     = time.Hour
	waitForAnswer = time.Second // while a probe is under way
)

// Gate decides how many attempts may begin at one target now: its circuit and its rate. All lanes of a target share one.
// Its methods may be called concurrently.
type Gate struct {
	rate float64 // attempts a second; 0: unlimited
	// onChange is told about every change of the circuit, outside of the lock.
	onChange func(from, to Circuit)

	mu       sync.Mutex
	circuit  Circuit
	failures int
	probing  bool
	pause    time.Duration // between probes
	nextTry  time.Time     // when the next probe may begin
	tokens   float64
	filled   time.Time
}

// NewGate returns a Gate with a closed circuit. Rate is in attempts a second, 0 for no limit. OnChange may be nil.
func NewGate(rate int, onChange func(from, to Circuit)) *Gate {
	if onChange == nil {
		onChange = func(_, _ Circuit) {}
	}
	return &Gate{rate: float64(rate), onChange: onChange, circuit: Closed, tokens: 1}
}

// Circuit returns the present state.
func (g *Gate) Circuit() Circuit {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.circuit
}

// Admit says how many of up to want attempts may begin at now, and when that is none, after what time to ask again.
// What is admitted and not begun has to be given back by Return.
func (g *Gate) Admit(want int, now time.Time) (n int, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.circuit != Closed {
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
			return 0, time.Duration((1-g.tokens)/g.rate*float64(time.Second)) + 1 // rounded up, or it would be asked for again at once
		}
		want = min(want, int(g.tokens))
		g.tokens -= float64(want)
	}
	g.probing = g.circuit != Closed
	return want, 0
}

// Return gives back n admissions that were not used.
func (g *Gate) Return(n int) {
	if n == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	if g.rate > 0 {
		g.tokens += float64(n)
	}
}

// Report tells the outcome of an attempt that was admitted.
func (g *Gate) Report(o event.Outcome, now time.Time) {
	g.mu.Lock()
	from := g.circuit
	g.judge(o, now)
	to := g.circuit
	g.mu.Unlock()
	if from != to {
		g.onChange(from, to)
	}
}

func (g *Gate) judge(o event.Outcome, now time.Time) {
	g.probing = false
	switch {
	case o.Err == nil && o.Status == http.StatusGone:
		g.circuit, g.nextTry = Gone, now.Add(goneProbe)
	case o.Err == nil && !unwell(o.Status):
		g.circuit, g.failures, g.pause = Closed, 0, 0
	case g.circuit == Gone: // no answer is no change of mind
		g.nextTry = now.Add(goneProbe)
	default:
		if g.failures++; g.failures < breakAfter {
			return
		}
		if g.circuit == Open && now.Before(g.nextTry) {
			return // a straggler from before the circuit opened
		}
		g.circuit = Open
		g.pause = min(max(2*g.pause, firstProbe), slowestProbe)
		g.nextTry = now.Add(max(g.pause, min(o.RetryAfter, slowestProbe)))
	}
}

// unwell says whether an answer speaks of the target's state and not of the event.
func unwell(status int) bool {
	return retry.Retryable(status) && status != http.StatusConflict && status != http.StatusTooEarly
}

// fill adds what the rate has yielded since the last call, up to one second's worth.
func (g *Gate) fill(now time.Time) {
	if !g.filled.IsZero() {
		g.tokens += now.Sub(g.filled).Seconds() * g.rate
	}
	g.tokens = min(g.tokens, max(g.rate, 1))
	g.filled = now
}
