package receiver

import (
	"context"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/trace"
)

// requestTracer creates a span for each request.
type requestTracer struct{ *trace.Tracer }

// Begin implements ingest.Tracer.
func (t requestTracer) Begin(traceparent string) (string, func(ingest.Report)) {
	span := t.Start(trace.Server, "heymarket ingest", traceparent)
	return span.Traceparent(), func(r ingest.Report) {
		failure := ""
		if r.Reason == ingest.Unconfirmed || r.Reason == ingest.Backlog || r.Reason == ingest.Internal { // the others are the sender's mistakes
			failure = string(r.Reason)
		}
		attributes := []trace.Attribute{
			trace.String("heymarket.result", string(r.Result)), trace.Int("http.response.status_code", r.Status),
		}
		for key, value := range map[string]string{
			"heymarket.reason": string(r.Reason), "heymarket.event.type": r.Type, "heymarket.event.id": r.EventID,
		} {
			if value != "" {
				attributes = append(attributes, trace.String(key, value))
			}
		}
		span.End(failure, attributes...)
	}
}

// tracedSender creates a span for each attempt, below that of the request that delivered the event.
type tracedSender struct {
	forward.Sender
	tracer *trace.Tracer
	target string
}

// Send implements forward.Sender.
func (s tracedSender) Send(ctx context.Context, e event.Event, attempt int) delivery.Outcome {
	span := s.tracer.Start(trace.Client, "heymarket attempt", e.Trace)
	e.Trace = span.Traceparent()
	o := s.Sender.Send(ctx, e, attempt)
	attributes := []trace.Attribute{
		trace.String("heymarket.target", s.target), trace.String("heymarket.event.type", e.Type),
		trace.String("heymarket.event.id", e.ID), trace.Int("heymarket.attempt", attempt),
	}
	failure := ""
	switch {
	case o.Err != nil:
		failure = o.Err.Error()
	case !o.Delivered():
		failure = "the target refused it"
	}
	if o.Status != 0 {
		attributes = append(attributes, trace.Int("http.response.status_code", o.Status))
	}
	span.End(failure, attributes...)
	return o
}
