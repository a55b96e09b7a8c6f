package forward

import (
	"context"
	"sync"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
)

// held are the leases of a worker's attempts in flight. An attempt normally ends before its lease, but not if the CPU is
// overloaded or Redis was unreachable for a while. So leases are extended.
type held struct {
	mu     sync.Mutex
	leases map[string]since // by entry
	size   int64            // of the bodies of attempts in flight
	ended  chan struct{}    // receives a value after an attempt has ended
}

func newHeld() *held { return &held{leases: map[string]since{}, ended: make(chan struct{}, 1)} }

// bytes returns the total size of the bodies of the attempts in flight.
func (h *held) bytes() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.size
}

// await waits until an attempt has ended since the last call, or ctx has.
func (h *held) await(ctx context.Context) {
	select {
	case <-h.ended:
	case <-ctx.Done():
	}
}

// end records that an attempt has ended, and removes its lease.
func (h *held) end(l delivery.Lease) {
	h.remove(l)
	h.mu.Lock()
	h.size -= int64(len(l.Body))
	h.mu.Unlock()
	select {
	case h.ended <- struct{}{}:
	default:
	}
}

// since is a lease and when it started, or was last extended.
type since struct {
	delivery.Lease
	at time.Time
}

// extendAfter returns the part of a lease after which it is extended: early enough for two retries.
func extendAfter(lease time.Duration) time.Duration { return lease / 3 }

func (h *held) add(l delivery.Lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leases[l.Entry] = since{l, time.Now()}
	h.size += int64(len(l.Body))
}

// remove removes a lease, unless it now belongs to a later attempt at the same event.
func (h *held) remove(l delivery.Lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leases[l.Entry].Attempt == l.Attempt {
		delete(h.leases, l.Entry)
	}
}

// renew records that a held lease was extended.
func (h *held) renew(l delivery.Lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now, ok := h.leases[l.Entry]; ok && now.Attempt == l.Attempt {
		h.leases[l.Entry] = since{l, time.Now()}
	}
}

// aged returns the leases that started before the given time.
func (h *held) aged(before time.Time) []delivery.Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []delivery.Lease
	for _, l := range h.leases {
		if l.at.Before(before) {
			all = append(all, l.Lease)
		}
	}
	return all
}

// extendLeases extends leases that have been held for long, until ctx ends.
func (w *Worker) extendLeases(ctx context.Context, lease time.Duration) {
	after := extendAfter(lease)
	ticker := time.NewTicker(after / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, l := range w.held.aged(time.Now().Add(-after)) {
			mine, err := w.queue.Extend(ctx, l)
			switch {
			case err != nil: // retried at the next tick
				w.logFailed(ctx, "cannot extend a lease, retrying", err, "event", l.ID)
			case mine:
				w.held.renew(l)
			default:
				w.held.remove(l)
				w.Log.Warn("an attempt has outlived its lease; another receiver may deliver the event too", "target", w.Target, "event", l.ID)
			}
		}
	}
}
