//go:build unix

package ingest

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// Unread data from a stranger is kept in kernel memory, which counts as the container's.
func TestWhatIsNotReadIsBounded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = NewConnections(1).Listen(l)
	_, accepted := connected(t, l)
	raw, err := accepted.(*connection).Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	if err := raw.Control(func(fd uintptr) { size, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF) }); err != nil {
		t.Fatal(err)
	}
	if err != nil || size > 2*maxUnread {
		t.Errorf("the kernel buffers %d bytes, %v; want at most twice %d", size, err, maxUnread)
	}
}

// What waits to be read is noticed, and left where it is.
func TestHasSent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, accepted := connected(t, l)
	if hasSent(accepted) {
		t.Error("something has been sent before anything was")
	}
	if _, err := io.WriteString(client, "x"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !hasSent(accepted); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what was sent is not noticed")
		}
	}
	if _, err := io.ReadFull(accepted, make([]byte, 1)); err != nil || hasSent(accepted) {
		t.Errorf("after it was read: %v, something has been sent: %t", err, hasSent(accepted))
	}
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	if hasSent(here) {
		t.Error("a connection without a socket has sent something")
	}
}

// connected returns both ends of a connection to a listener. They and the listener are closed when the test ends.
func connected(t *testing.T, l net.Listener) (client, accepted net.Conn) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	return client, accepted
}
