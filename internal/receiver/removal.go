package receiver

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/redishealth"
	"heymarket.dev/operator/internal/receiver/stream"
)

// remover removes the keys of one webhook that is being deleted.
type remover struct {
	Options
	mu     sync.Mutex
	status contract.Status
}

// RemoveKeys removes every key of the webhook from Redis, reports its progress on the operations port, and serves nothing else,
// until ctx ends. The operator starts it after the last receiver has ended. It needs Ops, ConfigFile, Version and Log of the
// options. It returns an error if the configuration cannot be read or Ops fails.
func RemoveKeys(ctx context.Context, o Options) error {
	f, err := readConfig(o.ConfigFile)
	if err != nil {
		return err
	}
	o.Log = o.Log.With("namespace", f.config.Webhook.Namespace, "name", f.config.Webhook.Name)
	r := &remover{Options: o, status: contract.Status{
		Version: o.Version, ConfigDigest: f.digest, Redis: contract.RedisConnecting,
		Tokens: []contract.TokenStatus{}, Targets: []contract.TargetStatus{}, Removal: &contract.Removal{},
	}}
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ops := &http.Server{Handler: r.handler(), ReadHeaderTimeout: readHeaderTimeout}
	go serve(ops, o.Ops, stop)
	defer func() { _ = ops.Close() }()
	began, logged := time.Now(), ""
	for serving.Err() == nil {
		keys, err := r.remove(serving, f)
		r.report(keys, err)
		if err == nil {
			r.Log.Info("removed the keys of the deleted webhook from Redis", "keys", keys, "took_ms", time.Since(began).Milliseconds())
			<-serving.Done()
			break
		}
		if text := err.Error(); text != logged { // a line per cause, not per attempt
			r.Log.Error("the keys of the deleted webhook cannot be removed from Redis, retrying", "error", err)
			logged = text
		}
		select {
		case <-serving.Done():
		case <-time.After(reconnectDelay):
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(serving)
}

// remove reads the files again each time: the mistake may have been in them.
func (r *remover) remove(ctx context.Context, f files) (int64, error) {
	if err := f.read(redisMentions(f.config)); err != nil {
		return 0, err
	}
	w := f.config.Webhook
	store := stream.New(w.Namespace, w.Name, r.Consumer)
	if f.config.RestrictRedis {
		store.Restrict(new(f.addresses()))
	}
	if err := store.Connect(ctx, f.redisURL, f.redisCA); err != nil {
		return 0, err
	}
	defer store.Close()
	return store.RemoveKeys(ctx)
}

func (r *remover) report(keys int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var problems []contract.Problem
	if p := stream.Problem(err); p != "" {
		problems = append(problems, p)
	}
	r.status.DurabilityProblems = nil
	redishealth.Verdict{Known: true, Problems: problems}.Report(&r.status)
	r.status.Removal = &contract.Removal{Done: err == nil, Keys: r.status.Removal.Keys + keys}
}

func (r *remover) handler() http.Handler {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, "ok") }
	mux.HandleFunc("GET /healthz", ok)
	mux.HandleFunc("GET /readyz", ok)
	mux.HandleFunc("GET "+contract.StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		body, err := json.Marshal(r.status)
		r.mu.Unlock()
		if err != nil {
			write(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
	return mux
}
