// Package stream is the only package that accesses Redis. It keeps accepted events until they are settled: one queue (a Redis
// stream with one consumer group) for every target and lane with a set of retries, one stream of dead letters for every target,
// and a marker for every remembered event. Every change of state is one script, so that a crash at any point leaves an event in
// exactly one place.
//
// It needs Redis 6.2 or later. All keys of a webhook share a hash tag and the prefix "hmw:{namespace/name}:".
package stream

import (
	"context"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	neturl "net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/address"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

var (
	//go:embed attempt.lua
	attemptSource string
	//go:embed bytes.lua
	bytesSource string
	//go:embed bound.lua
	boundSource string
	//go:embed append.lua
	appendSource string

	appendScript = newScript(attemptSource + bytesSource + boundSource + appendSource)
)

const (
	group = "receivers"
	// callTimeout bounds one call to Redis. It is below the ten seconds after which most senders stop waiting for an answer.
	callTimeout = 5 * time.Second
	dialTimeout = 3 * time.Second
)

// ErrUnavailable wraps every error after which nothing may be acknowledged, because Redis did not confirm.
var ErrUnavailable = errors.New("redis did not confirm")

// ErrFull is returned by Append when the queue of one of the targets is at its bound. Nothing has been stored.
var ErrFull = errors.New("a target's queue is full")

// ErrQuota is returned by Append and ReplayEdited when the webhook would have more bytes in Redis than it may have. Nothing has been stored.
var ErrQuota = errors.New("the webhook has as many bytes in Redis as it may have")

// Store keeps the events of one webhook. Its methods may be called concurrently. Until Connect has succeeded for the
// first time they return ErrUnavailable.
type Store struct {
	prefix   string
	bytesKey string // see bytes.lua
	consumer string
	client   atomic.Pointer[connection]
	deadlines

	addresses atomic.Pointer[address.Policy] // nil: any
	// opened counts the connections; held counts the bytes of incomplete answers on them.
	opened, held atomic.Int64
	doubted      chan struct{}
	// maxMemory is the maxmemory reported by the last INFO, in bytes; 0: no bound, or not read yet.
	maxMemory atomic.Int64
	limits    atomic.Pointer[limitArgs] // of the last Append
}

type connection struct{ rueidis.Client }

// New returns an unconnected Store for the webhook namespace/name. The consumer's name must be unique among all receivers that
// serve this webhook at the same time.
func New(namespace, name, consumer string) *Store {
	prefix := contract.RedisPrefix(namespace, name)
	return &Store{prefix: prefix, bytesKey: prefix + "bytes", consumer: consumer, doubted: make(chan struct{}, 1)}
}

// Connect dials the Redis at url, checks that it answers, and replaces the current connection. On an error the current one
// stays in use. The error names the address, never the user or the password.
//
// The url is redis://user:password@host:port/db, or rediss:// for TLS; further nodes of a cluster are given as ?addr=host:port,
// repeated; with ?master_set=name the hosts are Sentinels, whose credentials are sentinel_username and sentinel_password. ca
// holds PEM certificates that are trusted instead of the system's; nil means the system's.
func (s *Store) Connect(ctx context.Context, url string, ca []byte) error {
	client, err := s.open(ctx, url, ca)
	if err != nil {
		return err
	}
	s.use(client)
	return nil
}

// Reconnect dials as Connect does, but uses the new connection only if writes succeed on it: several nodes can share one
// address, and the current connection may lead to the wrong one.
func (s *Store) Reconnect(ctx context.Context, url string, ca []byte) error {
	client, err := s.open(ctx, url, ca)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.probe(ctx, client); err != nil {
		client.Close()
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	s.use(client)
	return nil
}

// Restrict sets the addresses to which later connections may go, including those to nodes that Redis announces; nil means any.
func (s *Store) Restrict(addresses *address.Policy) { s.addresses.Store(addresses) }

// Doubted receives a value after an answer that another connection may not give, see contract.Problem.WrongNode.
func (s *Store) Doubted() <-chan struct{} { return s.doubted }

func (s *Store) use(client rueidis.Client) {
	if old := s.client.Swap(&connection{client}); old != nil {
		// Commands in flight on the old connection are bounded by callTimeout.
		time.AfterFunc(2*callTimeout, old.Close)
	}
}

// open dials and checks that Redis answers.
func (s *Store) open(ctx context.Context, url string, ca []byte) (rueidis.Client, error) {
	options, err := s.options(strings.TrimSpace(url), ca)
	if err != nil {
		return nil, err
	}
	address := strings.Join(options.InitAddress, ", ")
	client, err := rueidis.NewClient(options)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnavailable, address, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := client.Do(ctx, client.B().Ping().Build()).Error(); err != nil {
		client.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrUnavailable, address, err)
	}
	return client, nil
}

func (s *Store) options(url string, ca []byte) (options rueidis.ClientOption, err error) {
	if err := contract.CheckRedisURL(url); err != nil {
		return options, settingsError{"the Redis URL " + err.Error()}
	}
	// It has been parsed by the check.
	parsed, _ := neturl.Parse(url)
	options, err = rueidis.ParseURL(url)
	if err != nil {
		// The parser's error repeats the URL, and with it the password.
		return options, settingsError{"the Redis URL cannot be read: write it as redis://user:password@host:6379/0, or rediss:// for TLS"}
	}
	if ca != nil {
		if options.TLSConfig == nil {
			return options, settingsError{fmt.Sprintf("there is a certificate authority for Redis at %s, but its URL does not begin with rediss://",
				strings.Join(options.InitAddress, ", "))}
		}
		options.TLSConfig.RootCAs = x509.NewCertPool()
		if !options.TLSConfig.RootCAs.AppendCertsFromPEM(ca) {
			return options, settingsError{"the certificate authority for Redis holds no PEM certificate"}
		}
	}
	options.DialCtxFn = s.dial
	options.Sentinel.Username = parsed.Query().Get("sentinel_username")
	options.Sentinel.Password = parsed.Query().Get("sentinel_password")
	options.Sentinel.Dialer.Timeout = dialTimeout
	options.Sentinel.TLSConfig = options.TLSConfig
	options.ClientName = "heymarket-receiver"
	options.ClientSetInfo = rueidis.DisableClientSetInfo // so that a tenant's ACL needs one right less
	options.DisableCache = true
	options.DisableRetry = true // a quick 503 is better than an answer after the sender has given up
	options.Dialer.Timeout = dialTimeout
	options.ConnWriteTimeout = callTimeout
	options.MaxFlushDelay = 20 * time.Microsecond
	options.PipelineMultiplex = -1         // one connection: commands of all goroutines share its pipeline
	options.RingScaleEachConn = 9          // 512 commands in flight
	options.ReadBufferEachConn = 64 << 10  // bodies are small; the library's default of 512 KiB would be most of an idle receiver's memory
	options.WriteBufferEachConn = 64 << 10 //
	return options, nil
}

// Ping checks that Redis answers now.
func (s *Store) Ping(ctx context.Context) error {
	return s.call(ctx, func(ctx context.Context, c rueidis.Client) error {
		return c.Do(ctx, c.B().Ping().Build()).Error()
	})
}

// Close closes the connection. No other method may be called after it.
func (s *Store) Close() {
	if c := s.client.Swap(nil); c != nil {
		c.Close()
	}
}

// Appended is the result of Append.
type Appended struct {
	event.Judgement
	// ID is the ID of the stored event. It differs from that of its key if the same event was stored before, so that targets
	// which deduplicate by ID do not drop it.
	ID string
}

// Limits are the bounds of Append.
type Limits struct {
	// Window is how long an event is remembered for deduplication.
	Window time.Duration
	// Retries is how long after a delivery the sender may still repeat it.
	Retries time.Duration
	// Backlog is the number of pending events, for each target and lane, at which Append returns ErrFull.
	Backlog int64
	// Bytes bounds the webhook's data in Redis, including its dead letters; beyond it Append returns ErrQuota. Zero: no bound.
	Bytes int64
}

// limitArgs are Limits as arguments of append.lua. They stay the same from event to event.
type limitArgs struct {
	Limits
	window, consent, retries, backlog, bytes string
}

func (s *Store) limitArgs(l Limits) *limitArgs {
	if a := s.limits.Load(); a != nil && a.Limits == l {
		return a
	}
	a := &limitArgs{
		Limits: l, window: milliseconds(l.Window), consent: milliseconds(max(l.Window, consentMemory)), retries: milliseconds(l.Retries),
		backlog: strconv.FormatInt(l.Backlog, 10), bytes: strconv.FormatInt(l.Bytes, 10),
	}
	s.limits.Store(a)
	return a
}

// consentMemory is the minimum time for which the last consent of a recipient is remembered. Repeats are recognised only within
// Limits.Window; the rest is for IDs: a consent that returns later must not have an ID that targets have seen.
const consentMemory = 90 * 24 * time.Hour

// Append deduplicates e by its identity, stores a new event for the named targets and remembers it, in one script. With no
// targets it only remembers. A nil error means that Redis has confirmed the write. After an error the event may or may not be
// stored; the same call can safely be repeated.
func (s *Store) Append(ctx context.Context, id event.Identity, e event.Event, targets []string, limits Limits) (Appended, error) {
	var keyRoom [11]string                                                                // on the stack, for up to four targets
	both := s.prefix + "d:" + string(id.Key[:]) + s.prefix + "s:" + string(id.Subject[:]) // one allocation
	marker, memory := both[:len(both)/2], both[len(both)/2:]
	bounds := s.limitArgs(limits)
	kept := bounds.window
	switch id.Rule {
	case event.OptOut, event.OptIn:
		kept = bounds.consent
	case event.Last, event.Any:
	}
	keys := append(keyRoom[:0], marker, memory, s.bytesKey)
	lane := delivery.LaneOf(e.Type)
	for _, t := range targets {
		keys = append(keys, s.queueKey(t, lane), s.accountKey(t))
	}
	var argRoom [8 + maxFields]string
	args := append(argRoom[:0], bounds.window, bounds.backlog,
		string(id.Rule), string(id.State[:]), strconv.FormatInt(id.Updated, 10), bounds.retries, kept, bounds.bytes)
	args = encodeEvent(args, e)
	reply, err := s.exec(ctx, appendScript, keys, args)
	if err != nil {
		return Appended{}, fmt.Errorf("append event: %w", err)
	}
	overQuota := -int64(len(targets)) - 1
	code, stored, err := decodeAppended(reply, overQuota)
	switch {
	case err != nil:
		return Appended{}, fmt.Errorf("append event: %w", err)
	case code == overQuota:
		return Appended{}, fmt.Errorf("append event: %w", ErrQuota)
	case code < 0:
		return Appended{}, fmt.Errorf("append event: %w: %s", ErrFull, targets[-code-1])
	case stored == "":
		stored = e.ID
	}
	return Appended{judgements[code], stored}, nil
}

// judgements are indexed by the code that append.lua returns.
var judgements = [...]event.Judgement{event.Repeat, event.New, event.Returned, event.LateRepeat, event.OptInWithheld}

// decodeAppended reads the reply of append.lua: a code, which is at least least, or a code and an id.
func decodeAppended(reply rueidis.RedisMessage, least int64) (code int64, id string, err error) {
	if reply.IsArray() {
		parts, err := reply.ToArray()
		if err != nil || len(parts) != 2 {
			return 0, "", errReply
		}
		if id, err = parts[1].ToString(); err != nil {
			return 0, "", errReply
		}
		reply = parts[0]
	}
	if code, err = reply.AsInt64(); err != nil || code < least || code >= int64(len(judgements)) {
		return 0, "", errReply
	}
	return code, id, nil
}

// MaxMemory returns the memory limit of Redis in bytes, as of the last Check; 0: unlimited, or not known yet.
func (s *Store) MaxMemory() int64 { return s.maxMemory.Load() }

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func (s *Store) queueKey(target string, lane delivery.Lane) string {
	return s.prefix + "q:" + target + ":" + string(lane)
}

// laneKeys are the keys that all scripts of one target and lane share, in order.
func (s *Store) laneKeys(target string, lane delivery.Lane) []string {
	suffix := target + ":" + string(lane)
	return []string{s.queueKey(target, lane), s.prefix + "r:" + suffix, s.prefix + "h:" + suffix, s.prefix + "p:" + suffix}
}

func (s *Store) deadKey(target string) string { return s.prefix + "dead:" + target }
