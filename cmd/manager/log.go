package main

import (
	"context"
	"io"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// logHandler returns the handler of all logs, in the form and from the level that the options name.
func (o options) logHandler(w io.Writer) slog.Handler {
	opts := &slog.HandlerOptions{Level: o.logLevel, ReplaceAttr: receiverKeys}
	if o.logFormat == "text" {
		return harmless{slog.NewTextHandler(w, opts)}
	}
	return harmless{slog.NewJSONHandler(w, opts)}
}

// errKey is the key that logr gives errors.
const errKey = "err"

// receiverKeys gives errors the key that they have in the logs of receivers.
func receiverKeys(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == errKey {
		a.Key = "error"
	}
	return a
}

// eventRejected is what client-go logs at level ERROR when the API server does not take an Event.
const eventRejected = "Server rejected event (will not retry!)"

// harmless is a handler that demotes to DEBUG what is logged at ERROR and is none: an Event about an object whose namespace ends.
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

// namespaceEnds reports whether the error of a record means that the namespace is ending, or has ended.
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
