//go:build e2e || neighbours

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"heymarket.dev/operator/test/support/quickstart"
)

// load sends messages until it is stopped. What is not answered 200 it sends again, as Heymarket does.
type load struct {
	mu       sync.Mutex
	token    string // that events carry from now on
	accepted map[int64]bool
	refused  map[string]int // what was not a 200, and how often
	wait     sync.WaitGroup
	stop     context.CancelFunc
}

// connections that a load keeps alive, as a proxy does in front of many senders.
const connections = 100

// startLoad sends about 200 messages in a second.
func startLoad(ctx context.Context, h *quickstart.Heymarket) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{token: h.Token, accepted: map[int64]bool{}, refused: map[string]int{}, stop: stop}
	for range connections {
		l.wait.Go(func() {
			pace := time.NewTicker(500 * time.Millisecond)
			defer pace.Stop()
			for id := ids.Add(1); ; {
				e := quickstart.Message(id, "under load")
				e.Token = l.tokenNow()
				answer, err := h.Send(ctx, e)
				switch {
				case ctx.Err() != nil:
					return
				case err == nil && answer.Status == http.StatusOK:
					l.count(id, "")
					id = ids.Add(1)
				case err != nil:
					l.count(0, err.Error())
				default:
					l.count(0, strings.TrimSpace(fmt.Sprintf("%d %s", answer.Status, answer.Body)))
				}
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
				}
			}
		})
	}
	return l
}

func (l *load) count(id int64, refusal string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if refusal == "" {
		l.accepted[id] = true
	} else {
		l.refused[refusal]++
	}
}

// refusals are the answers other than 200 since the last call.
func (l *load) refusals() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	refused := l.refused
	l.refused = map[string]int{}
	return refused
}

func (l *load) sent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// more waits until that many more messages are accepted.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	from := l.sent()
	if err := quickstart.Poll(t.Context(), time.Minute, func(context.Context) (bool, error) { return l.sent() >= from+n, nil }); err != nil {
		t.Fatalf("%d more messages were not accepted %v; refused: %v", n, err, l.refusals())
	}
}

func (l *load) end() {
	l.stop()
	l.wait.Wait()
}

// use lets the events carry another token, as if a person had changed it in the Heymarket app.
func (l *load) use(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token = token
}

func (l *load) tokenNow() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token
}

// allDelivered ends the load and waits until the target has received every accepted message. What a killed receiver held is taken over when its lease
// ends, which is longer than a target's timeout of 10 s. It returns how many
// deliveries repeated another.
func (l *load) allDelivered(t *testing.T, target quickstart.Target) (repeated int) {
	t.Helper()
	l.end()
	missing := map[int64]bool{}
	seen := map[int64]bool{}
	deliveries, last := 0, 0
	for id := range l.accepted {
		missing[id] = true
	}
	err := quickstart.Poll(t.Context(), 2*time.Minute, func(ctx context.Context) (bool, error) {
		list, err := target.Received(ctx, last)
		for _, r := range list {
			_, id, _, err := r.Event()
			if err != nil {
				return false, err
			}
			delete(missing, id)
			seen[id] = true
			deliveries, last = deliveries+1, r.Seq
		}
		return len(missing) == 0, err
	})
	if err != nil {
		t.Errorf("%d of %d accepted messages were not delivered %v", len(missing), len(l.accepted), err)
	}
	t.Logf("%d messages accepted, %d deliveries", len(l.accepted), deliveries)
	return deliveries - len(seen)
}
