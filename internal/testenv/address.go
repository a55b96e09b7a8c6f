package testenv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// The ports of FreeAddress are below those that systems use for outgoing connections. A client that dials such a port while
// no server listens on it can be assigned the same port as its own: it then connects to itself, and the server cannot
// start.
const firstPort, lastPort = 12_000, 32_000

// FreeAddress returns a host and a port on loopback on which no program listens. It is reserved until the process ends:
// neither an outgoing connection nor another test on this machine is assigned the same port, so that a server may be
// stopped and started again there.
func FreeAddress(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "heymarket-test-ports")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range lastPort - firstPort {
		port := strconv.Itoa(firstPort + rand.IntN(lastPort-firstPort))
		reserved, err := reserve(filepath.Join(dir, port))
		if err != nil {
			t.Fatal(err)
		}
		if !reserved {
			continue
		}
		address := net.JoinHostPort("127.0.0.1", port)
		var listen net.ListenConfig
		if l, err := listen.Listen(t.Context(), "tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// reserve locks a file until this process ends, or returns false if it is already locked.
func reserve(file string) (bool, error) {
	// The descriptor stays open on purpose: closing it would release the lock.
	fd, err := syscall.Open(file, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return false, fmt.Errorf("reserve a port: %w", err)
	}
	if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return false, syscall.Close(fd)
	}
	return true, nil
}
