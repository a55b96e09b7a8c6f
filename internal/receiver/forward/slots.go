package forward

import (
	"context"
	"sync"
	"time"
)

// slots counts the attempts that may start now. Attempts release theirs one by one; one goroutine claims all free slots
// at once. It can also wait for a number of them, and is woken once for all.
type slots struct {
	mu     sync.Mutex
	free   int
	wanted int           // how many a claim waits for; 0: no claim is waiting
	enough chan struct{} // signals the waiting claim that enough are free
}

func newSlots(n int) *slots { return &slots{free: n, enough: make(chan struct{}, 1)} }

// release returns n slots.
func (s *slots) release(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += n
	if s.wanted > 0 && s.free >= s.wanted {
		s.wanted = 0
		s.enough <- struct{}{} // never blocks: one claim waits, and is signalled once
	}
}

// claim takes all free slots as soon as there is one. While there are fewer than worthwhile it waits for more, for up to
// timeout. It returns 0 if ctx has ended.
func (s *slots) claim(ctx context.Context, worthwhile int, timeout time.Duration) int {
	if !s.await(ctx, 1, nil) {
		return 0
	}
	if worthwhile > 1 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		if !s.await(ctx, worthwhile, timer.C) {
			return 0
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.free
	s.free = 0
	return n
}

// await blocks until n slots are free or over fires. It returns false if ctx has ended.
func (s *slots) await(ctx context.Context, n int, over <-chan time.Time) bool {
	s.mu.Lock()
	if s.free >= n {
		s.mu.Unlock()
		return ctx.Err() == nil
	}
	s.wanted = n
	s.mu.Unlock()
	select {
	case <-s.enough:
		return ctx.Err() == nil
	case <-ctx.Done():
	case <-over:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted == 0 { // they were released at the same moment
		<-s.enough
	}
	s.wanted = 0
	return ctx.Err() == nil
}
