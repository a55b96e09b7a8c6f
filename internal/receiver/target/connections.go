package target

import (
	"net/http"
	"sync"
	"time"
)

// connections are the open connections to one target. They are renewed when they reach connectionAge, and when an attempt
// on them gets no answer: net/http then closes an HTTP/1 connection, but continues to use an HTTP/2 connection, on which
// all further attempts would time out as well.
type connections struct {
	mu        sync.Mutex
	transport *http.Transport
	since     time.Time // of the first attempt with that transport
}

// current returns the transport for an attempt.
func (c *connections) current(now time.Time) *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.since.IsZero():
		c.since = now
	case now.Sub(c.since) >= connectionAge:
		c.replace()
		c.since = now
	}
	return c.transport
}

// abandon makes later attempts use connections other than those of t.
func (c *connections) abandon(t *http.Transport) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport == t { // else another attempt has replaced it
		c.replace()
	}
}

// replace lets the attempts in flight finish on the old connections, which are closed as they become idle.
func (c *connections) replace() {
	old := c.transport
	c.transport, c.since = old.Clone(), time.Time{}
	old.CloseIdleConnections()
}

// Close closes the idle connections. Attempts in flight are not affected.
func (c *connections) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.transport.CloseIdleConnections()
}
