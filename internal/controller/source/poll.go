package source

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/api/v1alpha1"
)

const (
	// pollers is how many resources are polled concurrently, so that Pods which do not answer delay few others.
	pollers = 16
)

// Poll is a source that periodically checks whether each resource needs a reconcile, and wakes it if so: no watch reports a
// growing backlog or an open circuit.
type Poll struct {
	// Of is what is polled, for logs.
	Of string
	// Webhooks is a cache.
	Webhooks client.Reader
	// Period is how often each resource is polled.
	Period time.Duration
	// NeedsReconcile may take seconds. It should make no request to the API server.
	NeedsReconcile func(context.Context, client.ObjectKey) bool
}

var _ source.Source = Poll{}

// Start implements source.Source.
func (p Poll) Start(ctx context.Context, q queue) error {
	go func() {
		for ctx.Err() == nil {
			p.round(ctx, q)
		}
	}()
	return nil
}

func (p Poll) String() string { return p.Of }

// round polls every resource once, spread evenly over the period.
func (p Poll) round(ctx context.Context, q queue) {
	var hooks v1alpha1.HeymarketWebhookList
	if err := p.Webhooks.List(ctx, &hooks, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "Cannot list HeymarketWebhooks to poll them", "of", p.Of)
		sleep(ctx, p.Period)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	asking := &namespaceSlots{limit: namespacePollers, inUse: map[string]int{}}
	work := make(chan client.ObjectKey)
	defer close(work)
	for range min(pollers, len(hooks.Items)) {
		wg.Go(func() {
			for key := range work {
				if p.needsReconcile(ctx, key) {
					q.Add(reconcile.Request{NamespacedName: key})
				}
				asking.release(key.Namespace)
			}
		})
	}
	step := p.Period / time.Duration(len(hooks.Items)+1)
	for i := range hooks.Items {
		// Half to one and a half steps: two operators, or two resources of one Redis, must not synchronize.
		if !sleep(ctx, step/2+rand.N(step+1)) {
			return
		}
		if !asking.acquire(hooks.Items[i].Namespace) {
			continue // Its Pods are slow to answer. The next round polls it again.
		}
		select {
		case work <- client.ObjectKeyFromObject(&hooks.Items[i]):
		case <-ctx.Done():
			return
		}
	}
	sleep(ctx, step)
}

// needsReconcile calls NeedsReconcile. A panic concerns one resource, whose Pods' answers may have caused it: the operator goes on
// with the others, as it does after a panic in a reconcile.
func (p Poll) needsReconcile(ctx context.Context, key client.ObjectKey) bool {
	defer func() {
		if v := recover(); v != nil {
			log.FromContext(ctx).Error(fmt.Errorf("panic: %v", v), "Cannot poll a HeymarketWebhook", "of", p.Of,
				"namespace", key.Namespace, "name", key.Name, "stack", string(debug.Stack()))
		}
	}()
	return p.NeedsReconcile(ctx, key)
}
