package dev

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"heymarket.dev/operator/internal/contract"
)

// Lines is a slog.Handler that formats a receiver's log for a person: a line for each request and each attempt, in columns, and
// other warnings. It is silent until Show.
type Lines struct {
	mu  sync.Mutex
	out io.Writer // nil: silent
}

// Show starts to write to out, beginning with the names of the columns.
func (l *Lines) Show(out io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = out
	fmt.Fprintf(out, "%-8s  %-28s  %-30s  %-14s  %-6s  %9s  %s\n", "TIME", "TYPE", "EVENT", "TARGET", "STATUS", "MS", "WHAT")
}

// Enabled implements slog.Handler.
func (*Lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// WithAttrs implements slog.Handler. Attributes common to all lines are not shown.
func (l *Lines) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler. The receiver has no groups.
func (l *Lines) WithGroup(string) slog.Handler { return l }

// Handle implements slog.Handler.
func (l *Lines) Handle(_ context.Context, record slog.Record) error {
	of := map[string]slog.Value{}
	var rest []string
	record.Attrs(func(a slog.Attr) bool {
		of[a.Key] = a.Value.Resolve()
		if text := a.Value.String(); text != "<nil>" {
			rest = append(rest, a.Key+": "+text)
		}
		return true
	})
	text := func(key string) string {
		if v, ok := of[key]; ok {
			return v.String()
		}
		return "-"
	}
	var line string
	switch {
	case record.Message == "request":
		what := strings.Replace(text("result"), "refused", "rejected", 1)
		if reason, ok := of["reason"]; ok {
			what += ": " + reason.String()
		}
		line = columns(record.Time, text("type"), text("event"), "", text("status"), of["took_us"], what)
	case of["target"].Kind() == slog.KindString && of["attempt"].Kind() == slog.KindInt64:
		status := text("status")
		if status == "0" {
			status = "-"
		}
		line = columns(record.Time, text("type"), text("event"), text("target")+" #"+text("attempt"), status, of["took_us"], outcome(record.Message, of))
	case record.Level < slog.LevelWarn, text("reason") == string(contract.RedisForgets):
		return nil // starting, stopping; and the line at the start of an attempt
	default:
		line = fmt.Sprintf("%s  %s (%s)\n", record.Time.Format(time.TimeOnly), record.Message, strings.Join(rest, ", "))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return nil
	}
	_, err := io.WriteString(l.out, line)
	return err
}

func columns(at time.Time, eventType, event, target, status string, took slog.Value, what string) string {
	ms := "-"
	if took.Kind() == slog.KindInt64 {
		ms = fmt.Sprintf("%.1f", float64(took.Int64())/1000)
	}
	return fmt.Sprintf("%-8s  %-28s  %-30s  %-14s  %-6s  %9s  %s\n", at.Format(time.TimeOnly), eventType, event, target, status, ms, what)
}

// outcome describes the outcome of an attempt and what happens next.
func outcome(message string, of map[string]slog.Value) string {
	if again, ok := of["again_in_ms"]; ok {
		message = "failed, again in " + (time.Duration(again.Int64()) * time.Millisecond).Round(100*time.Millisecond).String()
	}
	for _, key := range []string{"reason", "error"} {
		if v, ok := of[key]; ok {
			message += ": " + v.String()
		}
	}
	return message
}
