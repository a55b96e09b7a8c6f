package receiver

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

// redisVerdictAge is how long one verdict on Redis is good for. All that report Redis within it report the same.
const redisVerdictAge = time.Second

// redisHealth is the one verdict on Redis: metrics, /status, /readyz and the log take it from here, and the operator takes its
// condition from /status.
type redisHealth struct {
	store *stream.Store
	log   *slog.Logger
	began time.Time
	// clocksDiffer compares the clock of Redis with this receiver's.
	clocksDiffer func(context.Context) bool

	asking    sync.Mutex // held while Redis is asked, so that many who report ask once
	current   atomic.Pointer[redisVerdict]
	connected atomic.Bool
	troubled  time.Time // since when there have been problems; zero: there are none
	// begun receives a value when problems begin, so that their end is noticed soon.
	begun chan struct{}
}

// redisVerdict is what was found at one time.
type redisVerdict struct {
	at time.Time
	// known is false in the first moments, while Redis is being looked for.
	known    bool
	problems []contract.Problem
}

// accepting says that events are accepted.
func (v redisVerdict) accepting() bool {
	return v.known && !slices.ContainsFunc(v.problems, func(p contract.Problem) bool { return !p.Accepting() })
}

// durable says that events are accepted and that Redis promises to keep them.
func (v redisVerdict) durable() bool { return v.known && len(v.problems) == 0 }

// verdict returns one that is at most redisVerdictAge old, and asks Redis if there is none.
func (h *redisHealth) verdict() redisVerdict {
	h.asking.Lock()
	defer h.asking.Unlock()
	if v := h.last(); !h.connected.Load() || time.Since(v.at) < redisVerdictAge {
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
func (h *redisHealth) last() redisVerdict {
	v := h.current.Load()
	if v == nil || !h.connected.Load() && time.Since(h.began) < config.FirstContact {
		return redisVerdict{}
	}
	return *v
}

// tried notes that a connection was put in use, or why there is none yet. How Redis does on it is asked for when it is wanted.
func (h *redisHealth) tried(err error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	switch {
	case err == nil:
		h.connected.Store(true)
		if v := h.current.Load(); v != nil {
			h.current.Store(&redisVerdict{known: v.known, problems: v.problems})
		}
	case !h.connected.Load():
		h.judge([]contract.Problem{stream.Problem(err)}, err)
	}
}

// failed takes a call that Redis did not answer for the verdict: to ask again would take as long once more.
func (h *redisHealth) failed(err error) {
	if p := stream.Problem(err); h.connected.Load() && p.OfConnection() {
		h.asking.Lock()
		defer h.asking.Unlock()
		h.judge([]contract.Problem{p}, err)
	}
}

// judge replaces the verdict, and logs what has changed. Err is nil where the problems say it all.
func (h *redisHealth) judge(problems []contract.Problem, err error) {
	var before []contract.Problem
	if v := h.current.Load(); v != nil {
		before = v.problems
	}
	now := redisVerdict{at: time.Now(), known: true, problems: problems}
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

// storeFails takes the error of a queue and reports that Redis accepts no events.
func (r *Receiver) storeFails(err error) bool {
	r.redis.failed(err)
	return !r.redis.verdict().accepting()
}

// reportRedis puts a verdict into a status.
func reportRedis(s *contract.Status, v redisVerdict) {
	s.Redis, s.Durable, s.Problems = contract.RedisOK, v.durable(), v.problems
	if !v.known {
		s.Redis = contract.RedisConnecting
	}
	for _, p := range v.problems {
		if !p.Accepting() && s.Redis == contract.RedisOK {
			s.Redis = p.Message()
		}
		if !p.OfConnection() {
			s.DurabilityProblems = append(s.DurabilityProblems, p.Message())
		}
	}
}

// watchRedis connects, keeps the verdict current, and connects again when the node at hand takes no writes and another may.
func (r *Receiver) watchRedis(ctx context.Context) {
	r.connect(ctx)
	for {
		wait := maintenanceInterval
		if v := r.redis.verdict(); len(v.problems) > 0 {
			wait = reconnectDelay
			if slices.ContainsFunc(v.problems, contract.Problem.WrongNode) {
				r.reconnect(ctx)
			}
		}
		next := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-next.C:
		case <-r.redis.begun:
		case <-r.redisChanged:
			r.connect(ctx)
		case <-r.store.Doubted():
			// However many writes fail, one connection a second is tried.
			select {
			case <-ctx.Done():
			case <-time.After(reconnectDelay):
			}
		}
		next.Stop()
	}
}

// reconnect makes a new connection and keeps it only if it takes writes.
func (r *Receiver) reconnect(ctx context.Context) {
	r.connecting.Lock()
	defer r.connecting.Unlock()
	f := r.inForce.Load()
	if err := r.store.Reconnect(ctx, f.redisURL, f.redisCA); err != nil {
		r.Log.Debug("a new connection to Redis does not accept writes either", "error", err)
		return
	}
	r.redis.tried(nil)
	r.Log.Info("reconnected to Redis, because the previous connection did not accept writes")
}
