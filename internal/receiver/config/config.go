// Package config is the only interface between the operator and the receiver: the operator encodes a Config into the Secret that
// a receiver mounts, the receiver decodes it. It imports no Kubernetes package, so that the receiver also runs from a file on a
// laptop.
//
// While an operator is being upgraded or rolled back, the two are one release apart. Therefore:
//
//	A member is never renamed, removed or redefined. Configurations written by any release stay readable; the files in
//	  testdata/format-1 are examples.
//	A new member is optional, omitted when unused, and listed in the table introduced with the next format number, to which the
//	  constant Version is raised. A test compares with the members of format 1.
//	Encode writes the lowest format number that has every member in use. So a receiver of the previous release, which may be
//	  strict, can read any configuration that uses no new member.
//	A receiver decodes its own formats strictly. In a higher one it ignores unknown members, logs them, and counts them in a
//	  metric: the operator that wrote them is about to replace the receiver.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"heymarket.dev/operator/internal/contract"
)

// Version is the highest format that this build supports.
const Version = 3

// Bounds and defaults. The CRD repeats those that a user can set; a test keeps them equal.
const (
	DefaultDeduplicationWindow = 96 * time.Hour
	DefaultRetryHorizon        = 72 * time.Hour
	DefaultTimeout             = 10 * time.Second
	DefaultMaxAttempts         = 16
	DefaultMinBackoff          = time.Second
	DefaultMaxBackoff          = 10 * time.Minute
	DefaultMaxAge              = 24 * time.Hour
	DefaultMaxInFlight         = 32
	DefaultMaxBodyBytes        = 1 << 20
	DefaultMaxBacklog          = 1_000_000
	// DefaultBacklogShare is the fraction of Redis's maxmemory that one webhook may use: one tenth.
	DefaultBacklogShare = 10
	// DefaultMaxBacklogBytes is how much it may use of a Redis without maxmemory.
	DefaultMaxBacklogBytes = 256 << 20
	DefaultDeadLetterAge   = 14 * 24 * time.Hour
	DefaultDeadLetterLimit = 10_000
	ConsentInFlight        = 4
	MaxTargets             = 16
	MaxRetryStatuses       = 32

	// maxDuration and maxTimeout keep sums of durations from overflowing; the CRD's bounds are tighter.
	maxDuration = Duration(10 * 365 * 24 * time.Hour)
	maxTimeout  = Duration(time.Hour)
)

// DefaultRetryStatuses returns the statuses that are retried besides 408, 409, 425, 429 and 5xx unless a target sets its own.
// They describe the path to the target, such as a missing route during a rollout, or its access control, and not the event.
func DefaultRetryStatuses() []int { return []int{401, 403, 404, 407, 421, 423, 424, 499} }

// The steps of a receiver's shutdown, each bounded. With the longest attempt they add up to TerminationGrace.
const (
	// DrainDelay is how long a receiver keeps serving after it has become unready, until load balancers notice.
	DrainDelay = 5 * time.Second
	// DrainTimeout bounds the wait for requests in flight.
	DrainTimeout = 15 * time.Second
	// StatusTimeout bounds how long a receiver's status request waits for Redis before it is answered without it.
	StatusTimeout = 2 * time.Second
	// FirstContact is how long after its start a receiver that has not reached Redis yet reports contract.RedisConnecting instead
	// of the connection error: a new Pod's network may not be up yet.
	FirstContact = 10 * time.Second
	// settleTimeout is the time left for settling the last attempts.
	settleTimeout = 13 * time.Second
)

// TerminationGrace returns how long a receiver may take from SIGTERM to its exit, regardless of its targets.
func (c Config) TerminationGrace() time.Duration {
	return DrainDelay + DrainTimeout + c.LongestAttempt() + settleTimeout
}

// LongestAttempt returns the longest timeout of the targets.
func (c Config) LongestAttempt() (longest time.Duration) {
	for _, t := range c.withDefaults().Targets {
		longest = max(longest, t.Timeout.Std())
	}
	return longest
}

// Config is the complete configuration of one receiver. It holds no token and no Redis URL: it names the files that do.
type Config struct {
	// Version is the format, from 1 on, see the package comment. Encode sets it.
	Version int `json:"version"`
	// Webhook is the webhook that the receiver serves.
	Webhook Webhook `json:"webhook"`
	// Paths are the complete URL paths at which events are accepted, including the secret segment; two while a segment is being
	// rotated. At least one, each beginning with "/".
	Paths []string `json:"paths"`
	// TokenFiles hold the verification tokens, one a file; a trailing newline is not part of a token. One, or two while a
	// rotation is under way: the current token first, the previous one second.
	TokenFiles []string `json:"tokenFiles"`
	// RedisURLFile holds the Redis URL: redis:// or rediss://.
	RedisURLFile string `json:"redisURLFile"`
	// RedisCAFile holds PEM certificates that are trusted for rediss:// instead of the system's. Empty means the system's.
	RedisCAFile string `json:"redisCAFile,omitempty"`
	// WebhookID, when set, is the Heymarket webhook configuration that these deliveries must name.
	WebhookID *int64 `json:"webhookID,omitzero"`
	// EventTypes are the accepted types in their wire spelling; empty means all, including unknown future ones.
	EventTypes []string `json:"eventTypes,omitempty"`
	// Targets are the services that get the events: 1 to MaxTargets, names unique.
	Targets []Target `json:"targets"`
	// Deduplication configures how deliveries are recognized as repeats, and how long a delivery is remembered.
	Deduplication Deduplication `json:"deduplication"`
	// Retention bounds the dead letters of each target.
	Retention Retention `json:"retention,omitzero"`
	// Paused accepts and stores events but delivers none.
	Paused bool `json:"paused,omitzero"`
	// LogLevel is debug, info, warn or error; empty means info.
	LogLevel string `json:"logLevel,omitempty"`
	// TrustedProxies are the networks (CIDR) whose X-Forwarded-For is trusted when failed authentication is counted, or if it is
	// missing, their Forwarded or X-Real-IP.
	TrustedProxies []string `json:"trustedProxies,omitempty"`
	// Addresses configures where events may be sent.
	Addresses Addresses `json:"addresses,omitzero"`
	// RestrictRedis applies Addresses to every connection to Redis as well: a resource names its URL.
	RestrictRedis bool `json:"restrictRedis,omitzero"`
	// MaxBodyBytes bounds a request body. Zero means DefaultMaxBodyBytes.
	MaxBodyBytes int64 `json:"maxBodyBytes,omitzero"`
	// MaxBacklog bounds the unsettled events of one target; at the bound the answer is 429. Zero means DefaultMaxBacklog.
	MaxBacklog int64 `json:"maxBacklog,omitzero"`
	// MaxBacklogBytes bounds the webhook's data in Redis, pending events and dead letters of all targets together; beyond it the
	// answer is 429. Zero means a share of Redis's maxmemory, see DefaultBacklogShare, and a negative number no bound.
	MaxBacklogBytes int64 `json:"maxBacklogBytes,omitzero"`
}

// Webhook names the HeymarketWebhook that a receiver serves. Both names are part of the prefix of its Redis keys and of every
// event ID, so they must not change during the life of a resource.
type Webhook struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Target is one downstream service.
type Target struct {
	// Name is unique among the targets of a webhook; it names the target's streams in Redis.
	Name string `json:"name"`
	// URL is where events are POSTed: absolute, http or https, without user information or fragment.
	URL string `json:"url"`
	// EventTypes restricts which types this target gets; empty means all that the webhook accepts.
	EventTypes []string `json:"eventTypes,omitempty"`
	// Timeout bounds one attempt, from dialing to the last byte of the answer. Zero means DefaultTimeout.
	Timeout Duration `json:"timeout,omitzero"`
	// Retry is the schedule of attempts.
	Retry Retry `json:"retry,omitzero"`
	// MaxInFlight bounds concurrent attempts of one receiver Pod. Opt-outs and opt-ins may have ConsentInFlight more, so that
	// nothing delays them. Zero means DefaultMaxInFlight.
	MaxInFlight int `json:"maxInFlight,omitzero"`
	// RatePerSecond bounds the attempts that one receiver Pod starts per second. Zero means unlimited.
	RatePerSecond int `json:"ratePerSecond,omitzero"`
	// Filter is a CEL expression over event that yields a bool: whether this target gets the event. Empty means true.
	Filter string `json:"filter,omitempty"`
	// Format is how the event is encoded in the request; empty means contract.FormatHeymarket.
	Format contract.Format `json:"format,omitempty"`
	// Order is the order in which events reach the target; empty means contract.OrderNone.
	Order contract.Order `json:"order,omitempty"`
	// SigningKeyFiles hold Standard Webhooks secrets (whsec_ and base64), one per file; every attempt is signed with each. None
	// means unsigned; there are two during a rotation.
	SigningKeyFiles []string `json:"signingKeyFiles,omitempty"`
	// Headers are sent with every attempt.
	Headers []Header `json:"headers,omitempty"`
	// TLS configures targets behind a private certificate authority.
	TLS TLS `json:"tls,omitzero"`
}

// Header is sent with every attempt. Exactly one of Value and ValueFile is set.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	// ValueFile holds the value; a trailing newline is not part of it.
	ValueFile string `json:"valueFile,omitempty"`
}

// TLS configures targets behind a private certificate authority.
type TLS struct {
	// CAFile holds PEM certificates that are trusted instead of the system's. Empty means the system's.
	CAFile string `json:"caFile,omitempty"`
	// ServerName is expected in the target's certificate instead of the URL's host.
	ServerName string `json:"serverName,omitempty"`
}

// Retention bounds the dead letters of each target. Zero fields mean the defaults.
type Retention struct {
	// DeadLetters is how long one is kept.
	DeadLetters Duration `json:"deadLetters,omitzero"`
	// DeadLetterLimit is how many are kept.
	DeadLetterLimit int64 `json:"deadLetterLimit,omitzero"`
}

// Retry is the schedule of attempts for one event at one target. Zero fields mean the defaults above.
type Retry struct {
	// MaxAttempts includes the first attempt.
	MaxAttempts int `json:"maxAttempts,omitzero"`
	// MinBackoff is the delay before the second attempt; it doubles for each further one, up to MaxBackoff.
	MinBackoff Duration `json:"minBackoff,omitzero"`
	MaxBackoff Duration `json:"maxBackoff,omitzero"`
	// MaxAge is counted from acceptance; an older event is given up.
	MaxAge Duration `json:"maxAge,omitzero"`
	// Statuses are the statuses from 300 to 499 that are retried and open the circuit, besides 408, 409, 425, 429 and 5xx. Nil
	// means DefaultRetryStatuses, empty means none; at most MaxRetryStatuses.
	Statuses []int `json:"statuses,omitzero"`
}

// Deduplication configures how deliveries are recognized as repeats, and how long a delivery is remembered.
type Deduplication struct {
	// Window is how long a delivery is remembered. Zero means DefaultDeduplicationWindow.
	Window Duration `json:"window,omitzero"`
	// RetryHorizon is how long after a delivery Heymarket may still repeat it. During that time, within Window, an opt-in that
	// equals one from before an opt-out is treated as its repeat. Zero means DefaultRetryHorizon.
	RetryHorizon Duration `json:"retryHorizon,omitzero"`
	// Key is a CEL expression over event that yields a string, used instead of the profiles by type. Empty means the profiles.
	Key string `json:"key,omitempty"`
}

// Addresses configures where events may be sent. The zero value refuses this machine itself, link-local addresses and clouds'
// metadata services, and allows private ranges.
type Addresses struct {
	// AllowLoopback permits targets on this machine: for laptops, never in a cluster.
	AllowLoopback bool `json:"allowLoopback,omitzero"`
	// DenyPrivate also refuses private ranges.
	DenyPrivate bool `json:"denyPrivate,omitzero"`
	// AllowNetworks (CIDR) are exempt from DenyPrivate, which they require; nothing else is allowed by them.
	AllowNetworks []string `json:"allowNetworks,omitempty"`
}

// Encode returns c as the bytes that a receiver mounts: deterministic, indented for people. It returns an error if c is invalid,
// so that the operator cannot roll out a configuration that receivers reject.
func Encode(c Config) ([]byte, error) {
	return encode(c, introduced)
}

func encode(c Config, introduced map[string]int) ([]byte, error) {
	c.Version = 1
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b, err := marshal(c)
	if err != nil || len(introduced) == 0 {
		return b, err
	}
	if c.Version, err = formatOf(b, introduced); err != nil || c.Version == 1 {
		return b, err
	}
	return marshal(c)
}

func marshal(c Config) ([]byte, error) {
	b, err := json.Marshal(c, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("encode receiver configuration: %w", err)
	}
	return append(b, '\n'), nil
}

// Decode reads a configuration that Encode of this release, of an earlier one or of the next one wrote, and fills in defaults.
// Unknown members are errors up to the format Version, and ignored in higher ones, see Ignored. Duplicate members and invalid
// values are errors that name the mistake.
func Decode(b []byte) (Config, error) {
	var c Config
	err := json.Unmarshal(b, &c, json.RejectUnknownMembers(true))
	if err != nil && isNewer(b) {
		c = Config{}
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return Config{}, fmt.Errorf("receiver configuration: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c.withDefaults(), nil
}

// isNewer reports whether the bytes are of a format that this build does not support.
func isNewer(b []byte) bool {
	var c struct {
		Version int `json:"version"`
	}
	return json.Unmarshal(b, &c) == nil && c.Version > Version
}

// Digest identifies encoded configuration bytes: "sha256:" and 64 hexadecimal digits. The receiver reports the digest of its
// running configuration, and the operator compares it with the one that it applied.
func Digest(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func checkHeaders(headers []Header) []error {
	if len(headers) > MaxHeaders {
		return []error{fmt.Errorf("more than %d headers", MaxHeaders)}
	}
	var errs []error
	seen := map[string]bool{}
	for _, h := range headers {
		canonical := textproto.CanonicalMIMEHeaderKey(h.Name)
		if h.Name == "" || (h.Value == "") == (h.ValueFile == "") {
			errs = append(errs, fmt.Errorf("header %q must have a name and exactly one of value and valueFile", h.Name))
		} else if err := errors.Join(CheckHeaderName(h.Name), CheckHeaderValue(h.Value)); err != nil {
			errs = append(errs, fmt.Errorf("header %q %w", h.Name, err))
		} else if seen[canonical] {
			errs = append(errs, fmt.Errorf("header %q stands twice", h.Name))
		}
		seen[canonical] = true
	}
	return errs
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

func (c Config) withDefaults() Config {
	c.MaxBodyBytes = or(c.MaxBodyBytes, DefaultMaxBodyBytes)
	c.MaxBacklog = or(c.MaxBacklog, DefaultMaxBacklog)
	c.Retention.DeadLetters = or(c.Retention.DeadLetters, Duration(DefaultDeadLetterAge))
	c.Retention.DeadLetterLimit = or(c.Retention.DeadLetterLimit, DefaultDeadLetterLimit)
	c.Deduplication.Window = or(c.Deduplication.Window, Duration(DefaultDeduplicationWindow))
	c.Targets = slices.Clone(c.Targets)
	for i := range c.Targets {
		t := &c.Targets[i]
		t.Timeout = or(t.Timeout, Duration(DefaultTimeout))
		t.MaxInFlight = or(t.MaxInFlight, DefaultMaxInFlight)
		t.Format = or(t.Format, contract.FormatHeymarket)
		t.Order = or(t.Order, contract.OrderNone)
		t.Retry = t.Retry.withDefaults()
	}
	return c
}

func (r Retry) withDefaults() Retry {
	return Retry{
		MaxAttempts: or(r.MaxAttempts, DefaultMaxAttempts),
		MinBackoff:  or(r.MinBackoff, Duration(DefaultMinBackoff)),
		MaxBackoff:  or(r.MaxBackoff, Duration(DefaultMaxBackoff)),
		MaxAge:      or(r.MaxAge, Duration(DefaultMaxAge)),
		Statuses:    r.Statuses, // A nil slice stays nil, so that a configuration is encoded as it was decoded.
	}
}

// RetryStatuses returns Statuses, or the default if they are not set.
func (r Retry) RetryStatuses() []int {
	if r.Statuses == nil {
		return DefaultRetryStatuses()
	}
	return r.Statuses
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
