package receiver

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAnswerIsFoundOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		found := 0
		get := cached(func() (int, error) {
			found++
			return found, errors.New("away")
		})
		ask := func(want int) {
			var crowd sync.WaitGroup
			for range 400 {
				crowd.Go(func() {
					if got, err := get(); got != want || err == nil {
						t.Errorf("got %d, %v; want %d and its error", got, err, want)
					}
				})
			}
			crowd.Wait()
		}
		ask(1)
		time.Sleep(cacheAge - time.Nanosecond)
		ask(1)
		time.Sleep(time.Nanosecond)
		ask(2)
	})
}
