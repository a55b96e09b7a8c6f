package receiver

import (
	"sync"
	"time"
)

// cacheAge is how old an answer of the operations port may be.
const cacheAge = time.Second

// cached returns find with its results remembered for cacheAge, errors included. However many ask at once, find runs once, and
// the others wait for its results.
func cached[T any](find func() (T, error)) func() (T, error) {
	var (
		mu    sync.Mutex
		value T
		err   error
		found time.Time
	)
	return func() (T, error) {
		mu.Lock()
		defer mu.Unlock()
		if found.IsZero() || time.Since(found) >= cacheAge {
			value, err = find()
			found = time.Now()
		}
		return value, err
	}
}
