package receiver

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/metrics"
	"heymarket.dev/operator/internal/receiver/stream"
)

// opsHandler serves the operations port: /healthz, /readyz, /metrics and /status.
func (r *Receiver) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := r.notReady(); why != "" {
			write(w, http.StatusServiceUnavailable, why)
			return
		}
		write(w, http.StatusOK, "ok")
	})
	// Any client in the cluster may ask, so expensive answers are computed once a second.
	status := cached(func() ([]byte, error) { return json.Marshal(r.status()) })
	mux.HandleFunc("GET "+contract.StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		body, err := status()
		if err != nil {
			write(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
	mux.Handle("GET /metrics", r.metrics.Handler())
	return mux
}

func write(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// notReady returns why this receiver should get no requests, or "". Once it has reached Redis it stays ready while Redis is
// unreachable, because its 503 explains more than a proxy's. It is not ready while it is connected to a node that rejects
// writes: another receiver may be connected to the right one.
func (r *Receiver) notReady() string {
	why, asked := r.redis.Latest()
	switch {
	case r.draining.Load():
		return "shutting down"
	case !r.connected.Load() && !asked:
		return "not connected to Redis yet"
	case !r.connected.Load():
		return "not connected to Redis: " + why.Problems[0].Message()
	case slices.Contains(why.Problems, contract.RedisReadOnly):
		return contract.RedisReadOnly.Message()
	case slices.Contains(why.Problems, contract.RedisNoPrimary):
		return contract.RedisNoPrimary.Message()
	}
	return ""
}

// accounts returns the account of each current target. It does not wait for a Redis that has just failed to answer.
func (r *Receiver) accounts() (map[string]stream.Account, error) {
	if slices.ContainsFunc(r.redis.Verdict().Problems, contract.Problem.OfConnection) {
		return nil, stream.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(context.Background(), config.StatusTimeout)
	defer cancel()
	names := r.targetNames()
	read, err := r.store.Accounts(ctx, names)
	if err != nil {
		r.redis.Failed(err)
		return nil, err
	}
	out := make(map[string]stream.Account, len(names))
	for i, a := range read {
		out[names[i]] = a
	}
	return out, nil
}

// targetNames returns the names of the current targets.
func (r *Receiver) targetNames() []string {
	targets := r.inForce.Load().config.Targets
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.Name
	}
	return names
}

func (r *Receiver) status() contract.Status {
	f := r.inForce.Load()
	s := contract.Status{Version: r.Version, ConfigDigest: f.digest, Targets: []contract.TargetStatus{}}
	all, err := r.accounts()
	if err == nil {
		s.Backlog = new(int64)
	}
	r.redis.Verdict().Report(&s)
	if digest := r.redisURLDigest.Load(); digest != nil {
		s.RedisURLDigest = *digest
	}
	if skew := r.skew.Load(); skew != nil {
		s.RedisClockSkewSeconds = int64(*skew / time.Second)
	}
	for _, u := range r.events.TokenUses() {
		s.Tokens = append(s.Tokens, contract.TokenStatus{Name: u.Name, LastUsed: u.LastUsed})
	}
	for _, t := range f.config.Targets {
		account := all[t.Name]
		if s.Backlog != nil {
			*s.Backlog += account.Pending
			s.BacklogBytes += account.Bytes
		}
		t := r.target(t.Name, account, time.Now())
		t.OldestPending, t.NextAttempt = t.OldestPending.Truncate(time.Minute), t.NextAttempt.Truncate(time.Minute)
		s.Targets = append(s.Targets, t)
	}
	if s.Backlog != nil {
		s.BacklogFull = r.quota.reached(s.BacklogBytes, r.quota.bytes(r.store.MaxMemory()))
	}
	return s
}

// target returns the state of one target with the given account, its times to the millisecond.
func (r *Receiver) target(name string, account stream.Account, now time.Time) contract.TargetStatus {
	s := contract.TargetStatus{
		Name: name, Pending: account.Pending, DeadLetters: account.DeadLetters, Circuit: r.circuit(name), LastDelivered: r.deliveries.health.LastDelivered(name),
		LastError: r.deliveries.health.Error(name, account.Pending > 0, now),
	}
	var oldest time.Duration
	for _, age := range account.Oldest {
		oldest = max(oldest, age)
	}
	if len(account.Oldest) > 0 {
		s.OldestPending = now.Add(-oldest).UTC().Truncate(time.Millisecond)
	}
	if account.NextRetry != nil {
		next := now.Add(*account.NextRetry)
		if gate, there := r.gates.Load(name); there {
			if held := gate.(*forward.Gate).Held(); held.After(next) {
				next = held
			}
		}
		s.NextAttempt = next.UTC().Truncate(time.Millisecond)
	}
	return s
}

// targets returns the states of the current targets, for the administrative API.
func (r *Receiver) targets() ([]contract.TargetStatus, error) {
	all, err := r.accounts()
	if err != nil {
		return nil, err
	}
	states := []contract.TargetStatus{}
	for _, name := range r.targetNames() {
		states = append(states, r.target(name, all[name], time.Now()))
	}
	return states, nil
}

// state returns this receiver's own state for a scrape.
func (r *Receiver) state(accounts func() (map[string]stream.Account, error)) metrics.State {
	f, verdict := r.inForce.Load(), r.redis.Verdict()
	s := metrics.State{
		Redis: verdict.Accepting(), ClockSkew: r.skew.Load(), BacklogLimit: r.quota.bytes(r.store.MaxMemory()),
		DeadLetterLimit: f.config.Retention.DeadLetterLimit, DeadLetterRetention: f.config.Retention.DeadLetters.Std(), Tokens: len(f.tokens),
	}
	if verdict.Known {
		s.Durable = new(verdict.Durable())
	}
	all, err := accounts()
	for _, t := range f.config.Targets {
		target := metrics.TargetState{Name: t.Name, Circuit: r.circuit(t.Name)}
		if e := r.deliveries.health.Error(t.Name, err != nil || all[t.Name].Pending > 0, time.Now()); e != nil {
			target.Failing = e.Class
		}
		s.Targets = append(s.Targets, target)
	}
	return s
}

// circuit returns the circuit of a target; a target to which nothing has been sent yet counts as healthy.
func (r *Receiver) circuit(target string) contract.Circuit {
	if g, ok := r.gates.Load(target); ok {
		return g.(*forward.Gate).Circuit()
	}
	return contract.CircuitClosed
}
