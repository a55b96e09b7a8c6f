package main

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// sink is a target that costs next to nothing: one thread, one epoll loop, the same 200 for every request.
type sink struct {
	url string
	// arrived, when set, is called for each event as soon as it is complete.
	arrived atomic.Pointer[func(id int64, at time.Time)]
	// count is the number of requests answered.
	count atomic.Int64
	// silent makes it a target that takes connections and never answers.
	silent bool

	fd, ep int
	closed atomic.Bool
	ended  chan struct{}
}

type sinkConn struct {
	in  [8192]byte
	got int
}

func newSink(silent bool) (*sink, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1024)); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	s := &sink{
		url: fmt.Sprintf("http://127.0.0.1:%d/heymarket", local.(*unix.SockaddrInet4).Port), silent: silent,
		fd: fd, ep: ep, ended: make(chan struct{}),
	}
	if err := s.watch(fd); err != nil {
		return nil, err
	}
	go s.serve()
	return s, nil
}

func (s *sink) watch(fd int) error {
	return unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

var answer = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

func (s *sink) serve() {
	runtime.LockOSThread()
	defer close(s.ended)
	conns := map[int32]*sinkConn{}
	events := make([]unix.EpollEvent, 256)
	for !s.closed.Load() {
		n, err := epollWait(s.ep, events, 100*time.Millisecond)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		now := time.Now()
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == s.fd {
				if fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); err == nil {
					_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
					conns[int32(fd)] = &sinkConn{}
					_ = s.watch(fd)
				}
				continue
			}
			if !s.take(int(e.Fd), conns[e.Fd], now) {
				_ = unix.Close(int(e.Fd))
				delete(conns, e.Fd)
			}
		}
	}
	for fd := range conns {
		_ = unix.Close(int(fd))
	}
	_ = unix.Close(s.fd)
	_ = unix.Close(s.ep)
}

// take reads from one connection and answers what is complete. It returns false when the connection is of no more use.
func (s *sink) take(fd int, c *sinkConn, now time.Time) bool {
	n, err := read(fd, c.in[c.got:])
	if errors.Is(err, unix.EAGAIN) {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	if s.silent {
		return true
	}
	c.got += n
	header, length, complete := message(c.in[:c.got])
	if !complete || c.got < header+length {
		return c.got < len(c.in)
	}
	if arrived := s.arrived.Load(); arrived != nil {
		(*arrived)(idOf(c.in[:c.got]), now)
	}
	c.got = 0
	s.count.Add(1)
	_, err = write(fd, answer)
	return err == nil
}

func (s *sink) close() {
	s.closed.Store(true)
	<-s.ended
}

// freeAddress returns a loopback address on which no one listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}
