package trace

import (
	"bytes"
	"compress/gzip"
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
	"slices"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// settings are the values of OpenTelemetry's variables for OTLP exporters.
type settings struct {
	endpoint string
	headers  http.Header
	timeout  time.Duration
	gzip     bool
	roots    *x509.CertPool // nil: the system's
	// certificates identify this process, if the collector requires client certificates.
	certificates []tls.Certificate
}

const (
	defaultTimeout = 10 * time.Second
	retries        = 3
	firstDelay     = time.Second
	longestDelay   = 5 * time.Second
	drainBytes     = 4 << 10
)

// fromEnvironment returns nil if no collector is configured. A variable for traces takes precedence over the one for all
// signals. Unsupported settings are errors: a setting without effect is hard to notice.
func fromEnvironment(getenv func(string) string) (*settings, error) {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil //nolint:nilnil // no collector is not an error
	}
	name, raw := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	suffix := ""
	if raw == "" {
		name, raw = "OTEL_EXPORTER_OTLP_ENDPOINT", getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
		suffix = "/v1/traces"
	}
	if raw == "" {
		return nil, nil //nolint:nilnil // as above
	}
	if err := CheckEndpoint(raw); err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	if suffix != "" {
		raw = strings.TrimRight(raw, "/") + suffix
	}
	s := &settings{endpoint: raw, headers: http.Header{}, timeout: defaultTimeout}
	if exporter := getenv("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; set otlp, or none to turn tracing off", exporter)
	}
	if err := checkSDK(getenv); err != nil {
		return nil, err
	}
	return s, errors.Join(s.readRequest(getenv), s.readTLS(getenv))
}

// CheckEndpoint checks that endpoint can be the URL of a collector. The error continues a sentence that names the setting.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.User != nil:
		return errors.New("is not a URL of a collector without a password; set one such as http://collector:4318")
	case u.Port() == "4317":
		return errors.New("has port 4317, which is OTLP over gRPC; set the port of OTLP over HTTP, usually 4318")
	}
	return nil
}

// readRequest reads the settings for sending spans.
func (s *settings) readRequest(getenv func(string) string) error {
	if name, protocol := either(getenv, "PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return fmt.Errorf("%s is %q; only http/protobuf is supported, usually on port 4318", name, protocol)
	}
	if name, raw := either(getenv, "TIMEOUT"); raw != "" {
		timeout, err := milliseconds(raw)
		if err != nil || timeout <= 0 {
			return fmt.Errorf("%s is %q; set milliseconds such as 10000, or a duration such as 10s", name, raw)
		}
		s.timeout = timeout
	}
	switch name, compression := either(getenv, "COMPRESSION"); compression {
	case "", "none":
	case "gzip":
		s.gzip = true
	default:
		return fmt.Errorf("%s is %q; set gzip or none", name, compression)
	}
	if name, raw := either(getenv, "HEADERS"); raw != "" {
		for pair := range strings.SplitSeq(raw, ",") {
			key, value, ok := strings.Cut(pair, "=")
			value, err := url.PathUnescape(strings.TrimSpace(value))
			if !ok || err != nil || strings.TrimSpace(key) == "" {
				return fmt.Errorf("%s is not a list such as key=value,key2=value2", name) // its values may be secret
			}
			s.headers.Set(strings.TrimSpace(key), value)
		}
	}
	return nil
}

// milliseconds parses a number of milliseconds, OpenTelemetry's notation, or a duration with its unit.
func milliseconds(raw string) (time.Duration, error) {
	if ms, err := strconv.ParseInt(raw, 10, 32); err == nil {
		return time.Duration(ms) * time.Millisecond, nil
	}
	return time.ParseDuration(raw)
}

// readTLS reads the trusted authorities and the client certificate.
func (s *settings) readTLS(getenv func(string) string) error {
	if name, file := either(getenv, "CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if s.roots = x509.NewCertPool(); !s.roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s: %s holds no certificate in PEM form", name, file)
		}
	}
	certificateName, certificate := either(getenv, "CLIENT_CERTIFICATE")
	keyName, key := either(getenv, "CLIENT_KEY")
	if certificate == "" && key == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("%s and %s: %w", certificateName, keyName, err)
	}
	s.certificates = []tls.Certificate{pair}
	return nil
}

// checkSDK checks variables that the SDK reads itself: if one is invalid it silently uses its default.
func checkSDK(getenv func(string) string) error {
	for _, name := range []string{
		"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
	} {
		if raw := getenv(name); raw != "" {
			if n, err := strconv.ParseInt(raw, 10, 32); err != nil || n <= 0 {
				return fmt.Errorf("%s is %q; set a whole number such as 5000; delays and timeouts are in milliseconds", name, raw)
			}
		}
	}
	samplers := []string{"", "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}
	sampler := getenv("OTEL_TRACES_SAMPLER")
	if !slices.Contains(samplers, sampler) {
		return fmt.Errorf("OTEL_TRACES_SAMPLER is %q; set one of %s", sampler, strings.Join(samplers[1:], ", "))
	}
	if arg := getenv("OTEL_TRACES_SAMPLER_ARG"); arg != "" && strings.HasSuffix(sampler, "traceidratio") {
		if ratio, err := strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return fmt.Errorf("OTEL_TRACES_SAMPLER_ARG is %q; set a number from 0 to 1", arg)
		}
	}
	return nil
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
		TLSClientConfig:     &tls.Config{RootCAs: s.roots, Certificates: s.certificates, MinVersion: tls.VersionTLS12},
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

// UploadTraces implements otlptrace.Client. It retries a few times on transient errors, as OTLP requires.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// TracesData has the same wire format as the request of the collector's service, whose package links gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	if c.gzip {
		body = compress(body)
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

func compress(body []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(body) // a Buffer never fails
	_ = w.Close()
	return out.Bytes()
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
	if c.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return true, 0, errSend // net/http's own text quotes the URL
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols { // else it is the raw connection, whose reads have no timeout
		_, _ = io.CopyN(io.Discard, resp.Body, drainBytes)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return false, 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
		if seconds, err := strconv.ParseFloat(resp.Header.Get("Retry-After"), 64); err == nil && seconds > 0 {
			delay = time.Duration(min(seconds, longestDelay.Seconds()) * float64(time.Second))
		}
	}
	return again, delay, fmt.Errorf("spans were not sent: the collector answered %d", resp.StatusCode)
}
