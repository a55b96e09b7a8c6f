package logs

import (
	"context"
	"log/slog"
	"time"

	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/ingest"
)

// Requests logs a line for each request, and passes it to Next.
type Requests struct {
	Log  *slog.Logger
	Next ingest.Observer
}

// Answered implements ingest.Observer.
func (l Requests) Answered(r ingest.Report) {
	l.Next.Answered(r)
	level := slog.LevelInfo
	switch {
	case r.Reason == ingest.Unconfirmed || r.Reason == ingest.Backlog || r.Reason == ingest.BacklogBytes || r.Reason == ingest.Internal:
		level = slog.LevelError
	case r.Reason == ingest.RateLimited:
		level = slog.LevelDebug // a flood of requests must not flood the logs; the counter shows it
	case r.Result == ingest.Refused:
		level = slog.LevelWarn
	}
	if !l.Log.Enabled(context.Background(), level) {
		return
	}
	// Only whole numbers and text: slog passes a fraction to encoding/json, which costs as much as the rest of
	// the line.
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("result", string(r.Result)), slog.Int("status", r.Status), slog.Int64("took_us", r.Took.Microseconds()))
	if r.Reason != "" {
		attrs = append(attrs, slog.String("reason", string(r.Reason)))
	}
	if r.Type != "" {
		attrs = append(attrs, slog.String("type", r.Type), slog.Int64("webhook", r.Webhook))
	}
	if r.EventID != "" {
		attrs = append(attrs, slog.String("event", r.EventID))
	}
	if r.Judgement != "" && r.Judgement != event.New {
		attrs = append(attrs, slog.String("decision", string(r.Judgement)))
	}
	if r.Err != nil {
		attrs = append(attrs, slog.String("error", r.Err.Error()))
	}
	line := slog.NewRecord(time.Now(), level, "request", 0) // LogAttrs would look up its caller, which costs as much as the line
	line.AddAttrs(attrs...)
	_ = l.Log.Handler().Handle(context.Background(), line)
}
