package filter

import "sync"

// memo caches results by key: at least those of the last max keys, and at most twice as many.
type memo[K comparable, V any] struct {
	max int

	mu          sync.Mutex
	recent, old map[K]V
}

func newMemo[K comparable, V any](size int) *memo[K, V] {
	return &memo[K, V]{max: size, recent: map[K]V{}}
}

func (m *memo[K, V]) get(key K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.recent[key]
	if !ok {
		if v, ok = m.old[key]; ok {
			m.keep(key, v)
		}
	}
	return v, ok
}

func (m *memo[K, V]) put(key K, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(key, value)
}

func (m *memo[K, V]) keep(key K, value V) {
	if len(m.recent) >= m.max {
		m.old, m.recent = m.recent, map[K]V{}
	}
	m.recent[key] = value
}
