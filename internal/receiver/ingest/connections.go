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

// Connections bounds how many connections are served at once, and never rejects a new one to keep idle ones: at the bound, the
// connection that has been idle longest is closed. A connection is idle until it has a complete request: from its start or its
// last answer on, while a slow header or body arrives. A connection that has sent a valid token is closed only when no other is
// left, so clients without a token compete only with each other.
//
// Bodies share a bound on memory in the same way: when it is reached, the oldest incomplete bodies are dropped, and new ones
// wait for free memory.
//
// It covers only connections that its listeners have accepted, on servers passed to Follow.
type Connections struct {
	max       int
	displaced atomic.Int64

	mu   sync.Mutex
	room sync.Cond
	// strangers and proven hold every open connection once, the longest-waiting first; proven are those on which a valid token
	// has arrived.
	strangers, proven list.List
	// holders are the connections with a long body in memory, the oldest first. held is how many bytes they hold; leaving is how
	// many of these belong to closed connections whose handlers have not released them yet.
	holders       list.List
	held, leaving int64
	memory        sync.Cond // held has decreased, or a connection has left
	closed        bool
}

// grace is how long every connection may wait, even at the bound. Without it, new connections in a burst would displace each
// other before any of them was served. Further connections wait in the kernel's queue, in order of arrival.
const grace = 100 * time.Millisecond

// maxHeld bounds the bytes of all bodies together, except those of up to trustedLength bytes.
const maxHeld = 16 << 20

// NewConnections returns a bound of limit connections.
func NewConnections(limit int) *Connections {
	a := &Connections{max: limit}
	a.room.L, a.memory.L = &a.mu, &a.mu
	return a
}

// Listen returns a listener that counts the connections l accepts. It also bounds the kernel's buffer of data that has been sent
// and not read.
func (a *Connections) Listen(l net.Listener) net.Listener {
	limitUnread(l)
	return listener{l, a}
}

// maxUnread is the kernel's receive buffer of one connection, in bytes; it counts as the container's memory. Linux doubles
// it. A sender with a latency of 50 ms can still send 1 MiB in two seconds.
const maxUnread = 32 << 10

// Follow makes s report the state of its connections. It sets ConnContext and ConnState, and wraps the handler of s, because a
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

// Displaced returns how many connections have been closed to make room since the process started.
func (a *Connections) Displaced() int64 { return a.displaced.Load() }

func (a *Connections) open() int { return a.strangers.Len() + a.proven.Len() }

// isCrowded reports whether at least half of the allowed connections are open.
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

// The states of a connection.
const (
	waiting   = iota // for a complete request
	busy             // with one
	displaced        // closed, but its handler has not noticed yet
)

type connection struct {
	net.Conn
	all   *Connections
	state atomic.Int32

	ended   atomic.Bool // its last answer is sent; only an orderly close is left
	reading atomic.Bool // the server waits for data from the peer
	proved  bool        // used only by its own goroutine

	// The remaining fields are guarded by all.mu. Only the connection's own goroutine writes hungry and the last two.
	since   time.Time  // when it started to wait
	hungry  bool       // it waits for memory
	among   *list.List // nil: it has left
	place   *list.Element
	holding *list.Element // nil: it holds nothing
	held    int64
}

type connectionKey struct{}

// connectionOf returns the connection of a request, or nil if it is not counted.
func connectionOf(req *http.Request) *connection {
	c, _ := req.Context().Value(connectionKey{}).(*connection)
	return c
}

// admit makes room for a new connection. While all others are busy it waits for one to end, so further connections wait in the
// kernel's queue.
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

// add registers c and returns the connection to close in its place, if any. ok is false if the listener was closed first.
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
		wake := time.AfterFunc(grace/10, a.room.Signal) // some connection's grace may be over by then
		a.room.Wait()
		wake.Stop()
	}
	c.among, c.since = &a.strangers, time.Now()
	c.place = c.among.PushBack(c)
	return victim, true
}

// longestLook bounds how many connections are examined to find one that may be closed.
const longestLook = 64

// candidates returns the connections that may be closed: the proven ones only if no other is waiting.
func (a *Connections) candidates() *list.List {
	for e := a.strangers.Front(); e != nil; e = e.Next() {
		if e.Value.(*connection).state.Load() == waiting {
			return &a.strangers
		}
	}
	return &a.proven
}

// displace removes the first waiting connection of a list that mayGo accepts, or returns nil. The caller holds the lock, and
// closes the returned connection after unlocking.
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

// isIdle reports whether c has had its grace and waits for the peer; if the peer has sent data that has not been read, c is
// waiting for the receiver. A connection with a long body that waits for memory also counts as idle: otherwise many of them
// could occupy all slots and block new connections that need no memory.
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

// wait records that c has been answered and is waiting.
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

// completed records that a request has arrived in full. It returns false if the connection has been displaced.
func (c *connection) completed() bool {
	return c == nil || c.state.CompareAndSwap(waiting, busy) || c.state.Load() == busy
}

// prove records that a valid token has arrived.
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

// isProven reports whether a valid token has arrived.
func (c *connection) isProven() bool { return c != nil && c.proved }

// hold counts n more bytes of a body, once there is memory for them. It returns false if the connection has been displaced.
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

// canFree reports whether closing all eligible connections except c would free n bytes. Connections with a complete body cannot
// be closed; if it returns false, c waits for them to finish.
func (a *Connections) canFree(n int64, c *connection) bool {
	left := a.held - a.leaving + n
	for e := a.holders.Front(); e != nil; e = e.Next() {
		if other := e.Value.(*connection); other != c && other.state.Load() == waiting {
			left -= other.held
		}
	}
	return left <= maxHeld
}

// release frees the memory that c holds. The caller must no longer use the body.
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

// CloseWrite lets net/http end a connection so that the peer can still read the answer.
func (c *connection) CloseWrite() error {
	c.ended.Store(true)
	c.state.CompareAndSwap(busy, waiting)
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return tcp.CloseWrite()
	}
	return nil
}
