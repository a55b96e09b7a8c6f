package receiver

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/stream"
)

// Status is what /status of the operations port answers, in JSON: what the operator and people want to know of one
// receiver. It holds nothing secret.
type Status struct {
	// Version is the build.
	Version string `json:"version"`
	// ConfigDigest identifies the configuration in force, see config.Digest.
	ConfigDigest string `json:"configDigest"`
	// Redis is "ok", config.RedisConnecting, or one sentence that says what is wrong.
	Redis string `json:"redis"`
	// Durable says that Redis promises to keep what it has confirmed; false until it has been asked.
	Durable bool `json:"durable"`
	// DurabilityProblems are one sentence each: what can lose accepted events, or keeps Redis from taking new ones.
	DurabilityProblems []string `json:"durabilityProblems,omitempty"`
	// Tokens are those in force, the current one first.
	Tokens []TokenStatus `json:"tokens"`
	// Targets are the targets of the configuration in force.
	Targets []TargetStatus `json:"targets"`
	// Backlog is the sum of Pending over them. It is missing while Redis does not tell, so that an autoscaler which reads
	// it does not take that for no work.
	Backlog *int64 `json:"backlog,omitempty"`
}

// TokenStatus tells a person when the previous token can be withdrawn. It names a token by its place in a rotation.
type TokenStatus struct {
	// Name is current or previous.
	Name string `json:"name"`
	// LastUsed is when this receiver last accepted it, cut to the minute; missing: not since the receiver began.
	LastUsed time.Time `json:"lastUsed,omitzero"`
}

// TargetStatus is the state of one target, over all receivers of the webhook.
type TargetStatus struct {
	Name        string `json:"name"`
	Pending     int64  `json:"pending"`
	DeadLetters int64  `json:"deadLetters"`
	// Circuit is Closed, Open or Gone, as this receiver sees it.
	Circuit string `json:"circuit"`
	// LastDelivered is when the target last took an event from this receiver, cut to the minute; missing: not since the
	// receiver began.
	LastDelivered time.Time `json:"lastDelivered,omitzero"`
}

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
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, req *http.Request) {
		body, err := json.Marshal(r.status(req.Context()))
		if err != nil {
			write(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}

func write(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// notReady returns why this receiver should get no requests, or "". Once Redis has been reached it stays ready while
// Redis is away: its own 503 says more than a proxy's.
func (r *Receiver) notReady() string {
	switch why := r.redisError.Load(); {
	case r.draining.Load():
		return "shutting down"
	case r.connected.Load():
		return ""
	case why != nil:
		return "not connected to Redis: " + *why
	}
	return "not connected to Redis yet"
}

// accounts returns the account of each target in force.
func (r *Receiver) accounts() (map[string]stream.Account, error) {
	ctx, cancel := context.WithTimeout(context.Background(), config.StatusTimeout)
	defer cancel()
	names := r.targetNames()
	read, err := r.store.Accounts(ctx, names)
	if err != nil {
		return nil, err
	}
	out := make(map[string]stream.Account, len(names))
	for i, a := range read {
		out[names[i]] = a
	}
	return out, nil
}

// targetNames are the names of the targets in force.
func (r *Receiver) targetNames() []string {
	targets := r.inForce.Load().config.Targets
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.Name
	}
	return names
}

func (r *Receiver) status(context.Context) Status {
	f := r.inForce.Load()
	s := Status{Version: r.Version, ConfigDigest: f.digest, Redis: "ok", Targets: []TargetStatus{}}
	all, err := r.accounts()
	switch {
	case err == nil:
		s.Backlog = new(int64)
	case !r.connected.Load() && time.Since(r.began) < config.FirstContact:
		s.Redis = config.RedisConnecting
	default:
		s.Redis = err.Error()
	}
	if problems := r.unsafe.Load(); problems != nil {
		s.Durable, s.DurabilityProblems = len(*problems) == 0, *problems
	}
	why := stream.Refusal(err)
	if why != "" {
		s.Redis = why
	} else if last := r.refused.Load(); last != nil {
		why = *last
	}
	if why != "" {
		s.Durable, s.DurabilityProblems = false, append(slices.Clone(s.DurabilityProblems), why)
	}
	for _, u := range r.events.TokenUses() {
		s.Tokens = append(s.Tokens, TokenStatus{Name: u.Name, LastUsed: u.LastUsed})
	}
	for _, t := range f.config.Targets {
		account := all[t.Name]
		if s.Backlog != nil {
			*s.Backlog += account.Pending
		}
		s.Targets = append(s.Targets, TargetStatus{
			Name: t.Name, Pending: account.Pending, DeadLetters: account.DeadLetters, Circuit: string(r.circuit(t.Name)), LastDelivered: r.taken.last(t.Name),
		})
	}
	return s
}
