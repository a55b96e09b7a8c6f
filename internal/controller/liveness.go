package controller

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// overdueAfter is the maximum duration of a reconcile. Each ends at roundTimeout if all calls honour its context; a
// longer one blocks its worker for good.
const overdueAfter = 2 * roundTimeout

// Liveness fails once a reconcile has run for longer than its bound, so that the kubelet restarts an operator whose
// workers hang. The zero value is ready to use.
type Liveness struct {
	mu      sync.Mutex
	last    uint64
	started map[uint64]running
}

type running struct {
	request reconcile.Request
	since   time.Time
}

// Check is a healthz.Checker. Its error names the oldest resource.
func (l *Liveness) Check(*http.Request) error { return l.check(time.Now()) }

func (l *Liveness) check(now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var oldest *running
	for _, r := range l.started {
		if now.Sub(r.since) > overdueAfter && (oldest == nil || r.since.Before(oldest.since)) {
			oldest = &r
		}
	}
	if oldest == nil {
		return nil
	}
	return fmt.Errorf("the reconcile of HeymarketWebhook %s has been running for more than %s", oldest.request, overdueAfter)
}

// watch returns a reconciler that records when its rounds start and end.
func (l *Liveness) watch(inner reconcile.Reconciler) reconcile.Reconciler {
	return reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		defer l.begin(request, time.Now())()
		return inner.Reconcile(ctx, request)
	})
}

func (l *Liveness) begin(request reconcile.Request, now time.Time) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started == nil {
		l.started = map[uint64]running{}
	}
	l.last++
	id := l.last
	l.started[id] = running{request, now}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.started, id)
	}
}
