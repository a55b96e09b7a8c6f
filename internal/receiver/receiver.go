// Package receiver is the process that accepts one webhook's events and delivers them. This file wires the packages below this
// one and defines the order of shutdown: ingest accepts, stream stores, forward delivers, and the others serve these.
package receiver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/logs"
	"heymarket.dev/operator/internal/receiver/metrics"
	"heymarket.dev/operator/internal/receiver/recent"
	"heymarket.dev/operator/internal/receiver/redishealth"
	"heymarket.dev/operator/internal/receiver/stream"
	"heymarket.dev/operator/internal/receiver/trace"
)

// Options configure a Receiver.
type Options struct {
	// ConfigFile is the path of the configuration, which names the files with the tokens and the Redis URL.
	ConfigFile string
	// Events and Ops are the listeners of the two ports. The Receiver closes them.
	Events, Ops net.Listener
	// Admin is the listener for the administrative API, see package admin; nil means none. It should be bound to localhost.
	Admin net.Listener
	// Version is the build, for the status and the User-Agent.
	Version string
	// Consumer is a name that is unique among the webhook's running receivers, such as the Pod's.
	Consumer string
	// MaxConnections bounds the connections to Events, see ingest.Connections; 0 means DefaultMaxConnections.
	MaxConnections int
	// DrainDelay is how long new requests are still served after shutdown was requested, until load balancers notice.
	DrainDelay time.Duration
	// RereadInterval is how often the mounted files are checked for changes.
	RereadInterval time.Duration
	Log            *slog.Logger
	// Level controls the level of Log. The configuration's log level is set here; a configuration without one restores the level
	// at New. Nil: the level of Log is not changed.
	Level *slog.LevelVar
	// Getenv is os.Getenv, or a test's replacement. It looks up the OpenTelemetry variables; nil: tracing is off.
	Getenv func(string) string
}

// DefaultDrainDelay is the DrainDelay for which a Pod's termination grace period is calculated.
const DefaultDrainDelay = config.DrainDelay

// DefaultMaxConnections is the bound on connections for which a Pod's memory limit is calculated: each costs up to 30 KiB while
// its header arrives.
const DefaultMaxConnections = 1024

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 20 * time.Second
	idleTimeout       = 90 * time.Second // longer than the usual 60 s of a proxy, so that the proxy closes first
	maxHeaderBytes    = 16 << 10
	opsConnections    = 128
	reconnectDelay    = time.Second
	// maintenanceInterval is how often Redis durability is checked, and the list of current targets is refreshed in Redis.
	maintenanceInterval = time.Minute
	// targetGrace is how long the backlog of a removed target is kept: long enough to undo a mistaken edit.
	targetGrace = 24 * time.Hour
	lastSpans   = 2 * time.Second
	// bodiesInFlight bounds the bodies of all attempts in flight. It is divided evenly between targets, so that none uses
	// another's share. An attempt holds its body about three times, and a Pod has 128 MiB.
	bodiesInFlight = 16 << 20
)

// Receiver serves one webhook.
type Receiver struct {
	Options
	metrics     *metrics.Metrics
	recent      *recent.Ring
	store       *stream.Store
	events      *ingest.Handler
	deliveries  *deliveries
	connections *ingest.Connections
	pool        *forward.Pool
	limits      atomic.Pointer[stream.Limits]
	quota       quota
	inForce     atomic.Pointer[files]

	gates sync.Map                      // target name → *forward.Gate
	skew  atomic.Pointer[time.Duration] // how far the clock of Redis is ahead; nil: not read yet
	// malformed is, by target name, how many malformed entries and members had been set aside when that was last logged.
	malformed sync.Map
	redis     *redishealth.Monitor
	// connecting is held while a connection is opened and replaces the current one.
	connecting sync.Mutex
	// redisChanged receives a value when the files name another Redis.
	redisChanged chan struct{}

	tracer       *trace.Tracer // nil: tracing is off
	defaultLevel slog.Level

	connected atomic.Bool
	reached   chan struct{} // closed when Redis has been reached for the first time
	draining  atomic.Bool
	// redisURLDigest is the digest of the Redis URL in use.
	redisURLDigest atomic.Pointer[string]
}

// New reads the files and returns a Receiver that is ready to Run. Its errors name the mistake and the remedy.
func New(o Options) (*Receiver, error) {
	f, err := readFiles(o.ConfigFile)
	if err != nil {
		return nil, err
	}
	w := f.config.Webhook
	o.Log = o.Log.With("namespace", w.Namespace, "name", w.Name)
	r := &Receiver{
		Options:     o,
		metrics:     metrics.New(w.Namespace, w.Name, o.Version),
		recent:      recent.New(o.Consumer),
		store:       stream.New(w.Namespace, w.Name, o.Consumer),
		reached:     make(chan struct{}),
		connections: ingest.NewConnections(cmp.Or(o.MaxConnections, DefaultMaxConnections)),
	}
	r.pool = forward.NewPool(r.reached)
	r.redisChanged = make(chan struct{}, 1)
	r.redis = redishealth.New(r.store, o.Log, r.readClock)
	r.deliveries = &deliveries{metrics: r.metrics, recent: r.recent}
	scraped := cached(r.accounts)
	r.metrics.Report(scraped, func() metrics.State { return r.state(scraped) })
	r.metrics.Watch(r.connections)
	if o.Level != nil {
		r.defaultLevel = o.Level.Level()
	}
	if o.Getenv != nil {
		r.tracer, err = trace.New(context.Background(), trace.Options{
			Getenv: o.Getenv, Service: "heymarket-receiver", Version: o.Version,
			Attributes: []string{"heymarket.webhook", w.Namespace + "/" + w.Name, "service.instance.id", o.Consumer},
			OnError:    func(err error) { o.Log.Warn("tracing failed", "error", err) },
		})
		if err != nil {
			return nil, err
		}
	}
	r.events = ingest.NewHandler(appender{r}, logs.Requests{Log: o.Log, Next: requests{r.metrics, r.recent}}, ingest.Settings{})
	if err := r.apply(f); err != nil {
		return nil, fmt.Errorf("%s: %w", o.ConfigFile, err)
	}
	return r, nil
}

// Run serves until ctx ends, then shuts down in an order that loses nothing: not ready, requests drained, taking stopped,
// attempts finished, Redis closed. It returns an error if a listener fails.
func (r *Receiver) Run(ctx context.Context) error {
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var background sync.WaitGroup
	background.Go(func() { r.watchRedis(serving) })
	background.Go(func() { r.reread(serving) })
	go r.runMaintenance(serving)

	server := &http.Server{
		Handler: r.events, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(r.Log.Handler(), slog.LevelDebug),
	}
	ops := &http.Server{
		Handler: r.opsHandler(), ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: server.ErrorLog,
	}
	r.connections.Follow(server)
	go serve(server, r.connections.Listen(r.Events), stop)
	ops.SetKeepAlivesEnabled(false) // so that new connections, including probes, are served in order of arrival
	probes := ingest.NewConnections(opsConnections)
	probes.Follow(ops)
	go serve(ops, probes.Listen(r.Ops), stop)
	adminServer := &http.Server{
		Handler: admin.Handler(admin.Options{
			DeadLetters: deadLetters{r.store, r}, Recent: r.recent, Contents: r.store, Names: r.targetNames, Targets: r.targets,
			MaxBodyBytes: func() int64 { return r.inForce.Load().config.MaxBodyBytes },
		}), ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: server.ErrorLog,
	}
	if r.Admin != nil {
		go serve(adminServer, r.Admin, stop)
	}
	r.Log.Info("serving", "events", r.Events.Addr().String(), "ops", r.Ops.Addr().String(), "version", r.Version)

	<-serving.Done()
	failed := context.Cause(serving)
	if ctx.Err() != nil {
		failed = nil
	}
	r.shutDown(server, failed == nil)
	r.endTracing()
	background.Wait()
	_ = adminServer.Close()
	r.store.Close()
	_ = ops.Close()
	return failed
}

func serve(s *http.Server, l net.Listener, failed context.CancelCauseFunc) {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		failed(fmt.Errorf("serve on %s: %w", l.Addr(), err))
	}
}

// shutDown gives proxies DrainDelay to switch over: the receiver is unready, but still accepts connections, and every answer
// closes its connection. Connections that are still idle afterwards have had no request in all that time, so Shutdown may close
// them.
func (r *Receiver) shutDown(server *http.Server, graceful bool) {
	r.draining.Store(true)
	r.events.Drain()
	r.Log.Info("shutting down: no longer ready, still serving", "drain_delay_ms", r.DrainDelay.Milliseconds())
	if graceful {
		time.Sleep(r.DrainDelay)
	}
	ctx, cancel := context.WithTimeout(context.Background(), config.DrainTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		r.Log.Warn("some requests did not finish in time; their senders will retry", "error", err)
		_ = server.Close()
	}
	ctx, cancel = context.WithTimeout(context.Background(), r.inForce.Load().config.LongestAttempt())
	defer cancel()
	r.pool.Stop(ctx)
	r.Log.Info("shut down: every attempt is settled")
}

// endTracing sends the last spans, within a short time limit.
func (r *Receiver) endTracing() {
	if r.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
	defer cancel()
	if err := r.tracer.Shutdown(ctx); err != nil {
		r.Log.Warn("the last spans were not sent", "error", err)
	}
}

// appender is the store for ingest. It wakes the workers of the targets for which it has stored an event.
type appender struct{ *Receiver }

// Append implements ingest.Store.
func (a appender) Append(ctx context.Context, id event.Identity, e event.Event, targets []string) (event.Judgement, string, error) {
	limits := *a.limits.Load()
	limits.Bytes = a.quota.bytes(a.store.MaxMemory())
	appended, err := a.store.Append(ctx, id, e, targets, limits)
	switch {
	case errors.Is(err, stream.ErrQuota):
		a.quota.fill()
		return "", "", fmt.Errorf("%w: %w", ingest.ErrQuota, err)
	case errors.Is(err, stream.ErrFull):
		return "", "", fmt.Errorf("%w: %w", ingest.ErrFull, err)
	case err != nil:
		return "", "", err
	}
	if appended.Stored() {
		a.pool.Wake(targets, delivery.LaneOf(e.Type))
	}
	return appended.Judgement, appended.ID, nil
}

// deadLetters is the store as admin sees it.
type deadLetters struct {
	*stream.Store
	receiver *Receiver
}

// ReplayEdited implements admin.DeadLetters.
func (d deadLetters) ReplayEdited(ctx context.Context, target, entry string, body []byte) (delivery.DeadLetterCount, error) {
	count, err := d.Store.ReplayEdited(ctx, target, entry, body, d.receiver.quota.bytes(d.MaxMemory()))
	if errors.Is(err, stream.ErrQuota) {
		err = fmt.Errorf("%w: %w", admin.ErrQuota, err)
	}
	return count, err
}
