package forward

import (
	"testing"
	"testing/synctest"
	"time"
)

// The cost of an attempt is its body: a bound on attempts alone lets a few targets that hang fill the memory of a Pod.
func TestBodiesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		bytes int64
		want  int // attempts at once
	}{
		{1, 1}, // always one, however large
		{29, 1},
		{30, 2}, // a body has 29 bytes; the last one may exceed the bound
		{1 << 20, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			q, s := &fakeQueue{}, &sender{answer: slow(time.Second)}
			q.add(8)
			_, stop := run(t, q, options(s, func(o *Options) { o.MaxBytes = tc.bytes }))
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if s.highest != tc.want || q.count("Done") != 8 {
				t.Errorf("%d bytes: %d attempts at once and %d of 8 delivered, want %d at once", tc.bytes, s.highest, q.count("Done"), tc.want)
			}
			stop()
		})
	}
}

// A large body leaves room for no other attempt, and afterwards there are as many as before.
func TestSlotsComeBackAfterALargeBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := &fakeQueue{}, &sender{answer: slow(time.Second)}
		q.add(9)
		q.entries[0].lease.Body = make([]byte, 1000)
		_, stop := run(t, q, options(s, func(o *Options) { o.MaxBytes = 1000 }))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if s.highest != 4 || q.count("Done") != 9 {
			t.Errorf("%d attempts at once, %d of 9 delivered; want four at once", s.highest, q.count("Done"))
		}
		stop()
	})
}
