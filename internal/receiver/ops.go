package receiver

import (
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Status is what /status of the operations port answers, in JSON: what the operator and people want to know of one
// receiver. It holds nothing secret.
type Status struct {
	// Version is the build.
	Version string `json:"version"`
	// ConfigDigest identifies the configuration in force, see config.Digest.
	ConfigDigest string `json:"configDigest"`
	// Redis is "ok", or one sentence that says what is wrong.
	Redis string `json:"redis"`
	// Durable says that Redis promises to keep what it has confirmed; false until it has been asked.
	Durable bool `json:"durable"`
	// DurabilityProblems are one sentence each: what can lose accepted events.
	DurabilityProblems []string `json:"durabilityProblems,omitempty"`
	// Tokens are those in force, the current one first.
	Tokens []TokenStatus `json:"tokens"`
	// Targets are the targets of the configuration in force.
	Targets []TargetStatus `json:"targets"`
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
