package forward

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlotsAreClaimedAllAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(8)
		begin := time.Now()
		if n := s.claim(t.Context(), 1, time.Second); n != 8 {
			t.Fatalf("claimed %d of 8", n)
		}
		time.AfterFunc(time.Minute, func() { s.release(1) })
		if n := s.claim(t.Context(), 1, time.Second); n != 1 || time.Since(begin) != time.Minute {
			t.Errorf("claimed %d after %v; want the one that came free after a minute", n, time.Since(begin))
		}
	})
}

func TestAClaimWaitsForWhatIsWorthwhile(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		every   time.Duration // a slot comes free
		claimed int
		after   time.Duration
	}{
		{"it comes in time", 100 * time.Millisecond, 4, 400 * time.Millisecond},
		{"patience ends", 400 * time.Millisecond, 3, 1400 * time.Millisecond}, // it begins with the first
		{"nothing more comes", time.Hour, 1, time.Hour + time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSlots(4)
				s.claim(t.Context(), 1, 0)
				begin := time.Now()
				for i := range 4 {
					time.AfterFunc(time.Duration(i+1)*tc.every, func() { s.release(1) })
				}
				if n, took := s.claim(t.Context(), 4, time.Second), time.Since(begin); n != tc.claimed || took != tc.after {
					t.Errorf("claimed %d after %v, want %d after %v", n, took, tc.claimed, tc.after)
				}
			})
		})
	}
}

func TestAClaimEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2)
		s.claim(t.Context(), 1, 0)
		for _, free := range []int{0, 1} { // while it waits for the first, and while it waits for more
			s.release(free)
			ctx, stop := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, stop)
			if n := s.claim(ctx, 2, time.Second); n != 0 {
				t.Errorf("claimed %d with %d free, after the end", n, free)
			}
		}
		if n := s.claim(t.Context(), 1, 0); n != 1 {
			t.Errorf("claimed %d afterwards: what was free got lost", n)
		}
	})
}

// Releases and claims from many goroutines: no slot is lost or duplicated, and no claim misses a release.
func TestNoSlotIsLost(t *testing.T) {
	t.Parallel()
	const n, rounds = 16, 20_000
	s := newSlots(n)
	for left := rounds; left > 0; {
		claimed := s.claim(t.Context(), n/4, time.Microsecond)
		if claimed < 1 || claimed > n {
			t.Fatalf("claimed %d of %d", claimed, n)
		}
		left -= claimed
		for range claimed {
			go s.release(1)
		}
	}
	for all := 0; all < n; {
		all += s.claim(t.Context(), 1, 0)
	}
	if s.free != 0 {
		t.Errorf("%d are free beyond all", s.free)
	}
}
