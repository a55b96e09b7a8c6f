// Package trace records the processing of events as OpenTelemetry spans and sends them by OTLP over HTTP, if the
// environment names a collector (OTEL_EXPORTER_OTLP_ENDPOINT). Otherwise nothing is started. It is a leaf.
//
// OpenTelemetry's SDK creates, samples and batches the spans, configured by its usual variables (OTEL_TRACES_SAMPLER,
// OTEL_BSP_…, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME). Its own OTLP exporters are not used: both link gRPC, fifteen
// MiB for one POST.
package trace

import (
	"context"
	"fmt"
	"strconv"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Kind is the side of a request that a span covers.
type Kind int

const (
	// Server spans cover incoming requests.
	Server Kind = iota
	// Client spans cover outgoing requests.
	Client
)

// Tracer creates spans. Its methods may be called concurrently.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// Options configure a Tracer.
type Options struct {
	// Getenv is os.Getenv, or a test's replacement. The SDK reads its own variables itself.
	Getenv func(string) string
	// Service and Version name the process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
	Service, Version string
	// Attributes describe the process: pairs of key and value.
	Attributes []string
	// OnError is called when sending fails. It must not block.
	OnError func(error)
}

// New returns a Tracer for the collector that the environment names, or nil if it names none or OTEL_SDK_DISABLED is
// true. The error names the invalid variable.
func New(ctx context.Context, o Options) (*Tracer, error) {
	settings, err := fromEnvironment(o.Getenv)
	if err != nil || settings == nil {
		return nil, err
	}
	attributes := []attribute.KeyValue{attribute.String("service.name", o.Service), attribute.String("service.version", o.Version)}
	for i := 0; i+1 < len(o.Attributes); i += 2 {
		attributes = append(attributes, attribute.String(o.Attributes[i], o.Attributes[i+1]))
	}
	about, err := resource.New(ctx, resource.WithAttributes(attributes...), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(o.OnError))
	exporter, err := otlptrace.New(ctx, newClient(settings))
	if err != nil {
		return nil, fmt.Errorf("start tracing: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Tracer{provider: provider, tracer: provider.Tracer("heymarket.dev/operator")}, nil
}

// Shutdown sends the pending spans and stops. It gives up when ctx ends.
func (t *Tracer) Shutdown(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Span is an operation with a duration.
type Span struct{ span trace.Span }

// Start starts a span under parent, a W3C traceparent; if parent is empty or invalid, the span starts a new trace.
func (t *Tracer) Start(kind Kind, name, parent string) Span {
	ctx := context.Background()
	if p, ok := parse(parent); ok {
		ctx = trace.ContextWithRemoteSpanContext(ctx, p)
	}
	spanKind := trace.SpanKindServer
	if kind == Client {
		spanKind = trace.SpanKindClient
	}
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(spanKind))
	return Span{span}
}

// Traceparent returns the traceparent for children of this span.
func (s Span) Traceparent() string {
	c := s.span.SpanContext()
	flags := "00"
	if c.IsSampled() {
		flags = "01"
	}
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + flags
}

// Attribute is an attribute of a span. It must contain only values that may be logged.
type Attribute = attribute.KeyValue

// String returns an attribute.
func String(key, value string) Attribute { return attribute.String(key, value) }

// Int returns an attribute.
func Int(key string, value int) Attribute { return attribute.Int(key, value) }

// End ends the span. A non-empty failure marks it as failed for that reason.
func (s Span) End(failure string, attributes ...Attribute) {
	if s.span.IsRecording() {
		s.span.SetAttributes(attributes...)
		if failure != "" {
			s.span.SetStatus(codes.Error, failure)
		}
	}
	s.span.End()
}

const traceparentLength = 55

// parse parses a traceparent of version 00, the only version that the receiver keeps.
func parse(parent string) (trace.SpanContext, bool) {
	if len(parent) != traceparentLength || parent[:3] != "00-" {
		return trace.SpanContext{}, false
	}
	traceID, err := trace.TraceIDFromHex(parent[3:35])
	if err != nil {
		return trace.SpanContext{}, false
	}
	spanID, err := trace.SpanIDFromHex(parent[36:52])
	if err != nil {
		return trace.SpanContext{}, false
	}
	c := trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, Remote: true}
	if flags, err := strconv.ParseUint(parent[53:], 16, 8); err == nil && flags&1 == 1 {
		c.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(c), true
}
