package ingest

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Requests with wrong tokens are rate limited by client address without harming valid deliveries. The token is in the
// body, so a request that is refused before its body is read may have carried a valid one. The rules that make this safe:
//
//	The client must be known. Behind an untrusted proxy, every request has the proxy's address, and wrong tokens sent
//	  through it would lock the provider out. So nothing is refused unread unless trusted proxies are configured, and
//	  never a request whose address is still a proxy's or cannot be determined.
//	The provider itself may send wrong tokens: while a person rotates the token its address collects failures. So an
//	  address that has ever sent a valid token is never refused unread.
//	For an address that keeps failing, one body per second is still read: the first valid token clears it. Until then,
//	  other requests get 429 with Retry-After, which the provider honours.
//
// Once read, a request is decided by its token alone: a valid one passes after any number of failures. A wrong one beyond
// the limit is answered 429 instead of 401, so that a well-behaved sender slows down.
//
// Concurrent requests pass until the first failure is counted; the bound on connections limits them.
type throttle struct {
	failing atomic.Int64 // len(buckets), so that valid deliveries need not lock

	mu      sync.Mutex
	buckets map[netip.Addr]bucket
	// proven are addresses that have sent a valid token. Only valid tokens add to it, so a flood of addresses cannot evict
	// the provider's.
	proven      map[netip.Addr]struct{}
	provenOrder []netip.Addr // oldest first
}

// bucket holds how many more failures an address is allowed.
type bucket struct {
	level  float64
	filled time.Time
}

const (
	failureBurst  = 10
	failureRate   = 1 // a second
	maxFailing    = 4096
	maxProven     = 1024
	retryAfterOne = "1" // seconds; the time in which failureRate restores one failure
)

func newThrottle() *throttle {
	return &throttle{buckets: map[netip.Addr]bucket{}, proven: map[netip.Addr]struct{}{}}
}

// refuseUnread reports whether a client's request must be refused before its body is read.
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

// failed counts a wrong token and reports whether the client is beyond its limit.
func (t *throttle) failed(client netip.Addr, now time.Time) (beyond bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, known := t.buckets[client]
	if !known { // the zero bucket has been filling for ages
		t.makeRoom(now)
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

// passed records a valid token. remember reports that the address is the client's own.
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

// makeRoom evicts an address if the table is full. It examines a few to find one that has recovered, and otherwise evicts
// any: a flood from thousands of addresses cannot be stopped by a limit per address anyway.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.buckets) < maxFailing {
		return
	}
	const look = 8
	var victim netip.Addr
	seen := 0
	for client, b := range t.buckets { // in random order
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
