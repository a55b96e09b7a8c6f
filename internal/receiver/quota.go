package receiver

import (
	"sync/atomic"

	"heymarket.dev/operator/internal/receiver/config"
)

// quota bounds the webhook's data in Redis, so that one webhook cannot use up the memory of all others. Its methods may be
// called concurrently.
type quota struct {
	configured atomic.Int64
	// full is set when an event is rejected because of the bound, and cleared when a tenth is free again: senders repeat at
	// long intervals.
	full atomic.Bool
}

// configure sets the bound in bytes; 0 means the default, and a negative number no bound.
func (q *quota) configure(bytes int64) { q.configured.Store(bytes) }

// bytes returns the bound for a Redis with a maxmemory of maxMemory bytes, 0 if it has no limit; 0 means no bound.
func (q *quota) bytes(maxMemory int64) int64 {
	switch configured := q.configured.Load(); {
	case configured < 0:
		return 0
	case configured > 0:
		return configured
	case maxMemory > 0:
		return max(1, maxMemory/config.DefaultBacklogShare)
	}
	return config.DefaultMaxBacklogBytes
}

// fill records that an event was rejected because of the bound.
func (q *quota) fill() { q.full.Store(true) }

// reached reports whether events are rejected because the webhook has used bytes of its bound.
func (q *quota) reached(used, bound int64) bool {
	if bound == 0 || used < bound/10*9 {
		q.full.Store(false)
	}
	return q.full.Load()
}
