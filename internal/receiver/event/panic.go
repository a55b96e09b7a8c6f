package event

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// Panicked returns an error for a recovered value. It contains the location and, for a runtime error, the runtime's
// message: any other panic value may hold sensitive data, and errors are logged.
func Panicked(recovered any) error {
	what := "panic"
	if err, ok := recovered.(runtime.Error); ok {
		what = err.Error()
	}
	return fmt.Errorf("%s at %s", what, whereItPanicked())
}

// whereItPanicked returns the innermost line outside the runtime, among the frames below the deferred function that
// recovers.
func whereItPanicked() string {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	panicking := false
	for {
		f, more := frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		if panicking && !inRuntime {
			return fmt.Sprintf("%s (%s:%d)", path.Base(f.Function), path.Base(f.File), f.Line)
		}
		panicking = panicking || inRuntime
		if !more {
			return "an unknown place"
		}
	}
}
