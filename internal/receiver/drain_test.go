package receiver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// proxy sends requests as a reverse proxy does: over connections that it keeps, until an answer ends one or it finds it closed.
type proxy struct {
	backends   []string
	mu         sync.Mutex
	removed    map[string]bool        // backends that get no new connections
	idle       map[string][]*upstream // the one that has been idle for longest first
	answered   atomic.Int64
	unanswered atomic.Int64
	last       atomic.Value // the last error of a request without an answer
}

type upstream struct {
	net.Conn
	answers *bufio.Reader
}

func newProxy(receivers ...*process) *proxy {
	p := &proxy{idle: map[string][]*upstream{}, removed: map[string]bool{}}
	for _, r := range receivers {
		p.backends = append(p.backends, backend(r))
	}
	return p
}

func backend(r *process) string { return strings.TrimPrefix(r.events, "http://") }

// remove makes the proxy open no more connections to a backend, as when its endpoint becomes unready. Those that it has are used
// as long as they stay open.
func (p *proxy) remove(backend string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removed[backend] = true
}

func (p *proxy) isRemoved(backend string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removed[backend]
}

func (p *proxy) take(backend string) *upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.idle[backend]
	if len(all) == 0 {
		return nil
	}
	p.idle[backend] = all[1:]
	return all[0]
}

func (p *proxy) keep(backend string, u *upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle[backend] = append(p.idle[backend], u)
}

// isClosed finds out, as proxies do, whether the peer has closed an idle connection.
func (u *upstream) isClosed() bool {
	_ = u.SetReadDeadline(time.Now().Add(time.Microsecond))
	_, err := u.answers.Peek(1)
	_ = u.SetReadDeadline(time.Time{})
	t, ok := err.(net.Error) //nolint:errorlint // it comes from the connection itself
	return !ok || !t.Timeout()
}

// send delivers an event to one of the backends, and reports whether it was answered 200. A backend that takes no connections is
// skipped; a request that has been sent is not sent again.
func (p *proxy) send(id int) bool {
	body := sample(id)
	for try := range 2 * len(p.backends) {
		backend := p.backends[(id+try)%len(p.backends)]
		u := p.take(backend)
		for u != nil && u.isClosed() {
			_ = u.Close()
			u = p.take(backend)
		}
		if u == nil {
			if p.isRemoved(backend) {
				continue
			}
			conn, err := net.Dial("tcp", backend)
			if err != nil {
				continue
			}
			u = &upstream{conn, bufio.NewReader(conn)}
		}
		_, err := fmt.Fprintf(u, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
		var resp *http.Response
		if err == nil {
			resp, err = http.ReadResponse(u.answers, nil)
		}
		if err != nil {
			p.unanswered.Add(1)
			p.last.Store(err.Error())
			_ = u.Close()
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		p.answered.Add(1)
		if resp.Close {
			_ = u.Close()
		} else {
			p.keep(backend, u)
		}
		return resp.StatusCode == http.StatusOK
	}
	return false
}

func (p *proxy) close() {
	for _, all := range p.idle {
		for _, u := range all {
			_ = u.Close()
		}
	}
}

// A rolling update behind a proxy with kept-alive connections: each of five receivers stops while the next one serves, and every
// request gets an answer.
func TestAShutdownAnswersEveryRequestOfAProxy(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	delay := func(_ *process, o *receiver.Options) { o.DrainDelay = 4 * time.Second } // the proxy must notice meanwhile, also on a busy machine
	begin := func() *process {
		r := start(t, redis.URL(), newConfig(crm(to)), delay)
		r.awaitReady()
		return r
	}
	const shutdowns, connections = 5, 100
	var ids atomic.Int64
	old := begin()
	for range shutdowns {
		next := begin()
		p := newProxy(old, next)
		stopped := make(chan struct{})
		var clients sync.WaitGroup
		for range connections {
			clients.Go(func() {
				for {
					p.send(int(ids.Add(1)))
					select {
					case <-stopped:
						return
					default:
					}
				}
			})
		}
		until(t, "the connections are in use", func() bool { return p.answered.Load() > 4*connections })
		old.stop()
		until(t, "unready", func() bool {
			status, _ := old.get("/readyz")
			return status == http.StatusServiceUnavailable
		})
		p.remove(backend(old))
		old.end()
		close(stopped)
		clients.Wait()
		p.close()
		if n := p.unanswered.Load(); n > 0 {
			t.Errorf("%d of %d requests were not answered: %v", n, n+p.answered.Load(), p.last.Load())
		}
		old = next
	}
}

// While a request is in flight the receiver still runs, unready, and its answers close their connections.
func TestAReceiverThatShutsDownIsUnreadyAndEndsConnections(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)), func(_ *process, o *receiver.Options) { o.DrainDelay = 2 * time.Second })
	p.awaitReady()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.events, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	request := func(id int) string {
		body := sample(id)
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	}
	answer := func() *http.Response {
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp
	}
	if _, err := io.WriteString(conn, request(1)); err != nil {
		t.Fatal(err)
	}
	if resp := answer(); resp.StatusCode != http.StatusOK || resp.Close {
		t.Fatalf("%d, closes %t; want 200 over a connection that stays", resp.StatusCode, resp.Close)
	}
	second := request(2)
	if _, err := io.WriteString(conn, second[:len(second)-1]); err != nil {
		t.Fatal(err)
	}
	p.stop()
	until(t, "unready", func() bool {
		status, why := p.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(why, "shutting down")
	})
	if status, _ := p.get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz is %d during the shutdown, want 200", status)
	}
	if _, err := io.WriteString(conn, second[len(second)-1:]); err != nil {
		t.Fatal(err)
	}
	if resp := answer(); resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("%d, closes %t; want 200 that ends the connection", resp.StatusCode, resp.Close)
	}
	p.end()
}
