package ingest

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Connections bounds how many connections are served at once, and never rejects a new one in favour of idle ones: at the
// bound, the connection that has been idle longest is closed. A connection is idle until it has a complete request: from its
// start or its last answer on, while a slow header or body arrives. A connection that has sent a valid token is closed
// only when no other is left, so clients without a token compete only with each other.
//
// Bodies share a bound on memory in the same way: when it is reached, the oldest incomplete bodies are dropped, and new
// ones wait for a free buffer.
//
// It knows only what its listeners have accepted, for servers that Follow was called with.
type Connections struct {
	max       int
	displaced atomic.Int64

	mu   sync.Mutex
	room sync.Cond
	// strangers and proven hold every open connection once, the one that has waited longest first; proven are those on
	// which a right token has come.
	strangers, proven list.List
	// holders are those with a long body in memory, the one that began first first; held is how many bytes they hold, and
	// leaving how many of these belong to connections that are closed, whose handlers have yet to give them back.
	holders       list.List
	held, leaving int64
	memory        sync.Cond // held has become less, or a connection has left
	closed        bool
}

// grace is how long every connection may wait, however many want its room. Without it, a burst of newcomers would push each
// other out before any of them had a turn. Beyond that, newcomers wait in the kernel's queue, in the order in which they came.
const grace = 100 * time.Millisecond

// maxHeld bounds the bytes of all bodies together, those of up to trustedLength aside.
const maxHeld = 16 << 20

// NewConnections returns a bound of limit connections.
func NewConnections(limit int) *Connections {
	a := &Connections{max: limit}
	a.room.L, a.memory.L = &a.mu, &a.mu
	return a
}

// Listen returns l, with what it accepts counted. The kernel's memory for what has been sent and not read is bounded as well.
func (a *Connections) Listen(l net.Listener) net.Listener {
	limitUnread(l)
	return listener{l, a}
}

// maxUnread is the kernel's receive buffer of one connection, in bytes; it counts as the container's memory. Linux doubles
// it. A sender with a latency of 50 ms can still send 1 MiB in two seconds.
const maxUnread = 32 << 10

// Follow makes s report what its connections do. It sets ConnContext and ConnState, and wraps the handler of s, because a
// request without a body is complete with its header.
func (a *Connections) Follow(s *http.Server) {
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.ContentLength != 0 || connectionOf(req).completed() {
			next.ServeHTTP(w, req)
		}
	})
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, c)
	}
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		if c, ok := conn.(*connection); ok && state == http.StateIdle {
			a.wait(c)
		}
	}
}

// Open is how many connections are open now.
func (a *Connections) Open() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open()
}

// Displaced is how many connections have had to make room since the beginning.
func (a *Connections) Displaced() int64 { return a.displaced.Load() }

func (a *Connections) open() int { return a.strangers.Len() + a.proven.Len() }

// isCrowded reports whether half of the connections that may be open are.
func (a *Connections) isCrowded() bool { return a.Open() >= a.max/2 }

type listener struct {
	net.Listener
	all *Connections
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.all.admit(c)
}

// Close implements net.Listener. It also ends an Accept that waits for room.
func (l listener) Close() error {
	l.all.mu.Lock()
	l.all.closed = true
	l.all.mu.Unlock()
	l.all.room.Broadcast()
	return l.Listener.Close()
}

// What a connection does now.
const (
	waiting   = iota // for a complete request
	busy             // with one
	displaced        // it is closed, and its handler has yet to notice
)

type connection struct {
	net.Conn
	all   *Connections
	state atomic.Int32

	ended   atomic.Bool // its last answer is sent, and what is left is politeness
	reading atomic.Bool // the server waits for what the other side sends
	proved  bool        // only its own goroutine looks

	// The others are guarded by all.mu. Only the connection's own goroutine writes hungry and the last two.
	since   time.Time  // when it began to wait
	hungry  bool       // it waits for memory
	among   *list.List // nil: it has left
	place   *list.Element
	holding *list.Element // nil: it holds nothing
	held    int64
}

type connectionKey struct{}

// connectionOf returns the connection of a request, or nil where none is counted.
func connectionOf(req *http.Request) *connection {
	c, _ := req.Context().Value(connectionKey{}).(*connection)
	return c
}

// admit makes room for a new connection. While every other is busy it waits for one to end, so that the newcomer waits in
// the kernel's queue.
func (a *Connections) admit(conn net.Conn) (net.Conn, error) {
	c := &connection{Conn: conn, all: a}
	victim, ok := a.add(c)
	if victim != nil {
		_ = victim.Conn.Close()
	}
	if !ok {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// add counts c in, and returns who has to go for it. It reports false where the listener was closed first.
func (a *Connections) add(c *connection) (victim *connection, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.open() >= a.max {
		if victim = a.displace((*connection).isIdle, a.candidates()); victim != nil {
			break
		}
		if a.closed {
			return nil, false
		}
		wake := time.AfterFunc(grace/10, a.room.Signal) // somebody's grace may be over by then
		a.room.Wait()
		wake.Stop()
	}
	c.among, c.since = &a.strangers, time.Now()
	c.place = c.among.PushBack(c)
	return victim, true
}

// longestLook bounds how many connections are looked at for one that may go.
const longestLook = 64

// candidates are those who make room: the proven only where no other waits.
func (a *Connections) candidates() *list.List {
	for e := a.strangers.Front(); e != nil; e = e.Next() {
		if e.Value.(*connection).state.Load() == waiting {
			return &a.strangers
		}
	}
	return &a.proven
}

// displace takes out the first connection of a list that waits and may go, or returns nil. The caller has the lock, and closes
// what it gets after giving it back.
func (a *Connections) displace(mayGo func(*connection) bool, from *list.List) *connection {
	look := longestLook
	for e := from.Front(); e != nil && look > 0; e = e.Next() {
		c := e.Value.(*connection)
		if c.state.Load() != waiting {
			continue
		}
		look--
		if mayGo(c) && c.state.CompareAndSwap(waiting, displaced) {
			a.forget(c)
			a.displaced.Add(1)
			return c
		}
	}
	return nil
}

// isIdle says that c has had its grace, and waits for the other side: one that has sent something waits for us, until it is read
// and more is wanted. One with a long body that waits for memory may go as well, or many of them would hold all the room, with
// newcomers behind them that need no memory.
func (c *connection) isIdle() bool {
	return c.ended.Load() || time.Since(c.since) >= grace && (c.hungry || c.reading.Load() && !hasSent(c.Conn))
}

// Read implements net.Conn.
func (c *connection) Read(p []byte) (int, error) {
	c.reading.Store(true)
	defer c.reading.Store(false)
	return c.Conn.Read(p)
}

func (c *connection) holdsMemory() bool { return c.held > 0 }

func (a *Connections) forget(c *connection) {
	if c.among == nil {
		return
	}
	c.among.Remove(c.place)
	c.among = nil
	a.leaving += c.held
	a.room.Signal()
	a.memory.Broadcast()
}

// wait notes that c has been answered and begins to wait.
func (a *Connections) wait(c *connection) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.among == nil {
		return
	}
	c.among.MoveToBack(c.place)
	c.since = time.Now()
	c.state.Store(waiting)
	a.room.Signal()
}

// completed records that a request has arrived in full. False means that the connection has been displaced.
func (c *connection) completed() bool {
	return c == nil || c.state.CompareAndSwap(waiting, busy) || c.state.Load() == busy
}

// prove notes that a right token has come.
func (c *connection) prove() {
	if c == nil || c.proved {
		return
	}
	c.proved = true
	a := c.all
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.among == &a.strangers {
		c.among.Remove(c.place)
		c.among = &a.proven
		c.place = c.among.PushBack(c)
	}
}

// isProven reports whether a right token has come.
func (c *connection) isProven() bool { return c != nil && c.proved }

// hold counts n more bytes of a body, once there is memory for them. False means that the connection has been displaced.
func (c *connection) hold(n int64) bool {
	if c == nil {
		return true
	}
	a := c.all
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.holding == nil {
		c.holding = a.holders.PushBack(c)
	}
	for c.among != nil && a.held+n > maxHeld {
		if a.held-a.leaving+n > maxHeld && a.canFree(n, c) {
			if victim := a.displace((*connection).holdsMemory, &a.holders); victim != nil {
				a.mu.Unlock()
				_ = victim.Conn.Close()
				a.mu.Lock()
				continue
			}
		}
		c.hungry = true
		a.memory.Wait()
		c.hungry = false
	}
	if c.among == nil {
		return false
	}
	c.held += n
	a.held += n
	return true
}

// canFree reports whether n bytes become free if all connections besides c make room that may. Those with a complete body
// cannot, so otherwise c waits for these.
func (a *Connections) canFree(n int64, c *connection) bool {
	left := a.held - a.leaving + n
	for e := a.holders.Front(); e != nil; e = e.Next() {
		if other := e.Value.(*connection); other != c && other.state.Load() == waiting {
			left -= other.held
		}
	}
	return left <= maxHeld
}

// release gives back what c holds. The caller no longer refers to the body.
func (c *connection) release() {
	if c == nil || c.holding == nil {
		return
	}
	a := c.all
	a.mu.Lock()
	defer a.mu.Unlock()
	a.holders.Remove(c.holding)
	a.held -= c.held
	if c.among == nil {
		a.leaving -= c.held
	}
	c.holding, c.held = nil, 0
	a.memory.Broadcast()
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.all.mu.Lock()
	c.all.forget(c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets net/http end a connection so that the other side still reads the answer.
func (c *connection) CloseWrite() error {
	c.ended.Store(true)
	c.state.CompareAndSwap(busy, waiting)
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return tcp.CloseWrite()
	}
	return nil
}
