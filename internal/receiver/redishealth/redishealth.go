// Package redishealth decides whether Redis is healthy: a receiver's metrics, /status, /readyz and log use its verdict, and the
// operator derives its condition from /status.
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

// verdictAge is how long a verdict is valid. Within that time, metrics, status, readiness and log all report the same.
const verdictAge = time.Second

// Store is Redis.
type Store interface {
	// Check returns the problems of Redis, sorted.
	Check(ctx context.Context) []contract.Problem
}

// Monitor checks Redis. Its methods may be called concurrently.
type Monitor struct {
	store Store
	log   *slog.Logger
	began time.Time
	// clocksDiffer compares the clock of Redis with this receiver's.
	clocksDiffer func(context.Context) bool

	asking    sync.Mutex // held during a check, so that concurrent callers share one
	current   atomic.Pointer[Verdict]
	connected atomic.Bool
	troubled  time.Time // when the problems started; zero: there are none
	begun     chan struct{}
}

// New returns a Monitor without a verdict. clocksDiffer compares the clock of Redis with this receiver's.
func New(store Store, log *slog.Logger, clocksDiffer func(context.Context) bool) *Monitor {
	return &Monitor{store: store, log: log, began: time.Now(), clocksDiffer: clocksDiffer, begun: make(chan struct{}, 1)}
}

// Verdict is the result of a check.
type Verdict struct {
	at time.Time
	// Known is false during startup, while Redis is being connected.
	Known bool
	// Problems are sorted, without duplicates.
	Problems []contract.Problem
}

// Accepting reports whether events are accepted.
func (v Verdict) Accepting() bool {
	return v.Known && !slices.ContainsFunc(v.Problems, func(p contract.Problem) bool { return !p.Accepting() })
}

// Durable reports whether events are accepted and Redis is configured to keep them.
func (v Verdict) Durable() bool { return v.Known && len(v.Problems) == 0 }

// Verdict returns a verdict that is at most verdictAge old, and checks Redis if there is none.
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

// last returns the last verdict, without a check. During startup it withholds connection problems: a Pod's network may not be up
// yet.
func (h *Monitor) last() Verdict {
	v := h.current.Load()
	if v == nil || !h.connected.Load() && time.Since(h.began) < config.FirstContact {
		return Verdict{}
	}
	return *v
}

// Tried records that a new connection is in use, or why there is none yet. Redis is checked on it when a verdict is needed.
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

// Failed records a call that Redis did not answer as the verdict: a check would take as long again.
func (h *Monitor) Failed(err error) {
	if p := stream.Problem(err); h.connected.Load() && p.OfConnection() {
		h.asking.Lock()
		defer h.asking.Unlock()
		h.judge([]contract.Problem{p}, err)
	}
}

// Latest returns the last verdict, without a check; false: there is none yet.
func (h *Monitor) Latest() (Verdict, bool) {
	if v := h.current.Load(); v != nil {
		return *v, true
	}
	return Verdict{}, false
}

// Begun receives a value when problems start, so that their end is noticed soon.
func (h *Monitor) Begun() <-chan struct{} { return h.begun }

// judge replaces the verdict, and logs changes. err is nil if the problems are complete without it.
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

// Report writes a verdict to a status.
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
