package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// statusInterval is the minimum average time between two status writes of one resource.
	statusInterval = 10 * time.Second
	// statusBurst is how many writes are allowed at once after an idle time: those of a new resource, and of a change.
	statusBurst = 20
	// statusPaces is the number of resources from which on those without recent writes are removed.
	statusPaces = 1024
)

// statusPace limits how often the status of one resource is written. A tenant controls part of its content, and every
// write wakes the resource again. The zero value is ready to use.
type statusPace struct {
	mu sync.Mutex
	// full is when the resource has its full burst again.
	full map[types.UID]time.Time
}

// take returns 0 and counts a write, or returns how long to wait before the next one.
func (p *statusPace) take(uid types.UID, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := p.full[uid]
	if full.Before(now) {
		full = now
	}
	full = full.Add(statusInterval)
	if wait := full.Sub(now) - statusBurst*statusInterval; wait > 0 {
		return wait
	}
	if len(p.full) >= statusPaces {
		for other, at := range p.full {
			if at.Before(now) {
				delete(p.full, other)
			}
		}
	}
	if p.full == nil {
		p.full = map[types.UID]time.Time{}
	}
	p.full[uid] = full
	return 0
}
