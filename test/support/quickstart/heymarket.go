package quickstart

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Heymarket sends events as the provider does: one POST each, with the token in the body.
type Heymarket struct {
	URL       string // in full: a secret
	Token     string
	WebhookID int64  // of the webhook's configuration: the same in every event
	Address   string // that the URL's host stands for

	client *http.Client
}

// NewHeymarket returns a sender that reaches the URL's host at an address, bypassing DNS, and verifies it with roots.
func NewHeymarket(target, token, address string, roots *x509.CertPool) *Heymarket {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &Heymarket{URL: target, Token: token, WebhookID: 4711, Address: address, client: &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, host string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(host)
				if err != nil {
					return nil, err
				}
				return dialer.DialContext(ctx, network, net.JoinHostPort(address, port))
			},
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: 128,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Host is the host of the URL.
func (h *Heymarket) Host() string {
	u, err := url.Parse(h.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// awaitRoute waits, a minute at most, until a GET of the URL is no longer answered 404: an ingress controller reports its address before
// it serves a new route.
func (h *Heymarket) awaitRoute(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, http.NoBody)
		if err != nil {
			return err
		}
		response, err := h.client.Do(request)
		if err != nil {
			return fmt.Errorf("GET from %s at %s: %w", h.Host(), h.Address, cause(err))
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusNotFound {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no route of the ingress controller leads to the receiver: GET from %s at %s is answered 404", h.Host(), h.Address)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Answer is a receiver's answer.
type Answer struct {
	Status     int
	RetryAfter string
	Body       string
	Took       time.Duration
}

// Event is one event. Data becomes "event_data".
type Event struct {
	Type  string
	Data  any
	Token string // instead of Heymarket's own
}

// Send sends an event.
func (h *Heymarket) Send(ctx context.Context, e Event) (Answer, error) {
	token := h.Token
	if e.Token != "" {
		token = e.Token
	}
	body, err := json.Marshal(struct {
		Type  string `json:"type"`
		ID    int64  `json:"id"`
		Token string `json:"token"`
		Data  any    `json:"event_data"`
	}{e.Type, h.WebhookID, token, e.Data})
	if err != nil {
		return Answer{}, err
	}
	return h.SendBody(ctx, string(body))
}

// SendBody sends a body unchanged.
func (h *Heymarket) SendBody(ctx context.Context, body string) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	began := time.Now()
	response, err := h.client.Do(request)
	if err != nil {
		// The URL is a secret: the error names the host alone.
		return Answer{}, fmt.Errorf("POST to %s at %s: %w", h.Host(), h.Address, cause(err))
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return Answer{}, fmt.Errorf("read the answer of %s: %w", h.Host(), err)
	}
	return Answer{Status: response.StatusCode, RetryAfter: response.Header.Get("Retry-After"), Body: string(text), Took: time.Since(began)}, nil
}

func cause(err error) error {
	if wrapped, ok := err.(*url.Error); ok { //nolint:errorlint // net/http promises this very type
		return wrapped.Err
	}
	return err
}

// Message is the guide's sample of a message that a customer sent.
func Message(id int64, text string) Event {
	return Event{Type: "message_recieved", Data: map[string]any{
		"id": id, "local_id": fmt.Sprintf("local-%d", id), "author": "+15551234567", "user": 0, "type": "sms", "status": "received", "text": text,
		"phone": "+15551234567", "target": "+15557654321", "date": "2026-11-21T09:00:00Z", "flagged": false, "support": true,
		"conversation": conversation(8000000001, "2026-11-21T09:00:00Z"),
	}}
}

// ChatClosed is a conversation that a person has closed.
func ChatClosed(id int64, updated time.Time) Event {
	return Event{Type: "chat_closed", Data: conversation(id, updated.UTC().Format(time.RFC3339Nano))}
}

func conversation(id int64, updated string) map[string]any {
	return map[string]any{
		"id": id, "local_id": fmt.Sprintf("conversation-%d", id), "inbox": 12, "assigned": 34, "channel": "sms", "type": "direct", "target": "+15557654321",
		"name": "A. Customer", "members": []map[string]any{{"id": 56, "name": "A. Customer"}}, "created": "2026-11-20T08:00:00Z", "updated": updated,
	}
}
