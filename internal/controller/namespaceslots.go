package controller

import "sync"

// namespacePollers is how many resources of one namespace are asked at a time, so that Pods which do not answer hold up
// only their own namespace.
const namespacePollers = pollers / 4

// places shares out a limited number of places by namespace: none has more than share at a time.
type places struct {
	share int

	mu    sync.Mutex
	taken map[string]int
}

// take returns false if the namespace has its share already.
func (p *places) take(namespace string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[namespace] >= p.share {
		return false
	}
	p.taken[namespace]++
	return true
}

func (p *places) giveBack(namespace string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[namespace]--; p.taken[namespace] <= 0 {
		delete(p.taken, namespace)
	}
}
