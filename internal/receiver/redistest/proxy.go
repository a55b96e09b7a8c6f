package redistest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Failure is a network failure of a connection.
type Failure int

// The failures. Each lasts until another one is set; Mended means none.
const (
	Mended Failure = iota
	// LosesRequests drops what a client sends: Redis never sees it, the client gets no answer.
	LosesRequests
	// LosesReplies drops what Redis answers: the client does not learn that Redis has executed the
	// command.
	LosesReplies
	// CutsRequests closes a connection when a client sends something, before Redis sees it.
	CutsRequests
	// CutsRequestsHalfway closes a connection in the middle of a client's request.
	CutsRequestsHalfway
	// CutsReplies closes a connection when Redis answers, before the client sees it.
	CutsReplies
)

// Proxy sits between a client and a Redis, and fails as networks do.
type Proxy struct {
	listener net.Listener

	mu       sync.Mutex
	upstream string
	failure  Failure
	// hurt are connections with lost data: they are closed when the network recovers.
	hurt map[net.Conn]bool
	open map[net.Conn]bool
}

// StartProxy runs a Proxy in front of s until the test ends.
func StartProxy(t testing.TB, s *Server) *Proxy {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, upstream: s.Addr(), hurt: map[net.Conn]bool{}, open: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
		all.Wait()
	})
	return p
}

// URL returns the URL for a receiver.
func (p *Proxy) URL() string { return "redis://" + p.listener.Addr().String() }

// Fail sets the failure from now on.
func (p *Proxy) Fail(f Failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure = f
	for c := range p.hurt {
		_ = c.Close()
	}
	clear(p.hurt)
}

// Lead connects new connections to another server; existing ones stay.
func (p *Proxy) Lead(to *Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = to.Addr()
}

func (p *Proxy) serve(client net.Conn) {
	p.track(client, true)
	defer p.track(client, false)
	defer func() { _ = client.Close() }()
	p.mu.Lock()
	upstream := p.upstream
	p.mu.Unlock()
	var dialer net.Dialer
	redis, err := dialer.DialContext(context.Background(), "tcp", upstream) // it ends with its client
	if err != nil {
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		defer func() { _ = client.Close() }()
		p.copy(client, redis, client, LosesReplies, CutsReplies)
	})
	p.copy(redis, client, client, LosesRequests, CutsRequests)
	_ = redis.Close()
	answers.Wait()
}

func (p *Proxy) track(c net.Conn, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if open {
		p.open[c] = true
		return
	}
	delete(p.open, c)
	delete(p.hurt, c)
}

// copy forwards data, or drops it, or returns so that the connection is cut, depending on the
// current failure.
func (p *Proxy) copy(to io.Writer, from io.Reader, client net.Conn, loses, cuts Failure) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		failure := p.failure
		if failure == loses {
			p.hurt[client] = true
		}
		p.mu.Unlock()
		switch {
		case failure == loses:
			continue
		case failure == cuts:
			return
		case failure == CutsRequestsHalfway && cuts == CutsRequests:
			_, _ = to.Write(buffer[:n/2])
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
