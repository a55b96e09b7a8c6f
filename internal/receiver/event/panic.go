package event

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// Panicked makes an error of what recover returned. It says where it was, and only what the Go runtime says of it: the
// value of another panic may hold anything, and errors are logged.
func Panicked(recovered any) error {
	what := "panic"
	if err, ok := recovered.(runtime.Error); ok {
		what = err.Error()
	}
	return fmt.Errorf("%s at %s", what, whereItPanicked())
}

// whereItPanicked is the innermost line that is not the runtime's, of those below the deferred function that recovers.
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
