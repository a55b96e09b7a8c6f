package controller

import (
	"slices"
	"sync"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// namespaceWorkers is how many workers one namespace may occupy at a time, so that a slow or busy namespace leaves workers
// to the others.
const namespaceWorkers = workers / 4

type requestQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// newFairQueue returns a queue that serves namespaces in turn, and no more than share requests of one namespace at a time.
func newFairQueue(share int) func(string, workqueue.TypedRateLimiter[reconcile.Request]) requestQueue {
	return func(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) requestQueue {
		order := &namespaceOrder{share: share, waiting: map[string][]reconcile.Request{}, running: map[string]int{}}
		queue := fairQueue{
			workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[reconcile.Request]{Name: name, Queue: order}), order,
		}
		delaying := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[reconcile.Request]{Name: name, Queue: queue})
		return workqueue.NewTypedRateLimitingQueueWithConfig(limiter,
			workqueue.TypedRateLimitingQueueConfig[reconcile.Request]{Name: name, DelayingQueue: delaying})
	}
}

// fairQueue releases a namespace's slot when a request is done. The worker that has called Done then asks for the next
// request, so a request that waited for this slot needs no other wake-up.
type fairQueue struct {
	workqueue.TypedInterface[reconcile.Request]
	order *namespaceOrder
}

// Done implements workqueue.TypedInterface.
func (q fairQueue) Done(item reconcile.Request) {
	q.order.done(item.Namespace)
	q.TypedInterface.Done(item)
}

// namespaceOrder holds requests by namespace. It implements workqueue.Queue: Len and Pop include only the requests of
// namespaces with a free slot.
type namespaceOrder struct {
	share int

	mu      sync.Mutex
	waiting map[string][]reconcile.Request
	// turns are the waiting namespaces, the next one first.
	turns   []string
	running map[string]int
}

var _ workqueue.Queue[reconcile.Request] = (*namespaceOrder)(nil)

// Touch implements workqueue.Queue: a request that is added again keeps its place.
func (o *namespaceOrder) Touch(reconcile.Request) {}

// Push implements workqueue.Queue.
func (o *namespaceOrder) Push(item reconcile.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting[item.Namespace]) == 0 {
		o.turns = append(o.turns, item.Namespace)
	}
	o.waiting[item.Namespace] = append(o.waiting[item.Namespace], item)
}

// Len implements workqueue.Queue.
func (o *namespaceOrder) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for namespace, items := range o.waiting {
		if o.running[namespace] < o.share {
			n += len(items)
		}
	}
	return n
}

// Pop implements workqueue.Queue. It is called only while Len is not 0.
func (o *namespaceOrder) Pop() reconcile.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	turn := slices.IndexFunc(o.turns, func(namespace string) bool { return o.running[namespace] < o.share })
	if turn < 0 {
		return reconcile.Request{}
	}
	namespace := o.turns[turn]
	o.turns = slices.Delete(o.turns, turn, turn+1)
	items := o.waiting[namespace]
	item := items[0]
	if items = items[1:]; len(items) > 0 {
		o.waiting[namespace] = items
		o.turns = append(o.turns, namespace)
	} else {
		delete(o.waiting, namespace)
	}
	o.running[namespace]++
	return item
}

func (o *namespaceOrder) done(namespace string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.running[namespace]--; o.running[namespace] <= 0 {
		delete(o.running, namespace)
	}
}
