package ingest

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Wrong tokens are limited by client address, without harm to good deliveries. The token is in the body, so a request
// that is refused before its body is read may have carried the right one. When is that safe?
//
//   - The client must be known. Behind a proxy that is not trusted, every request has the proxy's address, and wrong
//     tokens sent through it would lock the provider out. So nothing is refused unread unless trusted proxies are
//     configured, and never a request whose address is still a proxy's or cannot be determined.
//   - The provider itself may send wrong tokens: while a person rotates the token its address collects failures. So an
//     address from which a right token ever came is never refused unread.
//   - An address that fails and may yet become good has its bodies read once a second: the first right token clears it.
//     Until then, others get 429 with Retry-After, which the provider honours.
//
// Once read, a request is decided by its token alone: a right one passes after any number of failures. A wrong one beyond
// the limit is answered 429 instead of 401, so that a well-behaved sender slows down.
//
// Requests in flight at the same time pass before the first failure is counted; the bound on connections limits them.
type throttle struct {
	failing atomic.Int64 // len(buckets), to spare good deliveries the lock

	mu      sync.Mutex
	buckets map[netip.Addr]bucket
	// proven are addresses from which a right token came. Only right tokens add to it, so a flood of addresses cannot push
	// the provider's out.
	proven      map[netip.Addr]struct{}
	provenOrder []netip.Addr // oldest first
}

// bucket holds how many failures an address may still have.
type bucket struct {
	level  float64
	filled time.Time
}

const (
	failureBurst  = 10
	failureRate   = 1 // a second
	maxFailing    = 4096
	maxProven     = 1024
	retryAfterOne = "1" // seconds; what failureRate makes of one failure
)

func newThrottle() *throttle {
	return &throttle{buckets: map[netip.Addr]bucket{}, proven: map[netip.Addr]struct{}{}}
}

// refuseUnread says whether a request of a client is to be refused before its body is read.
func (t *throttle) refuseUnread(client netip.Addr, now time.Time) bool {
	if !client.IsValid() || t.failing.Load() == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b, fails := t.buckets[client]
	if _, proven := t.proven[client]; proven || !fails {
		return false
	}
	return b.at(now).level < 1
}

// failed counts a wrong token and says whether the client is beyond its limit.
func (t *throttle) failed(client netip.Addr, now time.Time) (beyond bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, known := t.buckets[client]
	if !known {
		t.makeRoom(now)
		b = bucket{level: failureBurst, filled: now}
	}
	if b = b.at(now); b.level >= 1 {
		b.level--
	} else {
		beyond = true
	}
	t.buckets[client] = b
	t.failing.Store(int64(len(t.buckets)))
	return beyond
}

// passed notes a right token. Remember says that the address is the client's own.
func (t *throttle) passed(client netip.Addr, remember bool) {
	if !remember && t.failing.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.buckets, client)
	t.failing.Store(int64(len(t.buckets)))
	if _, known := t.proven[client]; known || !remember {
		return
	}
	if len(t.provenOrder) == maxProven {
		delete(t.proven, t.provenOrder[0])
		t.provenOrder = slices.Delete(t.provenOrder, 0, 1)
	}
	t.proven[client] = struct{}{}
	t.provenOrder = append(t.provenOrder, client)
}

// makeRoom forgets an address where the table is full. It looks at a few for one that has recovered, and takes any
// otherwise: a flood from thousands of addresses is none that a limit for each address can stop.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.buckets) < maxFailing {
		return
	}
	const look = 8
	var victim netip.Addr
	seen := 0
	for client, b := range t.buckets { // in an order of chance
		victim = client
		if seen++; seen == look || b.at(now).level == failureBurst {
			break
		}
	}
	delete(t.buckets, victim)
}

func (b bucket) at(now time.Time) bucket {
	if passed := now.Sub(b.filled); passed > 0 {
		b.level = min(failureBurst, b.level+passed.Seconds()*failureRate)
		b.filled = now
	}
	return b
}
