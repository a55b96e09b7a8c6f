package receiver

import (
	"sync"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
)

const (
	// errorQuiet is how long after its last failed attempt a target that takes events again is still reported as failing: one
	// that fails now and then would otherwise change its state all the time.
	errorQuiet = 5 * time.Minute
	// errorGap is the time without a failed attempt after which a failure is a new one.
	errorGap = time.Hour
)

// targetErrors are why attempts fail, by target. Its methods may be called concurrently.
type targetErrors struct{ targets sync.Map } // name → *targetError

type targetError struct {
	failed atomic.Bool // so that good attempts at a healthy target cost nothing

	mu          sync.Mutex
	class       contract.ErrorClass
	since, last time.Time
	recovered   bool // an attempt has succeeded since
}

// note takes the outcome of an attempt.
func (e *targetErrors) note(target string, o delivery.Outcome, now time.Time) {
	found, known := e.targets.Load(target)
	if !known {
		if o.Delivered() {
			return
		}
		found, _ = e.targets.LoadOrStore(target, new(targetError))
	}
	t := found.(*targetError)
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

// of returns why attempts at a target fail, or nil. Pending says that events wait for it: a failure is over with the last of
// them, since another receiver may have delivered it.
func (e *targetErrors) of(target string, pending bool, now time.Time) *contract.TargetError {
	found, known := e.targets.Load(target)
	if !known {
		return nil
	}
	t := found.(*targetError)
	t.mu.Lock()
	defer t.mu.Unlock()
	recent := now.Sub(t.last) <= errorQuiet
	if !recent && (t.recovered || !pending) {
		return nil
	}
	return &contract.TargetError{Class: t.class, Since: t.since.UTC().Truncate(time.Minute)}
}
