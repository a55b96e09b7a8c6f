package source

import "sync"

// namespacePollers is how many resources of one namespace are polled concurrently, so that Pods which do not answer
// delay only their own namespace.
const namespacePollers = pollers / 4

// namespaceSlots counts slots by namespace: none has more than limit in use at a time.
type namespaceSlots struct {
	limit int

	mu    sync.Mutex
	inUse map[string]int
}

// acquire returns false if the namespace has no slot left.
func (p *namespaceSlots) acquire(namespace string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inUse[namespace] >= p.limit {
		return false
	}
	p.inUse[namespace]++
	return true
}

func (p *namespaceSlots) release(namespace string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inUse[namespace]--; p.inUse[namespace] <= 0 {
		delete(p.inUse, namespace)
	}
}
