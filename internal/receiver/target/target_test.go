package target

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/address"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

const canary = "canary-of-the-text"

var sample = event.Event{
	ID: "evt_abcdefghijklmnopqrstuvwxyz", Type: event.MessageReceived, AcceptedAt: time.UnixMilli(1),
	Body: []byte("{ \"z\":9007199254740993,\r\n\"type\":\"message_recieved\", \"text\":\"" + canary + " <é>\\u0000\",\"a\":1.0 }\n"),
}

// to returns a Target for a server on this machine, at a path that no error may repeat.
func to(t *testing.T, base string, change ...func(*Options)) *Target {
	t.Helper()
	o := Options{
		URL: base + "/secret-path?secret=query", Timeout: 5 * time.Second, MaxInFlight: 4, UserAgent: "heymarket-operator/test",
		Addresses: address.Policy{AllowLoopback: true},
	}
	for _, c := range change {
		c(&o)
	}
	target := New(o)
	t.Cleanup(target.Close)
	return target
}

func within(d time.Duration) func(*Options) { return func(o *Options) { o.Timeout = d } }

// quiet is a test server that does not log the handshakes that a test breaks on purpose.
func quiet(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(s.Close)
	return s
}

func TestSendStatuses(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := quiet(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	other.Start()
	for _, tc := range []struct {
		status  int
		headers map[string]string
		answer  string
		want    delivery.Outcome
	}{
		{status: 200, answer: "thank you", want: delivery.Outcome{Status: 200}},
		{status: 201, want: delivery.Outcome{Status: 201}},
		{status: 204, want: delivery.Outcome{Status: 204}},
		{status: 299, answer: "odd", want: delivery.Outcome{Status: 299}},
		{status: 301, headers: map[string]string{"Location": other.URL}, want: delivery.Outcome{Status: 301}},
		{status: 302, headers: map[string]string{"Location": other.URL}, want: delivery.Outcome{Status: 302}},
		{status: 302, headers: map[string]string{"Location": "http://[" + canary}, want: delivery.Outcome{Status: 302}},
		{status: 302, want: delivery.Outcome{Status: 302}},
		{status: 303, headers: map[string]string{"Location": other.URL}, want: delivery.Outcome{Status: 303}},
		{status: 307, headers: map[string]string{"Location": other.URL}, want: delivery.Outcome{Status: 307}},
		{status: 308, headers: map[string]string{"Location": "/elsewhere"}, want: delivery.Outcome{Status: 308}},
		{status: 304, want: delivery.Outcome{Status: 304}},
		{status: 400, answer: "no", want: delivery.Outcome{Status: 400, Excerpt: "no"}},
		{status: 401, headers: map[string]string{"WWW-Authenticate": "Basic"}, want: delivery.Outcome{Status: 401}},
		{status: 410, want: delivery.Outcome{Status: 410}},
		{status: 429, headers: map[string]string{"Retry-After": "7"}, answer: "slow", want: delivery.Outcome{Status: 429, RetryAfter: 7 * time.Second, Excerpt: "slow"}},
		{status: 500, answer: strings.Repeat("x", 5000), want: delivery.Outcome{Status: 500, Excerpt: strings.Repeat("x", 256)}},
		{status: 503, headers: map[string]string{"Retry-After": "soon"}, want: delivery.Outcome{Status: 503}},
		{status: 599, want: delivery.Outcome{Status: 599}},
	} {
		t.Run(fmt.Sprint(tc.status, tc.headers), func(t *testing.T) {
			t.Parallel()
			server := quiet(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/secret-path" || r.URL.RawQuery != "secret=query" || r.Method != http.MethodPost {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				for name, value := range tc.headers {
					w.Header().Set(name, value)
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.answer)
			})
			server.Start()
			got := to(t, server.URL).Send(t.Context(), sample, 1)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
	t.Cleanup(func() {
		if n := elsewhere.Load(); n != 0 {
			t.Errorf("%d requests followed a redirect", n)
		}
	})
}

func TestRequest(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	bodies := make(chan []byte, 1)
	server := quiet(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r
		bodies <- body
	})
	server.Start()
	target := to(t, server.URL)
	big := sample
	big.Body = make([]byte, 1<<20)
	_, _ = rand.Read(big.Body)
	for attempt, e := range []event.Event{sample, big, {ID: "evt_x", Type: "fax", Body: nil}} {
		before := time.Now().Unix()
		if out := target.Send(t.Context(), e, attempt+1); !out.Delivered() {
			t.Fatalf("outcome %+v", out)
		}
		r, body := <-got, <-bodies
		if !bytes.Equal(body, e.Body) {
			t.Errorf("the body changed on its way: %d bytes of %d", len(body), len(e.Body))
		}
		if r.ContentLength != int64(len(e.Body)) || len(r.TransferEncoding) != 0 {
			t.Errorf("length %d, transfer encoding %q", r.ContentLength, r.TransferEncoding)
		}
		var at int64
		if _, err := fmt.Sscan(r.Header.Get("webhook-timestamp"), &at); err != nil || at < before || at > time.Now().Unix() {
			t.Errorf("timestamp %q: %v", r.Header.Get("webhook-timestamp"), err)
		}
		r.Header.Del("webhook-timestamp")
		r.Header.Del("Content-Length")
		want := http.Header{
			"Content-Type": {"application/json"}, "User-Agent": {"heymarket-operator/test"},
			"Webhook-Id": {e.ID}, "Heymarket-Event-Type": {e.Type}, "Heymarket-Attempt": {fmt.Sprint(attempt + 1)},
		}
		if diff := cmp.Diff(want, r.Header); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
	}
}

// TestSendFails covers failures without a status. No error may contain the target's address or the event.
func TestSendFails(t *testing.T) {
	t.Parallel()
	raw := func(serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					serve(conn)
				}()
			}
		}()
		return "http://" + l.Addr().String()
	}
	after := func(answer string) func(net.Conn) {
		return func(c net.Conn) {
			r := make([]byte, 64<<10)
			_, _ = c.Read(r)
			_, _ = io.WriteString(c, answer)
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}
	}
	var closed string
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	} else {
		closed = "http://" + l.Addr().String()
		l.Close()
	}
	plain := quiet(t, func(http.ResponseWriter, *http.Request) {})
	plain.Start()
	secure := quiet(t, func(http.ResponseWriter, *http.Request) { t.Error("a stranger's certificate was believed") })
	secure.StartTLS()
	const broke = "the connection broke before an answer, or the answer is not HTTP"
	for _, tc := range []struct {
		name, url, want string
	}{
		{"nobody listens", closed, "connection refused"},
		{"hangs up at once", raw(func(net.Conn) {}), ""},
		{"hangs up after the request", raw(after("")), broke},
		{"repeats what it got", raw(func(c net.Conn) { _, _ = io.Copy(c, c) }), broke},
		{"speaks something else", raw(after("SSH-2.0-" + canary + "\r\n")), broke},
		{"a status without end", raw(after("HTTP/1.1 200 " + strings.Repeat(canary, 1<<16))), broke},
		{"a header without end", raw(after("HTTP/1.1 200 OK\r\nX: " + strings.Repeat(canary, 1<<16))), broke},
		{"a broken header", raw(after("HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n")), broke},
		{"a broken length", raw(after("HTTP/1.1 200 OK\r\nContent-Length: " + canary + "\r\n\r\n")), broke},
		{"half a header", raw(after("HTTP/1.1 200 OK\r\nX: " + canary)), broke},
		{"TLS to one that has none", strings.Replace(plain.URL, "http:", "https:", 1), "the target does not speak TLS"},
		{"a certificate of a stranger", secure.URL, "failed to verify certificate"},
		{"no such scheme", "gopher://127.0.0.1", ""},
		{"no URL", "http://127.0.0.1:x", "the target's URL cannot be requested"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			checkFailure(t, to(t, tc.url).Send(t.Context(), sample, 1), tc.want)
		})
	}
	t.Run("plain to one that speaks TLS", func(t *testing.T) {
		t.Parallel()
		out := to(t, strings.Replace(secure.URL, "https:", "http:", 1)).Send(t.Context(), sample, 1)
		if out.Err != nil || out.Status != 400 { // Go's server answers in plain text
			t.Errorf("outcome %+v", out)
		}
	})
}

func checkFailure(t *testing.T, out delivery.Outcome, want string) {
	t.Helper()
	if out.Err == nil || out.Status != 0 || out.Excerpt != "" || out.Delivered() {
		t.Fatalf("outcome %+v, want an error", out)
	}
	text := out.Err.Error()
	if !strings.Contains(text, want) {
		t.Errorf("error %q, want %q", text, want)
	}
	for _, secret := range []string{"secret", canary, "://", "\n"} {
		if strings.Contains(text, secret) {
			t.Errorf("the error holds %q: %q", secret, text)
		}
	}
	if len(text) > 2*errorBytes {
		t.Errorf("an error of %d bytes", len(text))
	}
}

func TestExplainIsBounded(t *testing.T) {
	t.Parallel()
	long := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: strings.Repeat("é", 1000), Name: "crm"}}
	if text := explain(fmt.Errorf("wrapped: %w", long)).Error(); len(text) > errorBytes+len("…") || !strings.HasPrefix(text, "dial tcp: lookup crm: é") {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	short := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	if got := explain(short); got.Error() != short.Error() {
		t.Errorf("%q", got)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		server := quiet(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		server.Start()
		begin := time.Now()
		checkFailure(t, to(t, server.URL, within(30*time.Millisecond)).Send(t.Context(), sample, 1), "the target did not answer in time")
		if took := time.Since(begin); took < 30*time.Millisecond || took > 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
	t.Run("an answer that does not end", func(t *testing.T) {
		t.Parallel()
		server := quiet(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "slo")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		server.Start()
		got := to(t, server.URL, within(50*time.Millisecond)).Send(t.Context(), sample, 1)
		if diff := cmp.Diff(delivery.Outcome{Status: 500, Excerpt: "slo"}, got); diff != "" { // the status decides
			t.Errorf("outcome (-want +got):\n%s", diff)
		}
	})
	t.Run("cut short", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		server := quiet(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			cancel()
			<-r.Context().Done()
		})
		server.Start()
		out := to(t, server.URL).Send(ctx, sample, 1)
		checkFailure(t, out, "context canceled")
		if !errors.Is(out.Err, context.Canceled) {
			t.Errorf("error %v", out.Err)
		}
	})
}

// TestAddressesAreChecked sends only to this machine, which the policy of a cluster refuses.
func TestAddressesAreChecked(t *testing.T) {
	t.Parallel()
	var got atomic.Int64
	server := quiet(t, func(http.ResponseWriter, *http.Request) { got.Add(1) })
	server.Start()
	strict := func(o *Options) { o.Addresses = address.Policy{} }
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"} {
		out := to(t, "http://"+host+":"+port, strict).Send(t.Context(), sample, 1)
		checkFailure(t, out, "resolves to a loopback address")
	}
	if got.Load() != 0 {
		t.Errorf("%d events arrived at a refused address", got.Load())
	}
	if out := to(t, server.URL).Send(t.Context(), sample, 1); !out.Delivered() {
		t.Errorf("allowed: %+v", out)
	}
}

func TestNoProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	if to(t, "http://crm").transport.Proxy != nil {
		t.Error("a proxy of the environment would be used")
	}
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	var answer atomic.Value
	answer.Store("")
	server := quiet(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, answer.Load().(string))
	})
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	target := to(t, server.URL)
	for i := range 30 {
		answer.Store(strings.Repeat("x", i*100))
		if out := target.Send(t.Context(), sample, 1); out.Status != 500 {
			t.Fatalf("outcome %+v", out)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("30 attempts one after the other took %d connections", n)
	}
	var crowd sync.WaitGroup
	for range 4 { // MaxInFlight
		crowd.Go(func() {
			for range 25 {
				target.Send(t.Context(), sample, 1)
			}
		})
	}
	crowd.Wait()
	if n := connections.Load(); n > 8 { // four at once; a dial that another's return has overtaken is kept, too
		t.Errorf("a hundred attempts of four at once took %d connections", n)
	}
}

func BenchmarkSend(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	target := New(Options{URL: server.URL, Timeout: time.Second, MaxInFlight: 1, Addresses: address.Policy{AllowLoopback: true}})
	b.ReportAllocs()
	for b.Loop() {
		if out := target.Send(b.Context(), sample, 1); !out.Delivered() {
			b.Fatal(out)
		}
	}
}
