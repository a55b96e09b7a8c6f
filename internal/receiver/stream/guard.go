package stream

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// guardedConn is a connection to an untrusted Redis. It parses what it reads before the client library does: lengths are
// bounded, and an answer that belongs to no command closes the connection. Either would otherwise crash the process.
type guardedConn struct {
	net.Conn
	mu      sync.Mutex
	in, out scanner
	awaited []awaited
	// confirmations are push messages still expected for a SUBSCRIBE, after the one that answers it.
	confirmations int
	subscribed    bool
	pong          bool // the next answer must be that of the PING that the client library sends after an UNSUBSCRIBE
	failed        error
	closed        func()
}

// awaited is one or several commands without an answer yet.
type awaited struct {
	plain       int  // commands with one answer each
	channels    int  // of a SUBSCRIBE
	unsubscribe bool // it is answered by push messages, or by an error
}

// guard wraps c. held is shared by the connections of one Store, and closed is called once.
func guard(c net.Conn, held *atomic.Int64, closed func()) *guardedConn {
	return &guardedConn{Conn: c, in: scanner{held: held}, out: scanner{held: new(atomic.Int64)}, closed: sync.OnceFunc(closed)}
}

// Read implements net.Conn.
func (g *guardedConn) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = g.in.scan(p[:n], g.answered)
	}
	if g.failed != nil {
		_ = g.Conn.Close()
		return 0, g.failed
	}
	return n, err
}

// Write implements net.Conn.
func (g *guardedConn) Write(p []byte) (int, error) {
	g.mu.Lock()
	err := g.out.scan(p, g.asked)
	g.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("write a command: %w", err)
	}
	return g.Conn.Write(p)
}

// Close implements net.Conn.
func (g *guardedConn) Close() error {
	g.mu.Lock()
	if g.failed == nil {
		g.failed = net.ErrClosed
	}
	g.in.release()
	g.mu.Unlock()
	g.closed()
	return g.Conn.Close()
}

// asked records a command.
func (g *guardedConn) asked(m message) error {
	last := len(g.awaited) - 1
	switch {
	case bytes.HasSuffix(m.first, []byte("UNSUBSCRIBE")):
		g.awaited = append(g.awaited, awaited{unsubscribe: true})
	case bytes.HasSuffix(m.first, []byte("SUBSCRIBE")):
		g.subscribed = true
		g.awaited = append(g.awaited, awaited{channels: int(max(m.elements-1, 1))})
	case last >= 0 && g.awaited[last].plain > 0:
		g.awaited[last].plain++
	default:
		g.awaited = append(g.awaited, awaited{plain: 1})
	}
	return nil
}

// answered matches a message with the commands that have no answer yet, in their order.
func (g *guardedConn) answered(m message) error {
	if m.kind == '>' || m.kind == '*' && g.subscribed && pubsub[string(m.first)] {
		return g.pushed(string(m.first))
	}
	if len(g.awaited) == 0 && m.kind == '-' {
		// Redis sends an unsolicited error when it refuses a connection, for example because there are too many.
		return fmt.Errorf("it refuses the connection: %q", m.first)
	}
	isPong := bytes.EqualFold(m.first, []byte("PONG"))
	if len(g.awaited) > 0 && g.awaited[0].unsubscribe {
		g.drop()
		if !isPong {
			g.pong = true
			return nil
		}
	}
	if len(g.awaited) == 0 || string(m.first) == "QUEUED" || g.pong && !isPong && m.kind != '-' {
		return fmt.Errorf("%w: an answer to no command", errMalformed) // No transaction is ever started.
	}
	g.pong = false
	if g.awaited[0].plain--; g.awaited[0].plain <= 0 {
		g.drop()
	}
	return nil
}

func (g *guardedConn) drop() { g.awaited = slices.Delete(g.awaited, 0, 1) }

// pubsub are the kinds of messages on subscriptions.
var pubsub = map[string]bool{
	"message": true, "pmessage": true, "smessage": true, "subscribe": true, "psubscribe": true, "ssubscribe": true,
	"unsubscribe": true, "punsubscribe": true, "sunsubscribe": true,
}

// pushed handles an unsolicited message. Only Sentinels may send one: the receiver has no other subscriptions.
func (g *guardedConn) pushed(kind string) error {
	ends, confirms := strings.HasSuffix(kind, "unsubscribe"), strings.HasSuffix(kind, "subscribe")
	switch {
	case !confirms && g.subscribed, ends && g.confirmations == 0:
	case confirms && g.confirmations > 0:
		g.confirmations--
	case confirms && len(g.awaited) > 0 && g.awaited[0].channels > 0:
		g.confirmations = g.awaited[0].channels - 1
		g.drop()
	default:
		return fmt.Errorf("%w: a message about a subscription that there is not", errMalformed)
	}
	return nil
}
