// Package testenv reads from the environment how large a test is to be.
package testenv

import (
	"os"
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
