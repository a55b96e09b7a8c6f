package receiver

import (
	"bytes"
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/retry"
	"heymarket.dev/operator/internal/receiver/stream"
	"heymarket.dev/operator/internal/receiver/target"
)

// reread reloads the mounted files when they change. A change that cannot be read leaves the
// current configuration in force.
func (r *Receiver) reread(ctx context.Context) {
	var rejected string
	ticker := time.NewTicker(r.RereadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		f, err := readFiles(r.ConfigFile)
		before := r.inForce.Load()
		if err == nil && f.equal(*before) {
			rejected = ""
			continue
		}
		if err == nil {
			err = r.apply(f)
		}
		if err != nil {
			if err.Error() != rejected { // log it once
				rejected = err.Error()
				r.metrics.Reloaded(false)
				r.Log.Error("configuration reload rejected; keeping the current one", "error", err)
			}
			continue
		}
		rejected = ""
		r.metrics.Reloaded(true)
		r.Log.Info("configuration reloaded", "config", f.digest)
		if f.redisURL != before.redisURL || !bytes.Equal(f.redisCA, before.redisCA) {
			select {
			case r.redisChanged <- struct{}{}:
			default:
			}
		}
	}
}

// prepared is the result of checking the files, ready to be applied.
type prepared struct {
	files
	expressions *expressions // nil: there are none
	targets     map[string]target.Options
}

func (r *Receiver) prepare(f files) (prepared, error) {
	expressions, err := compileExpressions(f.config)
	if err != nil {
		return prepared{}, err
	}
	p := prepared{f, expressions, map[string]target.Options{}}
	for _, t := range f.config.Targets {
		o, err := f.target(t)
		if err != nil {
			return prepared{}, err
		}
		o.UserAgent = "heymarket-operator/" + r.Version
		p.targets[t.Name] = o
	}
	return p, nil
}

// apply puts f in force in all packages. After an error nothing has changed.
func (r *Receiver) apply(f files) error {
	p, err := r.prepare(f)
	if err != nil {
		return err
	}
	c := f.config
	r.inForce.Store(&f)
	r.metrics.Ignored(len(f.ignored))
	if len(f.ignored) > 0 {
		r.Log.Warn("the configuration is from a newer operator; members that this receiver does not know have no effect until it is replaced",
			"format", c.Version, "known", config.Version, "ignored", f.ignored)
	}
	r.setLogLevel(c.LogLevel)
	for _, s := range f.suspicions() {
		r.Log.Warn("a secret may be malformed", "hint", s)
	}
	if c.RestrictRedis {
		r.store.Restrict(new(f.addresses()))
	} else {
		r.store.Restrict(nil)
	}
	retries := cmp.Or(c.Deduplication.RetryHorizon.Std(), config.DefaultRetryHorizon)
	r.quota.configure(c.MaxBacklogBytes)
	r.limits.Store(&stream.Limits{Window: c.Deduplication.Window.Std(), Retries: retries, Backlog: c.MaxBacklog})
	settings := ingest.Settings{
		Namespace: c.Webhook.Namespace, Name: c.Webhook.Name, Paths: c.Paths, Tokens: f.tokens, WebhookID: c.WebhookID,
		EventTypes: c.EventTypes, MaxBodyBytes: c.MaxBodyBytes, TrustedProxies: f.trustedProxies(),
	}
	if p.expressions != nil {
		settings.Expressions = p.expressions
	}
	if r.tracer != nil {
		settings.Tracer = requestTracer{r.tracer}
	}
	plans := map[forward.Route]forward.Plan{}
	for _, t := range c.Targets {
		settings.Targets = append(settings.Targets, ingest.Target{
			Name: t.Name, EventTypes: t.EventTypes, Ordered: t.Order == contract.OrderConversation,
		})
		r.metrics.Begin(t.Name)
		if !c.Paused {
			r.plan(plans, t, p)
		}
	}
	r.pool.Apply(plans) // the workers first, so that an event for a new target finds one to wake
	r.events.Use(settings)
	return nil
}

func (r *Receiver) setLogLevel(name string) {
	if r.Level == nil {
		return
	}
	level := r.defaultLevel
	if name != "" {
		if err := level.UnmarshalText([]byte(name)); err != nil {
			return // config.Validate has checked the name
		}
	}
	r.Level.Set(level)
}

// plan adds the workers of one target, one per lane. They share a connection pool and a gate.
func (r *Receiver) plan(plans map[forward.Route]forward.Plan, t config.Target, p prepared) {
	c := p.config
	fingerprint, err := json.Marshal(struct {
		Target    config.Target
		Files     string
		Addresses config.Addresses
		Retention config.Retention
	}{t, p.fingerprint(t), c.Addresses, c.Retention})
	if err != nil { // only a type that cannot be encoded can fail here
		panic(err)
	}
	sender := sync.OnceValue(func() forward.Sender {
		s := target.New(p.targets[t.Name])
		if r.tracer != nil {
			return tracedSender{s, r.tracer, t.Name}
		}
		return s
	})
	policy := retry.Policy{
		MaxAttempts: t.Retry.MaxAttempts, MinBackoff: t.Retry.MinBackoff.Std(),
		MaxBackoff: t.Retry.MaxBackoff.Std(), MaxAge: t.Retry.MaxAge.Std(), Statuses: t.Retry.RetryStatuses(),
	}
	gate := sync.OnceValue(func() *forward.Gate {
		g := forward.NewGate(t.RatePerSecond, policy, func(from, to contract.Circuit) {
			r.Log.Warn("a target's circuit changed", "target", t.Name, "from", from, "to", to)
		})
		r.gates.Store(t.Name, g)
		return g
	})
	for _, lane := range delivery.Lanes() {
		plans[forward.Route{Target: t.Name, Lane: lane}] = forward.Plan{Fingerprint: string(fingerprint), New: func() *forward.Worker {
			queue := r.store.Queue(t.Name, lane, stream.QueueOptions{
				Ordered:         t.Order == contract.OrderConversation,
				DeadLetterLimit: c.Retention.DeadLetterLimit,
			})
			inFlight := t.MaxInFlight
			if lane == delivery.Consent {
				inFlight = config.ConsentInFlight
			}
			return forward.NewWorker(queue, forward.Options{
				Target: t.Name, Lane: lane, Timeout: t.Timeout.Std(), MaxInFlight: inFlight, MaxBytes: bodiesInFlight / int64(len(c.Targets)*len(delivery.Lanes())),
				Policy: policy, Gate: gate(), Sender: sender(), Check: p.expressions.check(t.Name), StoreFails: r.storeFails, ClocksDiffer: r.clocksDiffer, Observer: r.deliveries, Log: r.Log,
			})
		}}
	}
}
