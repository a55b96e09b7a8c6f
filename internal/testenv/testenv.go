// Package testenv is what tests know of where they run: how large they are to be, and the checkout that they are in.
package testenv

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// Number returns the number that the environment variable holds, or otherwise if it is not set. A test whose variable holds none, or one below least, fails.
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
