package event

import (
	"errors"
	"strings"
	"testing"
)

func TestPanickedNamesThePlaceAndNoValue(t *testing.T) {
	t.Parallel()
	recovered := func(f func()) (err error) {
		defer func() { err = Panicked(recover()) }()
		f()
		return nil
	}
	var none []int
	first := 0
	for _, tc := range []struct {
		name string
		f    func()
		want string
	}{
		{"by the runtime", func() { none[first] = 1 }, "runtime error: index out of range [0] with length 0 at "},
		{"with a text", func() { panic("canary-of-the-text") }, "panic at "},
		{"with an error", func() { panic(errors.New("canary-of-the-text")) }, "panic at "},
	} {
		err := recovered(tc.f)
		if !strings.HasPrefix(err.Error(), tc.want) || !strings.Contains(err.Error(), "TestPanickedNamesThePlaceAndNoValue") ||
			!strings.Contains(err.Error(), "panic_test.go:") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
