package delivery

import (
	"sync"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/contract"
)

const (
	// errorQuiet is how long after its last failed attempt a target that accepts events again is still reported as failing:
	// otherwise one that fails intermittently would change its state all the time.
	errorQuiet = 5 * time.Minute
	// errorGap is the time without a failed attempt after which a failure counts as a new problem.
	errorGap = time.Hour
)

// Health records, for each target, when it last accepted an event and why attempts fail. Its zero value is ready; its methods
// may be called concurrently.
type Health struct{ targets sync.Map } // name → *targetHealth

type targetHealth struct {
	delivered atomic.Int64 // minutes since the epoch; 0: none yet
	failed    atomic.Bool  // so that successful attempts at a healthy target cost nothing

	mu          sync.Mutex
	class       contract.ErrorClass
	since, last time.Time
	recovered   bool // an attempt has succeeded since
}

// of returns the health of a target, and creates it if it is new.
func (h *Health) of(target string) *targetHealth {
	found, known := h.targets.Load(target)
	if !known {
		found, _ = h.targets.LoadOrStore(target, new(targetHealth))
	}
	return found.(*targetHealth)
}

// Attempted records the outcome of an attempt.
func (h *Health) Attempted(target string, o Outcome, now time.Time) {
	t := h.of(target)
	if o.Delivered() && !t.failed.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.Delivered() {
		t.failed.Store(false)
		t.recovered = true
		return
	}
	class := o.ErrorClass()
	silence := now.Sub(t.last)
	if class != t.class || silence > errorGap || t.recovered && silence > errorQuiet {
		t.class, t.since = class, now
	}
	t.last, t.recovered = now, false
	t.failed.Store(true)
}

// Delivered records that a target has accepted an event. It is called for every delivery, so it writes at most once a minute.
func (h *Health) Delivered(target string, now time.Time) {
	if t, minute := h.of(target), now.Unix()/60; t.delivered.Load() < minute {
		t.delivered.Store(minute)
	}
}

// LastDelivered returns when a target last accepted an event, truncated to the minute; zero: none yet.
func (h *Health) LastDelivered(target string) time.Time {
	if minutes := h.of(target).delivered.Load(); minutes > 0 {
		return time.Unix(minutes*60, 0).UTC()
	}
	return time.Time{}
}

// Error returns why attempts at a target fail, or nil. pending reports that events are waiting for it: a failure ends when none
// are left, since another receiver may have delivered them.
func (h *Health) Error(target string, pending bool, now time.Time) *contract.TargetError {
	t := h.of(target)
	t.mu.Lock()
	defer t.mu.Unlock()
	recent := now.Sub(t.last) <= errorQuiet
	if t.last.IsZero() || !recent && (t.recovered || !pending) {
		return nil
	}
	return &contract.TargetError{Class: t.class, Since: t.since.UTC().Truncate(time.Minute)}
}
