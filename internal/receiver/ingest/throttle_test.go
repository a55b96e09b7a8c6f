package ingest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// unread is a body that must not be looked at.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

var wrong = strings.Replace(closed, token, "guess", 1)

// world serves one handler to many clients.
type world struct {
	t *testing.T
	h *Handler
}

func newWorld(t *testing.T, trusted ...string) *world {
	s := settings()
	for _, p := range trusted {
		s.TrustedProxies = append(s.TrustedProxies, netip.MustParsePrefix(p))
	}
	return &world{t, NewHandler(&fakeStore{}, make(reports, 10_000), s)}
}

func (w *world) send(peer, forwarded, body string) *http.Response {
	w.t.Helper()
	req := post(body)
	req.RemoteAddr = peer
	if forwarded != "" {
		req.Header.Set("X-Forwarded-For", forwarded)
	}
	answer := httptest.NewRecorder()
	w.h.ServeHTTP(answer, req)
	return answer.Result()
}

// isRefusedUnread reports whether the next request is answered 429 with its body unread.
func (w *world) isRefusedUnread(peer, forwarded string) bool {
	w.t.Helper()
	req := post(closed)
	req.RemoteAddr = peer
	req.Header.Set("X-Forwarded-For", forwarded)
	body := &counted{Reader: strings.NewReader(closed)}
	req.Body = io.NopCloser(body)
	answer := httptest.NewRecorder()
	w.h.ServeHTTP(answer, req)
	if answer.Code == http.StatusTooManyRequests && answer.Header().Get("Retry-After") == "" {
		w.t.Error("429 without Retry-After")
	}
	return answer.Code == http.StatusTooManyRequests && body.n == 0
}

type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

func (w *world) wantStatuses(peer, forwarded, body string, want ...int) {
	w.t.Helper()
	for i, status := range want {
		if got := w.send(peer, forwarded, body).StatusCode; got != status {
			w.t.Fatalf("request %d of %s (%s): %d, want %d", i+1, peer, forwarded, got, status)
		}
	}
}

var tenRefusals = []int{401, 401, 401, 401, 401, 401, 401, 401, 401, 401}

func TestBehindAnUnnamedProxyARightTokenAlwaysPasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const proxy = "10.0.0.9:4711"
		w.wantStatuses(proxy, "203.0.113.7", wrong, append(tenRefusals, 429, 429)...)
		for range 100 { // a guesser and the provider, through one proxy
			w.wantStatuses(proxy, "203.0.113.7", wrong, 429)
			w.wantStatuses(proxy, "198.51.100.1", closed, 200)
			w.wantStatuses(proxy, "203.0.113.7", wrong, tenRefusals...) // a right token clears the address
		}
	})
}

func TestAClientOverItsLimitIsRefusedUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "10.0.0.0/8")
		const proxy, guesser, provider = "10.0.0.9:4711", "203.0.113.7", "198.51.100.1"
		w.wantStatuses(proxy, guesser, wrong, tenRefusals...)
		req := post("")
		req.RemoteAddr, req.Body = proxy, io.NopCloser(unread{t})
		req.Header.Set("X-Forwarded-For", guesser)
		answer := httptest.NewRecorder()
		w.h.ServeHTTP(answer, req)
		if answer.Code != 429 || answer.Header().Get("Retry-After") != "1" || answer.Header().Get("Connection") != "close" {
			t.Errorf("%d with %v; want 429 with Retry-After and an end of the connection", answer.Code, answer.Header())
		}
		w.wantStatuses(proxy, provider, closed, 200, 200)
		w.wantStatuses(proxy, provider+", "+guesser, wrong, 429) // what stands before the last entry is the client's word
		w.wantStatuses(proxy, guesser+", "+provider+", 10.1.1.1", closed, 200)

		time.Sleep(time.Second) // one more is looked at
		w.wantStatuses(proxy, guesser, wrong, 401, 429)
		time.Sleep(time.Second)
		w.wantStatuses(proxy, guesser, closed, 200) // the first right token clears the address
		w.wantStatuses(proxy, guesser, wrong, append(tenRefusals, 429)...)
		if w.isRefusedUnread(proxy, guesser) {
			t.Error("an address from which a right token came is refused unread")
		}
		w.wantStatuses(proxy, guesser, closed, 200)
	})
}

// A client's failure allowance does not accumulate while it is quiet.
func TestAQuietHourGivesNoBurstOfGuesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "10.0.0.0/8")
		const proxy, guesser = "10.0.0.9:4711", "203.0.113.7"
		w.wantStatuses(proxy, guesser, wrong, append(tenRefusals, 429)...)
		time.Sleep(time.Hour)
		w.wantStatuses(proxy, guesser, wrong, append(tenRefusals, 429)...)
		if !w.isRefusedUnread(proxy, guesser) {
			t.Error("a client beyond its limit has its body read")
		}
	})
}

func TestTheProviderPassesDuringARotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "10.0.0.0/8")
		const proxy, provider = "10.0.0.9:4711", "198.51.100.1"
		w.wantStatuses(proxy, provider, closed, 200)
		w.wantStatuses(proxy, provider, wrong, append(tenRefusals, 429, 429, 429)...)
		for range 20 {
			w.wantStatuses(proxy, provider, closed, 200)
		}
	})
}

func TestAStrangersForwardedForIsNotBelieved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "10.0.0.0/8")
		for i := range failureBurst {
			w.wantStatuses("203.0.113.7:1", fmt.Sprintf("198.51.100.%d", i), wrong, 401)
		}
		if !w.isRefusedUnread("203.0.113.7:2", "198.51.100.99") {
			t.Error("a header of its own got a client past its limit")
		}
		w.wantStatuses("10.0.0.9:1", "198.51.100.1", closed, 200)
	})
}

func TestAnAddressThatIsNobodysIsNeverRefusedUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, forwarded := range []string{"", "10.1.2.3", "unknown", "198.51.100.1, _hidden", ","} {
			w := newWorld(t, "10.0.0.0/8")
			w.wantStatuses("10.0.0.9:4711", forwarded, wrong, append(tenRefusals, 429)...)
			if w.isRefusedUnread("10.0.0.9:4711", forwarded) {
				t.Errorf("%q: refused unread, though nothing tells whose address it is", forwarded)
			}
		}
	})
}

// Where the table is full, those that have recovered go first: a guesser is not forgotten for them.
func TestWhoHasRecoveredMakesRoom(t *testing.T) {
	t.Parallel()
	table, now := newThrottle(), time.Unix(1e9, 0)
	guesser := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }
	for i := range maxFailing / 2 {
		table.failed(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), now)
	}
	now = now.Add(time.Minute)
	for i := range maxFailing / 2 {
		for range failureBurst {
			table.failed(guesser(i), now)
		}
	}
	const newcomers = maxFailing / 8
	for i := range newcomers {
		table.failed(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), now)
	}
	forgotten := 0
	for i := range maxFailing / 2 {
		if _, kept := table.buckets[guesser(i)]; !kept {
			forgotten++
		}
	}
	if forgotten > newcomers/8 { // by chance one in a hundred
		t.Errorf("%d guessers were forgotten for %d newcomers, though others have recovered", forgotten, newcomers)
	}
}

func TestTheTablesAreBounded(t *testing.T) {
	t.Parallel()
	table, now := newThrottle(), time.Unix(1e9, 0)
	failing := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }
	good := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}) }
	for i := range 3 * maxFailing {
		table.failed(failing(i), now)
		table.passed(good(i), true)
		if _, counted := table.buckets[failing(i)]; !counted {
			t.Fatalf("address %d is not limited, because others were first", i)
		}
	}
	for i := 3*maxFailing - maxProven - 1; i < 3*maxFailing; i++ {
		if _, kept := table.proven[good(i)]; kept != (i >= 3*maxFailing-maxProven) {
			t.Fatalf("address %d of %d is proven: %t; want the latest %d", i, 3*maxFailing, kept, maxProven)
		}
	}
	if f, p, o := len(table.buckets), len(table.proven), len(table.provenOrder); f > maxFailing || p != maxProven || o != maxProven {
		t.Errorf("%d failing and %d proven (%d in order) addresses are kept; want at most %d and %d", f, p, o, maxFailing, maxProven)
	}
}
