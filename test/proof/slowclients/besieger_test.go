package slowclients

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// besiegers hold connections, each in one of the ways below, and open another one when they are hung up on.
type besiegers struct {
	t              *testing.T
	address        string
	connections    int
	attempts, open atomic.Int64
	stop           context.CancelFunc
	all            sync.WaitGroup
}

const (
	// drip is how often a slow connection sends one byte more.
	drip = 2 * time.Second
	// sources are loopback addresses to connect from: one has too few ports.
	sources = 32
)

// post is a header up to its length.
const post = "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

// ways are the two parts of a besieger's requests: the first is sent at once, the second byte by byte. None has the token.
var ways = []struct{ name, first, then string }{
	{"a slow header", "POST " + path + " HTTP/1.1\r\nHost: x\r\n", strings.Repeat("X-Slow: yes\r\n", 100)},
	{"a long header, never ended", "POST " + path + " HTTP/1.1\r\nX-Long: " + strings.Repeat("x", 14<<10), strings.Repeat("x", 1000)},
	{"nothing", "", ""},
	{"a slow body", post + "Content-Length: 1000\r\n\r\n{", strings.Repeat(" ", 900)},
	{"a long body that stops", post + "Content-Length: 1000000\r\n\r\n" + strings.Repeat(" ", 600_000), strings.Repeat(" ", 900)},
	{"endless chunks", post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\n \r\n", 1000), strings.Repeat("1\r\n \r\n", 1000)},
	{"an idle connection after a refusal", post + "Content-Length: 2\r\n\r\n{}", ""},
	{"more than the limit", post + "Content-Length: 10000000000\r\n\r\n" + strings.Repeat(" ", 1000), strings.Repeat(" ", 900)},
	{"deep JSON", fmt.Sprintf(post+"Content-Length: %d\r\n\r\n%s", 100_000, strings.Repeat("[", 100_000)), ""},
	{"a compressed body", post + "Content-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n\x1f\x8b", strings.Repeat("x", 900)},
}

func besiege(t *testing.T, address string, connections int) *besiegers {
	ctx, stop := context.WithCancel(context.Background())
	b := &besiegers{t: t, address: address, connections: connections, stop: stop}
	t.Cleanup(b.lift)
	for i := range connections {
		b.all.Go(func() {
			for ctx.Err() == nil {
				b.hold(ctx, i)
				sleep(ctx, 5*time.Second+rand.N(10*time.Second))
			}
		})
	}
	return b
}

// awaitAll returns when every besieger has been let in once.
func (b *besiegers) awaitAll() {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); b.attempts.Load() < int64(b.connections); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("only %d of %d connections within a minute", b.attempts.Load(), b.connections)
		}
	}
}

// lift ends the siege.
func (b *besiegers) lift() {
	b.stop()
	b.all.Wait()
}

// hold keeps one connection for as long as the receiver lets it.
func (b *besiegers) hold(ctx context.Context, i int) {
	conn, err := dial(ctx, b.address, i)
	if err != nil {
		return
	}
	b.attempts.Add(1)
	b.open.Add(1)
	defer b.open.Add(-1)
	defer func() { _ = conn.Close() }()
	unblock := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unblock()
	way := ways[i%len(ways)]
	if _, err := conn.Write([]byte(way.first)); err != nil {
		return
	}
	hungUp := make(chan struct{})
	b.all.Go(func() {
		defer close(hungUp)
		answer := make([]byte, 512)
		for {
			if _, err := conn.Read(answer); err != nil {
				return
			}
		}
	})
	for next := range []byte(way.then) {
		select {
		case <-hungUp:
			return
		case <-time.After(drip):
		}
		if _, err := conn.Write([]byte{way.then[next]}); err != nil {
			return
		}
	}
	<-hungUp
}

// dial connects from one of many loopback addresses.
func dial(ctx context.Context, address string, i int) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 20 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%sources))}}
	return dialer.DialContext(ctx, "tcp", address)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
