package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Tests of several packages run at once. Without a reservation, two of them occasionally got the same port, and the
// second server could not start.
func TestAPortIsGivenOnce(t *testing.T) {
	address := FreeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	file := filepath.Join(os.TempDir(), "heymarket-test-ports", port)
	if again, err := reserve(file); err != nil || again {
		t.Fatalf("the port of %s can be reserved a second time (%v)", address, err)
	}
	// Another process is refused as well.
	if out, err := exec.CommandContext(t.Context(), "flock", "--nonblock", file, "true").CombinedOutput(); err == nil {
		t.Fatalf("another process can reserve the port of %s: %s", address, out)
	}
	other := filepath.Join(t.TempDir(), "other")
	if first, err := reserve(other); err != nil || !first {
		t.Fatalf("a port that nobody has is refused (%v)", err)
	}
}
