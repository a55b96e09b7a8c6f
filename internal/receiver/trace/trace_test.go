package trace_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/trace"
)

// collector keeps what it is sent.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	statuses []int // of the next answers; then 200
	headers  []http.Header
	paths    []string
	spans    []*tracepb.Span
	resource map[string]string
}

func newCollector(t *testing.T, statuses ...int) *collector {
	t.Helper()
	c := &collector{statuses: statuses, resource: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			plain, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			body, _ = io.ReadAll(plain)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.headers, c.paths = append(c.headers, r.Header), append(c.paths, r.URL.Path)
		if len(c.statuses) > 0 {
			w.WriteHeader(c.statuses[0])
			c.statuses = c.statuses[1:]
			return
		}
		var data tracepb.TracesData
		if err := proto.Unmarshal(body, &data); err != nil {
			t.Error(err)
		}
		for _, rs := range data.GetResourceSpans() {
			for _, a := range rs.GetResource().GetAttributes() {
				c.resource[a.GetKey()] = a.GetValue().GetStringValue()
			}
			for _, ss := range rs.GetScopeSpans() {
				c.spans = append(c.spans, ss.GetSpans()...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func start(t *testing.T, getenv func(string) string) *trace.Tracer {
	t.Helper()
	tracer, err := trace.New(t.Context(), trace.Options{
		Getenv: getenv, Service: "heymarket-receiver", Version: "test", Attributes: []string{"heymarket.webhook", "staging/support"},
		OnError: func(error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

func TestNothingIsStartedWithoutACollector(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{
		{},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", "OTEL_SDK_DISABLED", "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", "OTEL_TRACES_EXPORTER", "none"},
	} {
		if tracer := start(t, environment(env...)); tracer != nil {
			t.Errorf("%q started tracing", env)
		}
	}
}

func TestSpansReachTheCollector(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	tracer := start(t, environment("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL+"/", "OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc, x-team = crm"))
	const came = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ingest := tracer.Start(trace.Server, "ingest", came)
	attempt := tracer.Start(trace.Client, "attempt", ingest.Traceparent())
	first := tracer.Start(trace.Server, "ingest", "nonsense")
	unsampled := tracer.Start(trace.Server, "ingest", came[:53]+"00")
	for _, s := range []trace.Span{ingest, attempt, first, unsampled} {
		if _, valid := event.ParseTrace(s.Traceparent()); !valid {
			t.Errorf("%q is no traceparent", s.Traceparent())
		}
	}
	if got := unsampled.Traceparent(); !strings.HasSuffix(got, "-00") || got[3:35] != came[3:35] {
		t.Errorf("unsampled: %s; want the trace of %s, still not sampled", got, came)
	}
	attempt.End("the target answered 500", trace.String("target", "crm"), trace.Int("attempt", 2))
	ingest.End("", trace.String("result", "stored"))
	first.End("")
	unsampled.End("")
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(c.spans) != 3 {
		t.Fatalf("%d spans, want 3", len(c.spans))
	}
	a, i := c.spans[0], c.spans[1]
	id := hex.EncodeToString
	got := []string{
		a.GetName(), a.GetKind().String(), id(a.GetTraceId()), id(a.GetParentSpanId()), a.GetStatus().GetMessage(),
		a.GetAttributes()[0].GetKey() + "=" + a.GetAttributes()[0].GetValue().GetStringValue(),
		i.GetName(), i.GetKind().String(), id(i.GetParentSpanId()), i.GetStatus().GetMessage(),
	}
	want := []string{
		"attempt", "SPAN_KIND_CLIENT", came[3:35], id(i.GetSpanId()), "the target answered 500", "target=crm",
		"ingest", "SPAN_KIND_SERVER", came[36:52], "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c.paths[0] != "/v1/traces" || c.headers[0].Get("Authorization") != "Bearer abc" || c.headers[0].Get("X-Team") != "crm" ||
		c.headers[0].Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("sent to %s with %v", c.paths[0], c.headers[0])
	}
	if c.resource["service.name"] != "heymarket-receiver" || c.resource["heymarket.webhook"] != "staging/support" {
		t.Errorf("resource %v", c.resource)
	}
}

func TestSettingsOfTheExporterWork(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10000"},
		{"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION", "none"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"},
		{"OTEL_TRACES_EXPORTER", "otlp"},
		{"OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0.5"},
		{"OTEL_BSP_SCHEDULE_DELAY", "5000"},
	} {
		c := newCollector(t)
		tracer := start(t, environment(append(env, "OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)...))
		span := tracer.Start(trace.Server, "ingest", "")
		span.End("")
		if err := tracer.Shutdown(t.Context()); err != nil {
			t.Errorf("%q: %v", env, err)
		}
		if len(c.spans) != 1 {
			t.Errorf("%q: %d spans, want 1", env, len(c.spans))
		} else if got, want := c.headers[0].Get("Content-Encoding") == "gzip", env[1] == "gzip"; got != want {
			t.Errorf("%q: compressed %t, want %t", env, got, want)
		}
	}
}

func TestTheCollectorMayBeBusy(t *testing.T) {
	t.Parallel()
	c := newCollector(t, http.StatusServiceUnavailable)
	tracer := start(t, environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL+"/mine"))
	span := tracer.Start(trace.Server, "ingest", "")
	span.End("")
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(c.spans) != 1 || len(c.paths) != 2 || c.paths[0] != "/mine" {
		t.Errorf("%d spans in %d requests to %v; want 1 in 2", len(c.spans), len(c.paths), c.paths)
	}
}

// A collector that switches protocols and holds the connection does not delay the shutdown: it would never return
// here.
func TestACollectorThatSwitchesProtocols(t *testing.T) {
	t.Parallel()
	c := newCollector(t, http.StatusSwitchingProtocols)
	tracer := start(t, environment("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL, "OTEL_EXPORTER_OTLP_TIMEOUT", "1h"))
	span := tracer.Start(trace.Server, "ingest", "")
	span.End("")
	_ = tracer.Shutdown(t.Context())
	if len(c.paths) != 1 {
		t.Errorf("%d requests, want 1", len(c.paths))
	}
}

func TestACollectorThatRefusesIsNamedWithoutItsAddress(t *testing.T) {
	t.Parallel()
	c := newCollector(t, http.StatusBadRequest)
	tracer := start(t, environment("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL))
	span := tracer.Start(trace.Server, "ingest", "")
	span.End("")
	if err := tracer.Shutdown(t.Context()); err != nil && strings.Contains(err.Error(), c.URL) {
		t.Errorf("the error repeats the URL: %v", err)
	}
	if len(c.paths) != 1 {
		t.Errorf("%d requests; want 1: 400 will not get better", len(c.paths))
	}
}

func TestAWrongVariableIsNamed(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@collector:4318"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4317/v1/traces"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://collector:4318"},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"},
		{"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "-1"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "0s"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"},
		{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", empty},
		{"OTEL_EXPORTER_OTLP_CLIENT_KEY", empty},
		{"OTEL_TRACES_EXPORTER", "zipkin"},
		{"OTEL_BSP_SCHEDULE_DELAY", "5s"},
		{"OTEL_BSP_EXPORT_TIMEOUT", "0"},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "many"},
		{"OTEL_TRACES_SAMPLER", "sometimes"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "hunter2"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", empty},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", empty + ".missing"},
	} {
		_, err := trace.New(t.Context(), trace.Options{
			Getenv: environment(pair[0], pair[1], "OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"), OnError: func(error) {},
		})
		if err == nil || !strings.Contains(err.Error(), pair[0]) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s=%s: %v; want an error that names the variable", pair[0], pair[1], err)
		}
	}
}
