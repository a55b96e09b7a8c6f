// Package redishealth has the one verdict on Redis: metrics, /status, /readyz and the log of a receiver take it from here, and the
// operator takes its condition from /status.
package redishealth

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/stream"
)

// verdictAge is how long one verdict is good for. All that report Redis within it report the same.
const verdictAge = time.Second

// Store is Redis.
type Store interface {
	// Check returns what is wrong with Redis, sorted.
	Check(ctx context.Context) []contract.Problem
}

// Monitor judges Redis. Its methods may be called concurrently.
type Monitor struct {
	store Store
	log   *slog.Logger
	began time.Time
	// clocksDiffer compares the clock of Redis with this receiver's.
	clocksDiffer func(context.Context) bool

	asking    sync.Mutex // held while Redis is asked, so that many who report ask once
	current   atomic.Pointer[Verdict]
	connected atomic.Bool
	troubled  time.Time // since when there have been problems; zero: there are none
	begun     chan struct{}
}

// New returns a Monitor that has not asked yet. ClocksDiffer compares the clock of Redis with this receiver's.
func New(store Store, log *slog.Logger, clocksDiffer func(context.Context) bool) *Monitor {
	return &Monitor{store: store, log: log, began: time.Now(), clocksDiffer: clocksDiffer, begun: make(chan struct{}, 1)}
}

// Verdict is what was found at one time.
type Verdict struct {
	at time.Time
	// Known is false in the first moments, while Redis is being looked for.
	Known bool
	// Problems are sorted, each once.
	Problems []contract.Problem
}

// Accepting reports that events are accepted.
func (v Verdict) Accepting() bool {
	return v.Known && !slices.ContainsFunc(v.Problems, func(p contract.Problem) bool { return !p.Accepting() })
}

// Durable reports that events are accepted and that Redis promises to keep them.
func (v Verdict) Durable() bool { return v.Known && len(v.Problems) == 0 }

// Verdict returns one that is at most verdictAge old, and asks Redis if there is none.
func (h *Monitor) Verdict() Verdict {
	h.asking.Lock()
	defer h.asking.Unlock()
	if v := h.last(); !h.connected.Load() || time.Since(v.at) < verdictAge {
		return v
	}
	ctx, cancel := context.WithTimeout(context.Background(), config.StatusTimeout)
	defer cancel()
	problems := h.store.Check(ctx)
	if !slices.ContainsFunc(problems, contract.Problem.OfConnection) && h.clocksDiffer(ctx) {
		problems = append(problems, contract.RedisClockSkew)
		slices.Sort(problems)
	}
	h.judge(problems, nil)
	return h.last()
}

// last returns the last verdict, without asking. What is wrong with the connection it holds back in a receiver's first moments: a
// Pod's network may not be up yet.
func (h *Monitor) last() Verdict {
	v := h.current.Load()
	if v == nil || !h.connected.Load() && time.Since(h.began) < config.FirstContact {
		return Verdict{}
	}
	return *v
}

// Tried records that a connection was put in use, or why there is none yet. How Redis does on it is asked for when it is wanted.
func (h *Monitor) Tried(err error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	switch {
	case err == nil:
		h.connected.Store(true)
		if v := h.current.Load(); v != nil {
			h.current.Store(&Verdict{Known: v.Known, Problems: v.Problems})
		}
	case !h.connected.Load():
		h.judge([]contract.Problem{stream.Problem(err)}, err)
	}
}

// Failed takes a call that Redis did not answer for the verdict: to ask again would take as long once more.
func (h *Monitor) Failed(err error) {
	if p := stream.Problem(err); h.connected.Load() && p.OfConnection() {
		h.asking.Lock()
		defer h.asking.Unlock()
		h.judge([]contract.Problem{p}, err)
	}
}

// Latest returns the last verdict, without asking; false: there is none yet.
func (h *Monitor) Latest() (Verdict, bool) {
	if v := h.current.Load(); v != nil {
		return *v, true
	}
	return Verdict{}, false
}

// Begun receives a value when problems begin, so that their end is noticed soon.
func (h *Monitor) Begun() <-chan struct{} { return h.begun }

// judge replaces the verdict, and logs what has changed. Err is nil where the problems say it all.
func (h *Monitor) judge(problems []contract.Problem, err error) {
	var before []contract.Problem
	if v := h.current.Load(); v != nil {
		before = v.Problems
	}
	now := Verdict{at: time.Now(), Known: true, Problems: problems}
	h.current.Store(&now)
	for _, p := range problems {
		if !slices.Contains(before, p) {
			h.log.Error("Redis has a problem", "reason", p, "problem", p.Message(), "error", err)
		}
	}
	switch {
	case len(problems) > 0 && h.troubled.IsZero():
		h.troubled = now.at
		select {
		case h.begun <- struct{}{}:
		default:
		}
	case len(problems) == 0 && !h.troubled.IsZero():
		h.log.Info("Redis works again", "away_ms", time.Since(h.troubled).Milliseconds())
		h.troubled = time.Time{}
	}
}

// Report puts a verdict into a status.
func (v Verdict) Report(s *contract.Status) {
	s.Redis, s.Durable, s.Problems = contract.RedisOK, v.Durable(), v.Problems
	if !v.Known {
		s.Redis = contract.RedisConnecting
	}
	for _, p := range v.Problems {
		if !p.Accepting() && s.Redis == contract.RedisOK {
			s.Redis = p.Message()
		}
		if !p.OfConnection() {
			s.DurabilityProblems = append(s.DurabilityProblems, p.Message())
		}
	}
}
