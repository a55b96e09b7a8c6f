package trace

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// settings are what OpenTelemetry's variables for OTLP exporters say.
type settings struct {
	endpoint string
	headers  http.Header
	timeout  time.Duration
	roots    *x509.CertPool
}

const (
	defaultTimeout = 10 * time.Second
	retries        = 3
	firstDelay     = time.Second
	longestDelay   = 5 * time.Second
	drainBytes     = 4 << 10
)

// fromEnvironment returns nil where no collector is named. A variable for traces wins over the one for all signals.
func fromEnvironment(getenv func(string) string) (*settings, error) {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil //nolint:nilnil // no collector is no mistake
	}
	s := &settings{headers: http.Header{}, timeout: defaultTimeout}
	name, raw := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if raw == "" {
		name, raw = "OTEL_EXPORTER_OTLP_ENDPOINT", getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
		if raw == "" {
			return nil, nil //nolint:nilnil // as above
		}
		raw = strings.TrimRight(raw, "/") + "/v1/traces"
	}
	endpoint, err := url.Parse(raw)
	if err != nil || (endpoint.Scheme != "http" && endpoint.Scheme != "https") || endpoint.Host == "" {
		return nil, fmt.Errorf("%s is not a URL such as http://collector:4318", name)
	}
	s.endpoint = endpoint.String()
	if name, protocol := either(getenv, "PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return nil, fmt.Errorf("%s is %q; this process speaks http/protobuf only", name, protocol)
	}
	if name, raw := either(getenv, "TIMEOUT"); raw != "" {
		ms, err := strconv.Atoi(raw)
		if err != nil || ms <= 0 {
			return nil, fmt.Errorf("%s is %q; write milliseconds, such as 10000", name, raw)
		}
		s.timeout = time.Duration(ms) * time.Millisecond
	}
	if name, raw := either(getenv, "HEADERS"); raw != "" {
		for pair := range strings.SplitSeq(raw, ",") {
			key, value, ok := strings.Cut(pair, "=")
			if value, err = url.PathUnescape(strings.TrimSpace(value)); !ok || err != nil || strings.TrimSpace(key) == "" {
				return nil, fmt.Errorf("%s is not a list such as key=value,key2=value2", name) // its values may be secret
			}
			s.headers.Set(strings.TrimSpace(key), value)
		}
	}
	if name, file := either(getenv, "CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if s.roots = x509.NewCertPool(); !s.roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %s holds no certificate in PEM form", name, file)
		}
	}
	return s, nil
}

func either(getenv func(string) string, suffix string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + suffix
	if value = getenv(name); value == "" {
		name = "OTEL_EXPORTER_OTLP_" + suffix
		value = getenv(name)
	}
	return name, value
}

// client implements otlptrace.Client.
type client struct {
	settings
	http *http.Client
}

func newClient(s *settings) *client {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		MaxIdleConns:        1,
		IdleConnTimeout:     time.Minute,
		TLSHandshakeTimeout: s.timeout,
		TLSClientConfig:     &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12},
	}
	return &client{*s, &http.Client{Transport: transport, Timeout: s.timeout}}
}

// Start implements otlptrace.Client.
func (*client) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. It tries a few times where the collector may be better soon, as OTLP asks.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// TracesData has the same form on the wire as the request of the collector's service, whose package links gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	for try := range retries {
		var again bool
		var delay time.Duration
		if again, delay, err = c.post(ctx, body); err == nil || !again {
			return err
		}
		timer := time.NewTimer(min(max(delay, firstDelay<<try), longestDelay))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
	return err
}

var errSend = errors.New("spans were not sent: the collector cannot be reached")

func (c *client) post(ctx context.Context, body []byte) (again bool, delay time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return false, 0, errSend
	}
	maps.Copy(req.Header, c.headers)
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "heymarket-operator")
	resp, err := c.http.Do(req)
	if err != nil {
		return true, 0, errSend // net/http's own text repeats the URL
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, drainBytes)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return false, 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
		if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
			delay = time.Duration(seconds) * time.Second
		}
	}
	return again, delay, fmt.Errorf("spans were not sent: the collector answered %d", resp.StatusCode)
}
