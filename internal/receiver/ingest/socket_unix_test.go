//go:build unix

package ingest

import (
	"net"
	"syscall"
	"testing"
)

// What a stranger sends and nobody reads is memory of the kernel, and counts as the container's.
func TestWhatIsNotReadIsBounded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = NewConnections(1).Listen(l)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
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
