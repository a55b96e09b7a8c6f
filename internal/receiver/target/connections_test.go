package target

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
)

// raw is a server that speaks for itself once it has read a request. Its connections stay open until the test ends.
func raw(t *testing.T, speak func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var open sync.WaitGroup
	t.Cleanup(func() {
		close(done)
		l.Close()
		open.Wait()
	})
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 64<<10))
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					speak(conn)
				}()
				<-done
				conn.Close()
				<-ended
			})
		}
	})
	return "http://" + l.Addr().String()
}

func trusting(c *x509.Certificate) func(*Options) {
	return func(o *Options) {
		o.RootCAs = x509.NewCertPool()
		o.RootCAs.AddCert(c)
	}
}

// drip writes text again and again until the connection breaks.
func drip(c net.Conn, text string) {
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestNoAnswerHoldsAnAttempt covers answers that never end, in every part. The attempt's timeout is an hour if the status
// arrives: it has decided the outcome, and the rest is drained only briefly. A Send that waits longer would never return
// here.
func TestNoAnswerHoldsAnAttempt(t *testing.T) {
	t.Parallel()
	const broke = "not answer in time"
	for _, tc := range []struct {
		name   string
		speak  func(net.Conn)
		status int    // 0: an error
		err    string // part of it
		short  bool   // nothing but the timeout ends it
	}{
		{name: "another protocol", speak: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		}, err: "switched protocols"},
		{name: "another protocol, talking", speak: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			drip(c, "x")
		}, err: "switched protocols"},
		{name: "another protocol, unnamed", speak: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		}, err: "switched protocols"},
		{name: "a body that does not come", speak: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		}, status: 200},
		{name: "a body without end", speak: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			drip(c, "x")
		}, status: 200},
		{name: "chunks without end", speak: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n")
			drip(c, "1\r\nx\r\n")
		}, status: 503},
		{name: "trailers without end", speak: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\n")
			drip(c, "X: y\r\n")
		}, status: 200},
		{name: "a chunk's extension without end", speak: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")
			drip(c, "x")
		}, status: 200},
		{name: "informational answers without end", speak: func(c net.Conn) {
			drip(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}, short: true},
		{name: "early hints without end", speak: func(c net.Conn) {
			drip(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
		}, short: true},
		{name: "a header that drips", speak: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			drip(c, "X: y\r\n")
		}, err: broke, short: true},
		{name: "silence", speak: func(net.Conn) {}, err: broke, short: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Hour
			if tc.short {
				timeout = 300 * time.Millisecond
			}
			out := to(t, raw(t, tc.speak), within(timeout)).Send(t.Context(), sample, 1)
			if tc.status == 0 {
				checkFailure(t, out, tc.err)
			} else if out.Status != tc.status || out.Err != nil {
				t.Errorf("outcome %+v, want %d", out, tc.status)
			}
		})
	}
}

// TestNoHTTP2AnswerHoldsAnAttempt is the same for HTTP/2, where a handler can do less.
func TestNoHTTP2AnswerHoldsAnAttempt(t *testing.T) {
	t.Parallel()
	server := quiet(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the request is %s", r.Proto)
		}
		w.WriteHeader(http.StatusOK)
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	server.EnableHTTP2 = true
	server.StartTLS()
	target := to(t, server.URL, within(time.Hour), trusting(server.Certificate()))
	for range 2 {
		if out := target.Send(t.Context(), sample, 1); out.Status != 200 || out.Err != nil {
			t.Errorf("outcome %+v", out)
		}
	}
}

// firewall is a dialer whose connections can be made to drop everything from then on, as firewalls do when they forget one.
type firewall struct {
	mu    sync.Mutex
	conns []*firewalled
	to    atomic.Pointer[string] // where connections lead; nil: where they are to
}

type firewalled struct {
	net.Conn
	dropped atomic.Bool
	closed  chan struct{}
	once    sync.Once
}

func (f *firewall) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if to := f.to.Load(); to != nil {
		addr = *to
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &firewalled{Conn: conn, closed: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, c)
	return c, nil
}

func (f *firewall) drop() (dropped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.dropped.Store(true)
	}
	return len(f.conns)
}

func (c *firewalled) Write(b []byte) (int, error) {
	if c.dropped.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *firewalled) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.dropped.Load() {
		<-c.closed
		return 0, errors.New("closed")
	}
	return n, err
}

func (c *firewalled) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestADeadHTTP2ConnectionIsLeft checks that at most one attempt is lost on it, and that later ones use a new connection.
func TestADeadHTTP2ConnectionIsLeft(t *testing.T) {
	t.Parallel()
	server := quiet(t, func(http.ResponseWriter, *http.Request) {})
	server.EnableHTTP2 = true
	server.StartTLS()
	f := &firewall{}
	target := to(t, server.URL, within(2*time.Second), trusting(server.Certificate()))
	target.transport.DialContext = f.dial
	send := func() delivery.Outcome { return target.Send(t.Context(), sample, 1) }
	if out := send(); !out.Delivered() {
		t.Fatalf("outcome %+v", out)
	}
	if n := f.drop(); n != 1 {
		t.Fatalf("%d connections", n)
	}
	checkFailure(t, send(), "did not answer in time")
	if out := send(); !out.Delivered() {
		t.Errorf("after an attempt without an answer the dead connection is used again: %+v", out)
	}
}

// TestIdleHTTP2ConnectionsArePinged lets one fail without an attempt on it.
func TestIdleHTTP2ConnectionsArePinged(t *testing.T) {
	t.Parallel()
	server := quiet(t, func(http.ResponseWriter, *http.Request) {})
	server.EnableHTTP2 = true
	server.StartTLS()
	f := &firewall{}
	target := to(t, server.URL, trusting(server.Certificate()))
	if h := target.transport.HTTP2; h == nil || h.SendPingTimeout != pingAfter || h.PingTimeout != pingTimeout {
		t.Fatalf("HTTP/2 is configured with %+v", h)
	}
	target.transport.HTTP2.SendPingTimeout, target.transport.HTTP2.PingTimeout = 20*time.Millisecond, 20*time.Millisecond
	target.transport.DialContext = f.dial
	if out := target.Send(t.Context(), sample, 1); !out.Delivered() {
		t.Fatalf("outcome %+v", out)
	}
	f.drop()
	select {
	case <-f.conns[0].closed:
	case <-time.After(30 * time.Second):
		t.Error("a dead idle connection is kept")
	}
}

// TestConnectionsAreRenewed changes the address of the target's name while events are delivered.
func TestConnectionsAreRenewed(t *testing.T) {
	t.Parallel()
	var got [2]atomic.Int64
	var servers [2]string
	for i := range servers {
		s := quiet(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			got[i].Add(1)
		})
		s.Start()
		servers[i] = strings.TrimPrefix(s.URL, "http://")
	}
	f := &firewall{}
	f.to.Store(&servers[0])
	target := to(t, "http://crm.example")
	target.transport.DialContext = f.dial
	send := func() {
		t.Helper()
		if out := target.Send(t.Context(), sample, 1); !out.Delivered() {
			t.Fatalf("outcome %+v", out)
		}
	}
	send()
	f.to.Store(&servers[1])
	send()
	if a, b := got[0].Load(), got[1].Load(); a != 2 || b != 0 {
		t.Fatalf("%d and %d events arrived; a connection is used again while it is young", a, b)
	}
	target.since = target.since.Add(-connectionAge) // as if a minute had passed
	send()
	send()
	if a, b := got[0].Load(), got[1].Load(); a != 2 || b != 2 || len(f.conns) != 2 {
		t.Errorf("%d and %d events arrived on %d connections; want 2 and 2 on 2", a, b, len(f.conns))
	}
	select {
	case <-f.conns[0].closed:
	case <-time.After(30 * time.Second):
		t.Error("the old connection is kept")
	}
}
