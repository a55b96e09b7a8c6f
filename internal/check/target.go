package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// arrival is how long an accepted event may take to reach its target.
const arrival = 30 * time.Second

// target accepts the receiver's deliveries with 200.
type target struct {
	server *http.Server

	mu     sync.Mutex
	bodies map[int64][][]byte // by event_data.id
	change chan struct{}      // closed and replaced on each delivery
}

func newTarget(listener net.Listener) *target {
	t := &target{bodies: map[int64][][]byte{}, change: make(chan struct{})}
	t.server = &http.Server{Handler: t, ReadHeaderTimeout: 10 * time.Second}
	go t.server.Serve(listener) //nolint:errcheck // it ends with the check; a missing delivery says more
	return t
}

func (t *target) close() { _ = t.server.Close() }

// ServeHTTP accepts one delivery. Deliveries that do not belong to this check are recorded under their own id.
func (t *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return
	}
	var e event
	_ = json.Unmarshal(body, &e) // on an error its id is 0, which is never waited for
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bodies[e.Data.ID] = append(t.bodies[e.Data.ID], body)
	close(t.change)
	t.change = make(chan struct{})
}

// await waits for an event.
func (t *target) await(ctx context.Context, id int64) error {
	limited, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	for {
		t.mu.Lock()
		arrived, change := len(t.bodies[id]) > 0, t.change
		t.mu.Unlock()
		if arrived {
			return nil
		}
		select {
		case <-change:
		case <-limited.Done():
			return fmt.Errorf("the accepted event did not reach its target within %s: see the receiver's log for its attempts; does a NetworkPolicy or --target-addresses block the connection to this check?", arrival)
		}
	}
}

// judge returns an error unless the expected events have arrived exactly once, without the token, and the rejected one never.
func (t *target) judge(token string, never int64, once ...int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.bodies[never]) > 0 {
		return errors.New("an event that was refused reached the target")
	}
	for _, id := range once {
		if got := len(t.bodies[id]); got != 1 {
			return fmt.Errorf("an event reached the target %d times: its repeat was not recognised", got)
		}
		if bytes.Contains(t.bodies[id][0], []byte(token)) {
			return errors.New("the token was passed on to the target")
		}
	}
	return nil
}
