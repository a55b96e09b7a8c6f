package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Errors have the same key in the logs of both programs, and an Event rejected because its namespace is being deleted
// is not an error.
func TestLog(t *testing.T) {
	t.Parallel()
	ending := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "support.1", errors.New("namespace staging is being terminated"))
	ending.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for name, tc := range map[string]struct {
		level   slog.Level
		message string
		err     error
		want    string
	}{
		"any error":                   {slog.LevelInfo, "Cannot list", errors.New("no route"), "error=\"no route\""},
		"a rejected Event":            {slog.LevelInfo, eventRejected, apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "a", errors.New("no right")), "level=ERROR"},
		"a namespace that ends":       {slog.LevelInfo, eventRejected, ending, ""},
		"a namespace that has ended":  {slog.LevelInfo, eventRejected, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "staging"), ""},
		"something else that is gone": {slog.LevelInfo, eventRejected, apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, "a"), "level=ERROR"},
		"another error while it ends": {slog.LevelInfo, "Cannot apply", ending, "level=ERROR"},
		"shown for debugging":         {slog.LevelDebug, eventRejected, ending, "level=DEBUG"},
	} {
		var out bytes.Buffer
		logger := logr.FromSlogHandler(options{logLevel: tc.level, logFormat: "text"}.logHandler(&out))
		logger.WithName("events").Error(tc.err, tc.message, "event", "support.1")
		if got := out.String(); !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
