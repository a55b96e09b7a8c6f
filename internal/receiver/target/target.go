// Package target sends one event to one downstream service and says what became of it.
package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"heymarket.dev/operator/internal/receiver/event"
)

// Headers that travel with every event. The first two are those of Standard Webhooks (standardwebhooks.com).
const (
	// HeaderID carries the event's id, the same over every attempt and replay: what a target deduplicates by.
	HeaderID = "Webhook-Id"
	// HeaderTimestamp carries the time of the attempt in seconds since the epoch.
	HeaderTimestamp = "Webhook-Timestamp"
	// HeaderType carries the event's type in its wire spelling.
	HeaderType = "Heymarket-Event-Type"
	// HeaderAttempt carries the number of the attempt, from 1.
	HeaderAttempt = "Heymarket-Attempt"
)

const (
	excerptBytes = 256     // of an answer, for the dead letters
	drainBytes   = 4 << 10 // of an answer, so that its connection can serve again; a longer answer costs a new one
)

// Options are what a Target needs.
type Options struct {
	// URL is an absolute http or https URL.
	URL string
	// Timeout bounds one attempt, from dialing to the end of the answer. It must be positive.
	Timeout time.Duration
	// MaxInFlight is the number of connections that are kept open to the target.
	MaxInFlight int
	// Addresses says where events may go.
	Addresses AddressPolicy
	// UserAgent names this receiver and its version.
	UserAgent string
}

// Target is one downstream service. Its methods may be called concurrently.
type Target struct {
	url       string
	timeout   time.Duration
	userAgent string
	client    *http.Client
	transport *http.Transport
}

// New returns a Target that opens no connection before the first Send.
func New(o Options) *Target {
	dialer := &net.Dialer{Timeout: o.Timeout, KeepAlive: 30 * time.Second, Control: o.Addresses.control}
	transport := &http.Transport{
		Proxy:                 nil, // a proxy from the environment would be dialed instead of the checked address
		DialContext:           dialer.DialContext,
		MaxIdleConnsPerHost:   o.MaxInFlight,
		MaxIdleConns:          o.MaxInFlight,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   o.Timeout,
		ResponseHeaderTimeout: o.Timeout,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
		ReadBufferSize:        2 << 10,
		WriteBufferSize:       2 << 10,
	}
	return &Target{
		url: o.URL, timeout: o.Timeout, userAgent: o.UserAgent, transport: transport,
		client: &http.Client{
			Transport: transport,
			// A redirect would carry the event to an address that nobody declared.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Send makes one attempt. It returns when the answer is read, when the timeout is over, or when ctx ends.
func (t *Target) Send(ctx context.Context, e event.Event, attempt int) event.Outcome {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(e.Body))
	if err != nil {
		return event.Outcome{Err: errors.New("the target's URL cannot be requested")}
	}
	req.Header = http.Header{
		"Content-Type":  {"application/json"},
		"User-Agent":    {t.userAgent},
		HeaderID:        {e.ID},
		HeaderTimestamp: {strconv.FormatInt(time.Now().Unix(), 10)},
		HeaderType:      {e.Type},
		HeaderAttempt:   {strconv.Itoa(attempt)},
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return event.Outcome{Err: withoutURL(err)}
	}
	defer resp.Body.Close()
	// The status decides; what follows it is read for the dead letters and to give the connection back.
	excerpt, _ := io.ReadAll(io.LimitReader(resp.Body, excerptBytes))
	_, _ = io.CopyN(io.Discard, resp.Body, drainBytes)
	out := event.Outcome{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	if !out.Delivered() {
		out.Excerpt = string(excerpt)
	}
	return out
}

// Close gives back idle connections. Attempts under way are not disturbed.
func (t *Target) Close() { t.transport.CloseIdleConnections() }

// withoutURL strips the URL that net/http puts before its errors: it may hold what no log should.
func withoutURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the target did not answer in time")
	}
	return err
}

// retryAfter reads the header of RFC 9110, section 10.2.3: seconds or an HTTP date. It returns 0 for anything else.
func retryAfter(header string, now time.Time) time.Duration {
	if header == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
