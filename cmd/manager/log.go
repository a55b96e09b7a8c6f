package main

import (
	"context"
	"io"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// logHandler returns the handler of all logs, with the format and level from the options.
func (o options) logHandler(w io.Writer) slog.Handler {
	opts := &slog.HandlerOptions{Level: o.logLevel, ReplaceAttr: receiverKeys}
	if o.logFormat == "text" {
		return harmless{slog.NewTextHandler(w, opts)}
	}
	return harmless{slog.NewJSONHandler(w, opts)}
}

// errKey is logr's key for errors.
const errKey = "err"

// receiverKeys gives errors the same key as in the receivers' logs.
func receiverKeys(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == errKey {
		a.Key = "error"
	}
	return a
}

// eventRejected is client-go's message at level ERROR when the API server rejects an Event.
const eventRejected = "Server rejected event (will not retry!)"

// harmless is a handler that demotes a harmless ERROR to DEBUG: a rejected Event about an object whose namespace is being
// deleted.
type harmless struct{ slog.Handler }

// Handle implements slog.Handler.
func (h harmless) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == eventRejected && namespaceEnds(r) {
		if !h.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		r.Level = slog.LevelDebug
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h harmless) WithAttrs(attrs []slog.Attr) slog.Handler {
	return harmless{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h harmless) WithGroup(name string) slog.Handler { return harmless{h.Handler.WithGroup(name)} }

// namespaceEnds reports whether the error of a record means that the namespace is being, or has been, deleted.
func namespaceEnds(r slog.Record) (ends bool) {
	r.Attrs(func(a slog.Attr) bool {
		err, isError := a.Value.Any().(error)
		if a.Key != errKey || !isError {
			return true
		}
		status, isStatus := err.(apierrors.APIStatus)
		ends = apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) ||
			isStatus && apierrors.IsNotFound(err) && status.Status().Details != nil && status.Status().Details.Kind == "namespaces"
		return false
	})
	return ends
}
