package forward

import (
	"context"
	"sync"

	"heymarket.dev/operator/internal/receiver/delivery"
)

// Route identifies a worker: a target and a lane.
type Route struct {
	Target string
	Lane   delivery.Lane
}

// Plan describes the worker that should run for a Route.
type Plan struct {
	// Fingerprint changes when the worker must be replaced.
	Fingerprint string
	// New creates the worker. It is called only if the Plan is not running yet.
	New func() *Worker
}

// Pool runs the workers of all routes and replaces them when their plans change. Its methods may be called concurrently.
type Pool struct {
	ready                   <-chan struct{}
	taking, sending         context.Context
	stopTaking, stopSending context.CancelFunc
	all                     sync.WaitGroup

	mu      sync.RWMutex
	running map[Route]running
}

type running struct {
	fingerprint string
	worker      *Worker
	stop        context.CancelFunc
}

// NewPool returns an empty Pool. Its workers start to take events when ready is closed: when their queues are reachable.
func NewPool(ready <-chan struct{}) *Pool {
	p := &Pool{ready: ready, running: map[Route]running{}}
	p.taking, p.stopTaking = context.WithCancel(context.Background())
	p.sending, p.stopSending = context.WithCancel(context.Background())
	return p
}

// Apply replaces the running workers by those of plans. A worker that is stopped or replaced takes no more events, and finishes
// those that it has; the rest stays in its queue. After Stop it does nothing.
func (p *Pool) Apply(plans map[Route]Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taking.Err() != nil {
		return
	}
	for route, r := range p.running {
		if plan, wanted := plans[route]; !wanted || plan.Fingerprint != r.fingerprint {
			r.stop()
			delete(p.running, route)
		}
	}
	for route, plan := range plans {
		if _, runs := p.running[route]; runs {
			continue
		}
		taking, stop := context.WithCancel(p.taking)
		worker := plan.New()
		p.running[route] = running{plan.Fingerprint, worker, stop}
		p.all.Go(func() {
			defer stop()
			select {
			case <-p.ready:
				worker.Run(taking, p.sending)
			case <-taking.Done():
			}
		})
	}
}

// Wake signals the workers of the named targets that their queues of a lane have a new event. It never blocks for long.
func (p *Pool) Wake(targets []string, lane delivery.Lane) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, t := range targets {
		if r, ok := p.running[Route{t, lane}]; ok {
			r.worker.Wake()
		}
	}
}

// Stop stops taking at once and waits for the attempts in flight. When ctx ends first it cuts those short; their events return to
// their queues. It returns when no worker is running.
func (p *Pool) Stop(ctx context.Context) {
	p.mu.Lock() // an Apply in progress has then started its workers, so that they are waited for
	p.stopTaking()
	p.mu.Unlock()
	finished := make(chan struct{})
	go func() {
		p.all.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-ctx.Done():
		p.stopSending()
		<-finished
	}
}
