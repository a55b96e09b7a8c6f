package receiver

import (
	"sync"
	"time"
)

// cacheAge is the maximum age of a cached answer of the operations port.
const cacheAge = time.Second

// cached returns find with its results cached for cacheAge, including errors. Concurrent callers share one run of find.
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
