package stream

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"heymarket.dev/operator/internal/receiver/delivery"
)

// deliveries are delivered events waiting to be settled. While one call of the script is in flight, further events are
// collected for the next call. So a single event is settled at once, and under load one call settles many.
type deliveries struct {
	mu      sync.Mutex
	waiting []delivered
	sending bool
}

type delivered struct {
	lease  delivery.Lease
	answer chan<- settled // buffered for one: the caller may have returned
}

// settled is the result for one of them; ok is false if it had been settled before.
type settled struct {
	ok  bool
	err error
}

// gatherAtMost bounds the duration of one call.
const gatherAtMost = 128

// Done settles a delivered event. It returns false if it had been settled before.
func (q *Queue) Done(ctx context.Context, l delivery.Lease) (bool, error) {
	answer := make(chan settled, 1)
	q.deliveries.mu.Lock()
	q.deliveries.waiting = append(q.deliveries.waiting, delivered{l, answer})
	if !q.deliveries.sending {
		q.deliveries.sending = true
		go q.settleDelivered()
	}
	q.deliveries.mu.Unlock()
	select {
	case s := <-answer:
		return s.ok, s.err
	case <-ctx.Done():
		return false, fmt.Errorf("settle delivered event: %w: %w", ErrUnavailable, ctx.Err())
	}
}

// settleDelivered settles waiting events until there are none.
func (q *Queue) settleDelivered() {
	for batch := q.deliveries.next(); batch != nil; batch = q.deliveries.next() {
		ok, err := q.done(batch)
		for i, d := range batch {
			s := settled{err: err}
			if err == nil {
				s.ok = ok[i] == 1
			}
			d.answer <- s
		}
	}
}

// next returns the waiting events, up to gatherAtMost; nil means there are none and marks the sender as stopped.
func (d *deliveries) next() []delivered {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 {
		d.sending = false
		return nil
	}
	n := min(len(d.waiting), gatherAtMost)
	batch := d.waiting[:n:n]
	d.waiting = d.waiting[n:]
	return batch
}

func (q *Queue) done(batch []delivered) ([]int64, error) {
	args := make([]string, 1, 1+3*len(batch))
	args[0] = group
	for _, d := range batch {
		args = append(args, d.lease.Entry, d.lease.Conversation, strconv.Itoa(d.lease.Bytes))
	}
	// Not one caller's context: the call settles events of all callers.
	reply, err := q.store.exec(context.Background(), doneScript, append(q.keys[:5:5], q.store.bytesKey), args)
	if err != nil {
		return nil, fmt.Errorf("settle delivered events: %w", err)
	}
	ok, err := reply.AsIntSlice()
	if err != nil || len(ok) != len(batch) {
		return nil, fmt.Errorf("settle delivered events: %w", errReply)
	}
	return ok, nil
}
