// Package testenv describes the environment of tests: their configured sizes, and the checkout in which they run.
package testenv

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// Number returns the number in the environment variable, or otherwise if it is not set. The test fails if the variable is not a
// number or is below least.
func Number(t testing.TB, variable string, otherwise, least int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least {
		t.Fatalf("%s=%q is not a number of at least %d", variable, text, least)
	}
	return n
}

// Root returns the directory of this repository's checkout.
func Root() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the path of this source file is not known")
	}
	return filepath.Join(filepath.Dir(file), "..", ".."), nil
}
