// Package target sends one event to one downstream service and returns the outcome.
package target

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/address"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

// Headers that are sent with every event. The first two are those of Standard Webhooks (standardwebhooks.com).
const (
	// HeaderID carries the event's ID, the same for every attempt and replay, by which targets deduplicate.
	HeaderID = "Webhook-Id"
	// HeaderTimestamp carries the time of the attempt in seconds since the epoch.
	HeaderTimestamp = "Webhook-Timestamp"
	// HeaderType carries the event's type in its wire spelling.
	HeaderType = "Heymarket-Event-Type"
	// HeaderAttempt carries the number of the attempt, from 1.
	HeaderAttempt = "Heymarket-Attempt"
)

const (
	excerptBytes = 256 // of an answer, for the dead letters
	errorBytes   = 256 // of an error's text
	headerBytes  = 64 << 10
	drainBytes   = 4 << 10 // of an answer, so that its connection can be reused; after a longer answer it is closed
)

const (
	// drainTime bounds the reading of an answer's body: the status has already decided the outcome.
	drainTime = 250 * time.Millisecond
	// idleTime is how long a connection is kept without use.
	idleTime = time.Minute
	// connectionAge is when connections are renewed even if they are in use, so that DNS changes are followed.
	connectionAge = time.Minute
	// An HTTP/2 connection on which nothing was read for pingAfter is pinged, and closed if no answer arrives within
	// pingTimeout.
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

// Options configure a Target.
type Options struct {
	// URL is an absolute http or https URL.
	URL string
	// Timeout bounds one attempt, from dialing to the end of the answer. It must be positive.
	Timeout time.Duration
	// MaxInFlight is the number of connections kept open to the target.
	MaxInFlight int
	// Addresses decides where events may be sent.
	Addresses address.Policy
	// UserAgent names this receiver and its version.
	UserAgent string
	// Format is how an event is encoded in the request.
	Format contract.Format
	// Source identifies the webhook in CloudEvents, see Source. The CloudEvents formats require it.
	Source string
	// SigningKeys sign every attempt as defined by Standard Webhooks, one signature per key. None: unsigned.
	SigningKeys [][]byte
	// Headers are sent with every attempt. Headers that this package sets itself are overridden.
	Headers http.Header
	// RootCAs are trusted instead of the system's; nil: the system's.
	RootCAs *x509.CertPool
	// ServerName is expected in the target's certificate instead of the URL's host; empty: the URL's host.
	ServerName string
}

// Target is one downstream service. Its methods may be called concurrently.
type Target struct {
	// request is the template of all attempts; nil: the URL is invalid.
	request *http.Request
	timeout time.Duration
	format  contract.Format
	source  string
	keys    [][]byte
	headers http.Header
	*connections
}

// New returns a Target that opens no connection before the first Send.
func New(o Options) *Target {
	transport := &http.Transport{
		Proxy:                 nil, // a proxy from the environment would be dialed instead of the checked address
		DialContext:           o.dialer().DialContext,
		MaxIdleConnsPerHost:   o.MaxInFlight,
		MaxIdleConns:          o.MaxInFlight,
		IdleConnTimeout:       idleTime,
		TLSHandshakeTimeout:   o.Timeout,
		ResponseHeaderTimeout: o.Timeout,
		DisableCompression:    true,
		// The library's bound of 10 MiB times MaxInFlight exceeds a receiver's memory.
		MaxResponseHeaderBytes: headerBytes,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: pingTimeout},
		ReadBufferSize:         2 << 10,
		WriteBufferSize:        2 << 10,
	}
	if o.RootCAs != nil || o.ServerName != "" {
		transport.TLSClientConfig = &tls.Config{RootCAs: o.RootCAs, ServerName: o.ServerName, MinVersion: tls.VersionTLS12}
	}
	headers := make(http.Header, len(o.Headers)+1)
	maps.Copy(headers, o.Headers)
	headers["User-Agent"] = []string{o.UserAgent}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, o.URL, nil)
	if err != nil {
		request = nil
	}
	return &Target{
		request: request, timeout: o.Timeout, format: o.Format, source: o.Source, keys: o.SigningKeys, headers: headers,
		connections: &connections{transport: transport},
	}
}

// dialer checks every address with the policy, after resolution and before each connection.
func (o Options) dialer() *net.Dialer {
	return &net.Dialer{Timeout: o.Timeout, KeepAlive: 30 * time.Second, Control: o.Addresses.Control}
}

// Send makes one attempt. It returns when the answer is read, the timeout expires, or ctx ends.
func (t *Target) Send(ctx context.Context, e event.Event, attempt int) delivery.Outcome {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	header := make(http.Header, len(t.headers)+12)
	maps.Copy(header, t.headers)
	body := t.encode(e, header)
	now := time.Now().Unix()
	header[HeaderID] = []string{e.ID}
	header[HeaderTimestamp] = []string{strconv.FormatInt(now, 10)}
	header[HeaderType] = []string{e.Type}
	header[HeaderAttempt] = []string{strconv.Itoa(attempt)}
	for _, h := range [...][2]string{{HeaderTrace, e.Trace}, {headerTraceState, e.TraceState}, {headerBaggage, e.Baggage}} {
		if h[1] != "" {
			header[h[0]] = []string{h[1]}
		}
	}
	if len(t.keys) > 0 {
		header[HeaderSignature] = []string{sign(t.keys, e.ID, now, body)}
	}
	if t.request == nil {
		return delivery.Outcome{Err: errors.New("the target's URL cannot be requested")}
	}
	req := t.request.WithContext(ctx)
	req.Header = header
	if req.ContentLength = int64(len(body)); len(body) > 0 {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
	}
	// Not by an http.Client: it follows redirects, and an event must be sent only to the configured URL.
	transport := t.current(time.Now())
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if isTimeout(err) {
			t.abandon(transport)
		}
		return delivery.Outcome{Err: explain(err), Class: classify(err)}
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close() // It is the raw connection, whose reads do not end with a context.
		return delivery.Outcome{Err: errors.New("the target switched protocols (101) instead of answering; its URL may be that of a WebSocket")}
	}
	out := delivery.Outcome{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	excerpt := drain(resp, cancel)
	if !out.Delivered() {
		out.Excerpt = string(excerpt)
	}
	return out
}

// drain reads the beginning of an answer's body, for the dead letters and to reuse the connection. It takes at most
// drainTime: then the attempt's context is cancelled, which ends the reading.
func drain(resp *http.Response, cancel context.CancelFunc) (excerpt []byte) {
	defer resp.Body.Close()
	if resp.Body == http.NoBody {
		return nil
	}
	timer := time.AfterFunc(drainTime, cancel)
	defer timer.Stop()
	excerpt, _ = io.ReadAll(io.LimitReader(resp.Body, excerptBytes))
	_, _ = io.CopyN(io.Discard, resp.Body, drainBytes)
	return excerpt
}

// explain returns err in a form that may be logged. If net/http does not understand an answer it quotes it, at any length,
// and a quoted answer may repeat the request.
func explain(err error) error {
	var (
		network *net.OpError
		noTLS   tls.RecordHeaderError
		badCert *tls.CertificateVerificationError
		alert   tls.AlertError
	)
	switch {
	case isTimeout(err):
		return errors.New("the target did not answer in time")
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &noTLS):
		return errors.New("the target does not speak TLS")
	case errors.As(err, &badCert):
		return bounded(badCert)
	case errors.As(err, &alert):
		return bounded(alert)
	case errors.As(err, &network):
		return bounded(network)
	}
	return errors.New("the connection broke before an answer, or the answer is not HTTP")
}

// classify returns the class of an error of a request.
func classify(err error) contract.ErrorClass {
	var (
		noName  *net.DNSError
		noTLS   tls.RecordHeaderError
		badCert *tls.CertificateVerificationError
		alert   tls.AlertError
		blocked address.BlockedError
	)
	switch {
	case errors.As(err, &noName):
		return contract.ErrorNameLookup
	case isTimeout(err):
		return contract.ErrorTimeout
	case errors.As(err, &blocked):
		return contract.ErrorBlocked
	case errors.As(err, &noTLS), errors.As(err, &badCert), errors.As(err, &alert):
		return contract.ErrorTLS
	}
	return contract.ErrorRefused
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// bounded truncates the text of an error, whose length a certificate or a resolver may control.
func bounded(err error) error {
	text := err.Error()
	if len(text) <= errorBytes {
		return err
	}
	return errors.New(strings.ToValidUTF8(text[:errorBytes], "") + "…")
}
