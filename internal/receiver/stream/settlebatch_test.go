package stream_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// scriptCalls is how many scripts Redis has run.
func scriptCalls(t *testing.T, r *redistest.Server) int {
	t.Helper()
	for line := range strings.Lines(r.MustDo("INFO", "commandstats")) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
			digits, _, _ := strings.Cut(rest, ",")
			n, err := strconv.Atoi(digits)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// Each of many concurrent settlements gets its own result, with few calls.
func TestEventsThatAreDeliveredTogetherAreSettledTogether(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, unordered)
	const n = 300
	for i := range n {
		appendTo(t, s, i, target)
	}
	leases := take(t, q, n, 0)
	for i := range 10 { // these were settled before
		done(t, q, leases[i])
	}
	before := scriptCalls(t, r)
	var wg sync.WaitGroup
	for i, l := range leases {
		wg.Go(func() {
			if ok, err := q.Done(context.WithoutCancel(t.Context()), l); err != nil || ok != (i >= 10) {
				t.Errorf("Done of event %d = %v, %v; want %v", i, ok, err, i >= 10)
			}
		})
	}
	wg.Wait()
	if calls := scriptCalls(t, r) - before; calls > n/2 {
		t.Errorf("%d calls settled %d events", calls, n)
	}
	if a := account(t, s, target); a.Delivered != n || a.Pending != 0 {
		t.Errorf("account: %+v", a)
	}
}

func TestWhoeverGivesUpWaitingToSettleDisturbsNobody(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	s := connect(t, r, "a")
	q := s.Queue(target, delivery.General, unordered)
	appendTo(t, s, 1, target)
	appendTo(t, s, 2, target)
	leases := take(t, q, 2, 0)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Done(gone, leases[0]); err != nil && !errors.Is(err, stream.ErrUnavailable) {
		t.Errorf("Done = %v", err)
	}
	done(t, q, leases[1])
	for deadline := time.Now().Add(5 * time.Second); account(t, s, target).Pending != 0; {
		if time.Now().After(deadline) {
			t.Fatal("what was given up on is not settled")
		}
	}
}
