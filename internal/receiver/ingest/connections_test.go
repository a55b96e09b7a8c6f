package ingest

import (
	"bufio"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// crowded is a server whose connections are bounded.
type crowded struct {
	t       *testing.T
	all     *Connections
	address string
	seen    reports
}

func newCrowded(t *testing.T, limit int, store Store, change ...func(*Settings)) *crowded {
	t.Helper()
	s := settings()
	for _, f := range change {
		f(&s)
	}
	c := &crowded{t: t, all: NewConnections(limit), seen: make(reports, 1000)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = l.Addr().String()
	server := &http.Server{Handler: NewHandler(store, c.seen, s), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	c.all.Follow(server)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(c.all.Listen(l)); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve = %v", err)
		}
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
		<-ended
	})
	return c
}

// guest is one connection to a crowded server.
type guest struct {
	net.Conn
	t      *testing.T
	answer *bufio.Reader
}

// dial opens a connection and sends something.
func (c *crowded) dial(send string) *guest {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	g := &guest{conn, c.t, bufio.NewReader(conn)}
	g.send(send)
	return g
}

// enter opens a connection, sends something, and returns when the server has accepted it.
func (c *crowded) enter(send string) *guest {
	c.t.Helper()
	before := c.all.entered()
	g := c.dial(send)
	c.await("accepted", func() bool { return c.all.entered() > before })
	return g
}

// entered is how many have been let in, less those who left by themselves.
func (a *Connections) entered() int64 { return int64(a.Open()) + a.Displaced() }

func (c *crowded) await(what string, f func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within ten seconds: %s", what)
		}
	}
}

// awaitRest returns when the server waits for the next request of g, whose last one it has answered.
func (c *crowded) awaitRest(g *guest) {
	c.t.Helper()
	c.await("at rest", func() bool {
		c.all.mu.Lock()
		defer c.all.mu.Unlock()
		for _, l := range []*list.List{&c.all.strangers, &c.all.proven} {
			for e := l.Front(); e != nil; e = e.Next() {
				if conn := e.Value.(*connection); conn.RemoteAddr().String() == g.LocalAddr().String() {
					return conn.state.Load() == waiting
				}
			}
		}
		return false
	})
}

func (g *guest) send(text string) {
	g.t.Helper()
	if _, err := io.WriteString(g, text); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) wantAnswer(status int) *http.Response {
	g.t.Helper()
	return g.wantAnswerTo(http.MethodPost, status)
}

func (g *guest) wantAnswerTo(method string, status int) *http.Response {
	g.t.Helper()
	_ = g.SetReadDeadline(time.Now().Add(time.Minute))
	resp, err := http.ReadResponse(g.answer, &http.Request{Method: method})
	if err != nil {
		g.t.Fatalf("no answer: %v", err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != status {
		g.t.Fatalf("answer %d, want %d", resp.StatusCode, status)
	}
	return resp
}

// wantGone waits until the server has hung up.
func (g *guest) wantGone() {
	g.t.Helper()
	_ = g.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := io.Copy(io.Discard, g.answer)
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		g.t.Error("the connection is still open")
	}
}

func posted(body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

func TestANewcomerGetsTheRoomOfTheOneWhoWaitedLongest(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 3, &fakeStore{})
	head := c.enter(posted(closed)[:20])
	body := c.enter(posted(closed)[:len(posted(closed))-1])
	nothing := c.enter("")
	good := c.enter(posted(closed)) // displaces head
	good.wantAnswer(200)
	head.wantGone()
	healthy := c.dial("GET / HTTP/1.1\r\nHost: x\r\n\r\n") // displaces body
	healthy.wantAnswer(200)
	body.wantGone()
	healthy.wantGone() // by itself, because connections are scarce
	for range 2 {
		c.enter("") // the second displaces nothing
	}
	nothing.wantGone()
	c.enter("") // not good, which has shown the token
	good.send(posted(message))
	good.wantAnswer(200)
	if c.all.Open() != 3 {
		t.Errorf("%d are open, want 3", c.all.Open())
	}
	_ = good.Close()
	c.await("two are left", func() bool { return c.all.Open() == 2 })
}

func TestTheProvenCompeteAmongThemselves(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 2, &fakeStore{})
	first, second := c.enter(posted(closed)), c.enter(posted(message))
	first.wantAnswer(200)
	second.wantAnswer(200)
	first.send(posted(closed))
	first.wantAnswer(200) // now it is second that has waited longest
	c.awaitRest(first)
	c.enter("")
	second.wantGone()
	first.send(posted(message))
	first.wantAnswer(200)
}

func TestACompleteRequestIsNeverDisplaced(t *testing.T) {
	t.Parallel()
	arrived, goOn := make(chan struct{}), make(chan struct{})
	store := &fakeStore{during: func(context.Context) {
		arrived <- struct{}{}
		<-goOn
	}}
	c := newCrowded(t, 2, store)
	first, second := c.enter(posted(closed)), c.enter(posted(message))
	<-arrived
	<-arrived
	third, err := net.Dial("tcp", c.address) // it waits until there is room
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	close(goOn)
	first.wantAnswer(200)
	second.wantAnswer(200)
	waited := &guest{third, t, bufio.NewReader(third)}
	waited.send(posted(`{"token":"none"}`))
	waited.wantAnswer(400)
	if n := c.all.Open(); n > 2 {
		t.Errorf("%d are open, want at most 2", n)
	}
}

func TestTheEndDoesNotWaitForRoom(t *testing.T) {
	t.Parallel()
	all := NewConnections(0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded := all.Listen(l)
	accepted := make(chan error, 1)
	go func() {
		_, err := bounded.Accept()
		accepted <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = bounded.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v; want that the listener is closed", err)
	}
}

// If the CPU is overloaded, the peer is not to blame.
func TestWhoHasSentSomethingStaysUntilItIsRead(t *testing.T) {
	t.Parallel()
	all := NewConnections(1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded := all.Listen(l)
	defer bounded.Close()
	accepted := make(chan net.Conn, 2)
	go func() {
		for {
			c, err := bounded.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Fatal(err)
		}
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("the first has made room though nobody has read what it sent")
	case <-time.After(3 * grace):
	}
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-accepted:
		t.Fatal("the first has made room though what it sent is being worked on")
	case <-time.After(3 * grace):
	}
	go func() { _, _ = first.Read(make([]byte, 1)) }() // now it waits for the peer
	<-accepted
}

// A request without a body is complete: during its processing its connection is not closed to make room, or probes would go
// unanswered under load.
func TestARequestWithoutABodyIsAnswered(t *testing.T) {
	t.Parallel()
	all := NewConnections(1)
	arrived, goOn := make(chan struct{}, 2), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-goOn
	})}
	server.SetKeepAlivesEnabled(false)
	all.Follow(server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(all.Listen(l)) }()
	defer server.Close()
	answers := make(chan error, 2)
	for range 2 {
		go func() {
			resp, err := http.Get("http://" + l.Addr().String() + "/status")
			if err == nil {
				_ = resp.Body.Close()
			}
			answers <- err
		}()
	}
	<-arrived
	time.Sleep(3 * grace) // the other one wants its room all the time
	close(goOn)
	for range 2 {
		if err := <-answers; err != nil {
			t.Errorf("GET /status: %v", err)
		}
	}
	if n := all.Displaced(); n > 1 { // the first, once it was answered
		t.Errorf("%d connections were displaced", n)
	}
}

// Many half-read bodies would add up to a gigabyte. Slow senders make room for fast ones.
func TestHalfReadBodiesShareABound(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	c := newCrowded(t, 100, &fakeStore{}, func(s *Settings) { s.MaxBodyBytes = size })
	large := strings.Replace(closed, `"m"`, `"`+strings.Repeat("m", size-len(closed))+`"`, 1)
	var slow []*guest
	for range 3 * maxHeld / size {
		g := c.enter("")
		slow = append(slow, g)
		// It may be hung up on meanwhile, or later.
		_, _ = io.WriteString(g, posted(large)[:size*3/4])
	}
	quick := c.enter("")
	quick.send(posted(large))
	quick.wantAnswer(200)
	slow[0].wantGone()
	if held := c.held(); held > maxHeld || c.all.Displaced() == 0 {
		t.Errorf("%d bytes are held, %d connections were displaced; want at most %d, and some", held, c.all.Displaced(), maxHeld)
	}
	for _, g := range slow {
		_ = g.Close()
	}
	c.await("nothing is held", func() bool { return c.held() == 0 })
	displaced := 0
	for len(c.seen) > 0 {
		if r := <-c.seen; errors.Is(r.Err, errDisplaced) || r.Reason == Unreadable {
			displaced++
		}
	}
	if displaced == 0 {
		t.Error("those who made room are not in the account")
	}
}

func (c *crowded) held() int64 {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	return c.all.held
}

// A closed connection frees no memory as long as its handler refers to its body.
func TestMemoryIsCountedUntilItsBufferIsReleased(t *testing.T) {
	t.Parallel()
	all := NewConnections(10)
	join := func() *connection {
		client, server := net.Pipe()
		t.Cleanup(func() { _ = client.Close() })
		conn, err := all.admit(server)
		if err != nil {
			t.Fatal(err)
		}
		return conn.(*connection)
	}
	slow, quick := join(), join()
	if !slow.hold(maxHeld) {
		t.Fatal("there is no memory though none is held")
	}
	got := make(chan bool)
	go func() { got <- quick.hold(1) }()
	_, err := slow.Read(make([]byte, 1)) // it is closed to make room
	if err == nil || slow.completed() {
		t.Fatalf("Read = %v; want that the connection is closed", err)
	}
	select {
	case <-got:
		t.Fatal("memory was given away that the first still holds")
	default:
	}
	all.mu.Lock()
	held, leaving := all.held, all.leaving
	all.mu.Unlock()
	if held != maxHeld || leaving != maxHeld {
		t.Errorf("%d bytes are held, %d of them by connections that have left; want %d", held, leaving, int64(maxHeld))
	}
	slow.release()
	if !<-got {
		t.Error("the one that waited for memory was displaced")
	}
	if quick.hungry {
		t.Error("the one that has got its memory counts as waiting for it")
	}
	quick.release()
	for range 2 { // the connection goes on with other bodies
		if !quick.hold(3) || all.held != 3 || all.holders.Len() != 1 {
			t.Errorf("%d bytes are held by %d connections, want 3 by one", all.held, all.holders.Len())
		}
		quick.release()
	}
	if all.held != 0 || all.leaving != 0 || all.holders.Len() != 0 {
		t.Errorf("%d and %d bytes are left, of %d connections", all.held, all.leaving, all.holders.Len())
	}
}

// One that waits for memory makes room for a newcomer: many of them would hold all of it.
func TestWhoWaitsForMemoryMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := NewConnections(2)
		join := func() *connection {
			client, server := net.Pipe()
			t.Cleanup(func() { _ = client.Close() })
			conn, err := all.admit(server)
			if err != nil {
				t.Fatal(err)
			}
			return conn.(*connection)
		}
		full, hungry := join(), join()
		if !full.hold(maxHeld) || !full.completed() {
			t.Fatal("there is no memory though none is held")
		}
		got := make(chan bool, 1)
		go func() { got <- hungry.hold(1) }()
		time.Sleep(grace)
		defer time.AfterFunc(time.Minute, func() { // or the newcomer would wait forever
			all.mu.Lock()
			all.closed = true
			all.mu.Unlock()
		}).Stop()
		join()
		if <-got || all.Displaced() != 1 {
			t.Errorf("%d were displaced, want the one that waits for memory", all.Displaced())
		}
	})
}

// Complete bodies cannot make room, so the next one waits for them.
func TestABodyWaitsForThoseThatAreComplete(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	const most = maxHeld / size
	arrived, goOn := make(chan struct{}), make(chan struct{})
	store := &fakeStore{during: func(context.Context) {
		arrived <- struct{}{}
		<-goOn
	}}
	c := newCrowded(t, 100, store, func(s *Settings) { s.MaxBodyBytes = size })
	large := func(i int) string {
		id := fmt.Sprintf(`"%03d`, i)
		return posted(strings.Replace(closed, `"m"`, id+strings.Repeat("m", size-len(closed)-len(id)+2)+`"`, 1))
	}
	var guests []*guest
	enter := func(i int) {
		g := c.enter("")
		guests = append(guests, g)
		go func() { _, _ = io.WriteString(g, large(i)) }() // it blocks where the peer does not read
	}
	for i := range most {
		enter(i)
		<-arrived
	}
	enter(most)
	c.await("the next one waits for memory", func() bool {
		c.all.mu.Lock()
		defer c.all.mu.Unlock()
		return c.all.holders.Len() == most+1
	})
	if held := c.held(); held > maxHeld || c.all.Displaced() != 0 {
		t.Errorf("%d bytes are held, want at most %d; %d connections were displaced, want none", held, int64(maxHeld), c.all.Displaced())
	}
	go func() {
		for range arrived {
		}
	}()
	close(goOn)
	for _, g := range guests {
		g.wantAnswer(200)
	}
	close(arrived)
}

// Strangers that keep sending requests must not be able to keep new connections out.
func TestAnAnswerToAStrangerEndsTheConnection(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 4, &fakeStore{err: ErrFull}, withID(1187))
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	for name, tc := range map[string]struct {
		send   string
		status int
	}{
		"unknown path":     {get("/x"), 404},
		"method":           {get(path), 405},
		"media type":       {strings.Replace(posted(closed), "application/json", "text/html", 1), 415},
		"malformed":        {posted("{}"), 400},
		"wrong token":      {posted(wrong), 401},
		"too large":        {fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000000\r\n\r\n", path), 413},
		"unreadable chunk": {"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400},
	} {
		g := c.dial(tc.send)
		if resp := g.wantAnswer(tc.status); !resp.Close {
			t.Errorf("%s: the connection stays open", name)
		}
		g.wantGone()
	}
	// One on which a right token has come is a proxy's or the sender's own.
	good := c.enter(posted(closed))
	for _, tc := range []struct {
		send   string
		status int
	}{
		{"", 429}, {posted(strings.Replace(closed, "1187", "2", 1)), 403}, {get("/x"), 404}, {get("/"), 200}, {posted(wrong), 401}, {posted(closed), 429},
	} {
		good.send(tc.send)
		if resp := good.wantAnswer(tc.status); resp.Close {
			t.Errorf("after a right token, %d ends the connection", tc.status)
		}
	}
}

// Where a body is not read to its end, a right token that came before does not keep the connection: the server would have to wait
// for the rest, or take it for the next request.
func TestAnAnswerToABodyThatIsNotReadEndsTheConnection(t *testing.T) {
	t.Parallel()
	const guesser = "X-Forwarded-For: 203.0.113.7\r\n"
	from := func(who, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", path, who, len(body), body)
	}
	c := newCrowded(t, 4, &fakeStore{}, func(s *Settings) {
		s.MaxBodyBytes, s.TrustedProxies = 2000, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for name, tc := range map[string]struct {
		guesses    int
		send, rest string
		status     int
	}{
		"too large":  {0, from("", strings.Repeat("x", 2000)+"}"), "}", 413},
		"unreadable": {0, "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "", 400},
		"guessing":   {failureBurst, from(guesser, wrong), "}", 429},
	} {
		g := c.dial(from("", closed))
		g.wantAnswer(200)
		for range tc.guesses {
			g.send(from(guesser, wrong))
			if resp := g.wantAnswer(401); resp.Close {
				t.Errorf("%s: a wrong token after a right one ends the connection", name)
			}
		}
		g.send(strings.TrimSuffix(tc.send, tc.rest))
		if resp := g.wantAnswer(tc.status); !resp.Close {
			t.Errorf("%s: the connection stays open", name)
		}
		g.send(tc.rest)
		g.wantGone()
	}
}

// A health check keeps its connection as long as there are enough of them.
func TestHealthChecksKeepTheirConnectionUnlessConnectionsAreScarce(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 4, &fakeStore{})
	const check = "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	first := c.enter(check)
	for range 3 {
		if resp := first.wantAnswerTo(http.MethodHead, 200); resp.Close {
			t.Error("the only connection is closed")
		}
		first.send(check)
	}
	first.wantAnswerTo(http.MethodHead, 200)
	second := c.dial(check)
	if resp := second.wantAnswerTo(http.MethodHead, 200); !resp.Close {
		t.Error("half of the connections are open, and a stranger keeps one")
	}
}
