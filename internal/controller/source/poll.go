package source

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/api/v1alpha1"
)

const (
	// pollers is how many resources are asked at once, so that Pods which do not answer hold up few others.
	pollers = 16
)

// Poll is a source that asks now and then whether each resource needs a reconcile, and wakes it if so: no watch reports that a
// backlog grows or a circuit opens.
type Poll struct {
	// Of is what is asked about, for logs.
	Of string
	// Webhooks is a cache.
	Webhooks client.Reader
	// Period is how often each resource is looked at.
	Period time.Duration
	// NeedsReconcile may take seconds. It should cost the API server nothing.
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

// round looks at every resource once, spread evenly over the period.
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
				if p.NeedsReconcile(ctx, key) {
					q.Add(reconcile.Request{NamespacedName: key})
				}
				asking.release(key.Namespace)
			}
		})
	}
	step := p.Period / time.Duration(len(hooks.Items)+1)
	for i := range hooks.Items {
		// Half to one and a half steps: two operators, or two resources of one Redis, do not fall into step.
		if !sleep(ctx, step/2+rand.N(step+1)) {
			return
		}
		if !asking.acquire(hooks.Items[i].Namespace) {
			continue // Its Pods are slow to answer. The next round asks again.
		}
		select {
		case work <- client.ObjectKeyFromObject(&hooks.Items[i]):
		case <-ctx.Done():
			return
		}
	}
	sleep(ctx, step)
}
