package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// connections is how many keep-alive connections the generator uses, in both kinds of load.
const connections = 64

// load drives one server, of HTTP or the product's Redis, over keep-alive connections from a single thread: one epoll loop, prebuilt request bytes
// of which only an id is written again, no goroutine and no allocation for a request. Everything shares one machine, so
// what the generator costs is taken from what it measures; every product and every control gets the same one.
type load struct {
	addr    string
	request request
	// rate is the number of requests a second of an open loop; 0 means a closed loop: each connection sends its next
	// request as soon as it has its answer.
	rate float64
	// sent, when set, is called just before each request is sent.
	sent func(id int64, at time.Time)
}

// result is the measurement of a load.
type result struct {
	answered int
	refused  int // answers other than 200
	took     time.Duration
	// latencies of all answers, sorted. In an open loop each is counted from when its request was due, not from when it
	// could be sent: a server that stalls is charged for the requests that had to wait.
	latencies []time.Duration
}

func (r result) perSecond() float64 { return float64(r.answered) / r.took.Seconds() }

func (r result) percentile(p float64) time.Duration { return percentile(r.latencies, p) }

// percentile returns the p-th percentile, p from 0 to 100, of sorted values; 0 of none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*p/100), len(sorted)-1)]
}

// conn is one connection of the generator. It has at most one request in flight.
type conn struct {
	fd   int
	buf  []byte // the request; its id is overwritten for each one
	in   [4096]byte
	got  int       // bytes of the answer that are in
	due  time.Time // when the request in flight was due
	busy bool
}

// run sends for the given time, then waits for the answers that are still missing.
func (l load) run(d time.Duration) (result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// By default the kernel rounds a thread's timers up by 50 µs; an open loop would be late by that much.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)

	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return result{}, fmt.Errorf("epoll_create1: %w", err)
	}
	defer func() { _ = unix.Close(ep) }()
	conns := make([]*conn, connections)
	idle := make([]*conn, 0, connections)
	for i := range conns {
		fd, err := dial(l.addr)
		if err != nil {
			return result{}, fmt.Errorf("dial %s: %w", l.addr, err)
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return result{}, fmt.Errorf("epoll_ctl: %w", err)
		}
		conns[i] = &conn{fd: fd, buf: bytes.Clone(l.request.bytes)}
		idle = append(idle, conns[i])
	}

	begin := time.Now()
	end := begin.Add(d)
	out := result{latencies: make([]time.Duration, 0, 1<<18)}
	events := make([]unix.EpollEvent, connections)
	var interval time.Duration
	if l.rate > 0 {
		interval = time.Duration(float64(time.Second) / l.rate)
	}
	next, scheduled, busy := begin, 0, 0
	now := begin
	send := func(c *conn, due time.Time) error {
		c.due, c.busy, c.got = due, true, 0
		id := l.request.stamp(c.buf)
		if l.sent != nil {
			l.sent(id, now)
		}
		busy++
		for rest := c.buf; len(rest) > 0; {
			n, err := write(c.fd, rest)
			if err != nil {
				return fmt.Errorf("send to %s: %w", l.addr, err)
			}
			rest = rest[n:]
		}
		return nil
	}
	for {
		now = time.Now()
		for len(idle) > 0 && now.Before(end) && (l.rate == 0 || !next.After(now)) {
			due := now
			if l.rate > 0 {
				due = next
				scheduled++
				next = begin.Add(time.Duration(scheduled) * interval)
			}
			c := idle[len(idle)-1]
			idle = idle[:len(idle)-1]
			if err := send(c, due); err != nil {
				return result{}, err
			}
		}
		if !now.Before(end) && busy == 0 {
			break
		}
		wait := 5 * time.Second // a server that is silent for that long is an error
		if l.rate > 0 && len(idle) > 0 && now.Before(end) {
			wait = max(0, next.Sub(now))
		}
		n, err := epollWait(ep, events, wait)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return result{}, fmt.Errorf("epoll_pwait2: %w", err)
		case n == 0 && wait == 5*time.Second:
			return result{}, fmt.Errorf("%s has not answered %d requests for %s", l.addr, busy, wait)
		}
		now = time.Now()
		for _, e := range events[:n] {
			c := conns[e.Fd]
			done, ok, err := c.read()
			if err != nil {
				return result{}, fmt.Errorf("answer of %s: %w", l.addr, err)
			}
			if !done {
				continue
			}
			out.answered++
			if !ok {
				out.refused++
			}
			out.latencies = append(out.latencies, now.Sub(c.due))
			c.busy = false
			busy--
			if l.rate == 0 && now.Before(end) {
				if err := send(c, now); err != nil {
					return result{}, err
				}
				continue
			}
			idle = append(idle, c)
		}
	}
	out.took = now.Sub(begin)
	slices.Sort(out.latencies)
	if out.refused > 0 {
		return out, fmt.Errorf("%s refused %d of %d requests", l.addr, out.refused, out.answered)
	}
	return out, nil
}

var (
	headerEnd     = []byte("\r\n\r\n")
	statusOK      = []byte("HTTP/1.1 200")
	storedAnswer  = []byte(":1\r\n")
	contentLength = []byte("Content-Length: ")
)

// read reads the available bytes. done reports that the answer is complete, ok that it is a 200.
func (c *conn) read() (done, ok bool, err error) {
	n, err := read(c.fd, c.in[c.got:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, false, nil
	case err != nil:
		return false, false, err
	case n == 0:
		return false, false, errors.New("connection closed")
	}
	c.got += n
	if c.in[0] == ':' || c.in[0] == '-' { // an answer of Redis, see script.request
		return c.in[c.got-1] == '\n', bytes.Equal(c.in[:c.got], storedAnswer), nil
	}
	header, length, complete := message(c.in[:c.got])
	if !complete {
		if c.got == len(c.in) {
			return false, false, errors.New("the answer is too long")
		}
		return false, false, nil
	}
	return c.got >= header+length, bytes.HasPrefix(c.in[:c.got], statusOK), nil
}

// message finds the end of an HTTP message's header and the length of its body. complete reports that the header is.
func message(b []byte) (header, body int, complete bool) {
	header = bytes.Index(b, headerEnd)
	if header < 0 {
		return 0, 0, false
	}
	if i := bytes.Index(b[:header+2], contentLength); i >= 0 {
		for _, digit := range b[i+len(contentLength) : header+2] {
			if digit < '0' || digit > '9' {
				break
			}
			body = body*10 + int(digit-'0')
		}
	}
	return header + len(headerEnd), body, true
}

// dial connects a non-blocking socket. It is a socket of its own, not a net.Conn: those wake a goroutine for each event.
func dial(addr string) (int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return 0, err
	}
	sa := &unix.SockaddrInet4{Port: number}
	copy(sa.Addr[:], net.ParseIP(host).To4())
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(
		unix.Connect(fd, sa), unix.SetNonblock(fd, true),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
	); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// read and write are the bare calls. They never block, so the scheduler need not be notified.
func read(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func write(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// epollWait is epoll_pwait2(2), which waits to the nanosecond, unlike epoll_wait(2) with its milliseconds.
func epollWait(ep int, events []unix.EpollEvent, wait time.Duration) (int, error) {
	limit := unix.NsecToTimespec(wait.Nanoseconds())
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(ep), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
