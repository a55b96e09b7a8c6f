package receiver

import (
	"sync/atomic"

	"heymarket.dev/operator/internal/receiver/config"
)

// quota bounds what the webhook has in Redis, so that one webhook does not take the room of all others.
type quota struct {
	configured atomic.Int64 // as in the configuration
	// full is set when an event is rejected for it, and cleared when a tenth is free again: senders repeat at long intervals.
	full atomic.Bool
}

// bytes returns the bound for a Redis that may hold maxMemory bytes, 0 for one without a limit; 0 means no bound.
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

// reached reports whether events are rejected because the webhook has used bytes of its bound.
func (q *quota) reached(used, bound int64) bool {
	if bound == 0 || used < bound/10*9 {
		q.full.Store(false)
	}
	return q.full.Load()
}
