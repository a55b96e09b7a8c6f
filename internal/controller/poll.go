package controller

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// pollPeriod is how often the Pods of a settled resource are asked.
	pollPeriod = time.Minute
	// pollers is how many resources are asked at once, so that Pods which do not answer hold up few others.
	pollers = 16
)

// podPoll is a source that asks the Pods of every resource now and then, and wakes the resource if they say other than
// its status does: no watch tells when a backlog grows or a circuit opens. What it needs to know is in caches, so a
// resource at rest costs the API server nothing.
type podPoll struct {
	webhooks client.Reader
	pods     PodStatus
	period   time.Duration
	// patience with those who have to take an Ingress or HTTPRoute.
	patience time.Duration
}

var _ source.Source = podPoll{}

// Start implements source.Source.
func (p podPoll) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		for ctx.Err() == nil {
			p.round(ctx, queue)
		}
	}()
	return nil
}

func (p podPoll) String() string { return "status of receiver Pods" }

// round looks at every resource once, spread evenly over the period.
func (p podPoll) round(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	var hooks v1alpha1.HeymarketWebhookList
	if err := p.webhooks.List(ctx, &hooks, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "Cannot list HeymarketWebhooks to ask their Pods")
		sleep(ctx, p.period)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	asking := &places{share: namespacePollers, taken: map[string]int{}}
	work := make(chan client.ObjectKey)
	defer close(work)
	for range min(pollers, len(hooks.Items)) {
		wg.Go(func() {
			for key := range work {
				if p.news(ctx, key) {
					queue.Add(reconcile.Request{NamespacedName: key})
				}
				asking.giveBack(key.Namespace)
			}
		})
	}
	step := p.period / time.Duration(len(hooks.Items)+1)
	for i := range hooks.Items {
		// Half to one and a half steps: two operators, or two resources of one Redis, do not fall into step.
		if !sleep(ctx, step/2+rand.N(step+1)) {
			return
		}
		if !asking.take(hooks.Items[i].Namespace) {
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

// news says whether the Pods of a resource say other than its status does, as far as the status may change by now. Of
// a resource whose Pods do not serve only what they know of Redis is looked at here.
func (p podPoll) news(ctx context.Context, key client.ObjectKey) bool {
	hook := &v1alpha1.HeymarketWebhook{}
	if err := p.webhooks.Get(ctx, key, hook); err != nil {
		return false // Deleted meanwhile.
	}
	if !hook.DeletionTimestamp.IsZero() {
		return false
	}
	if c := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionExposed); c != nil &&
		slices.Contains(pendingExposure, c.Reason) &&
		time.Since(c.LastTransitionTime.Time) > p.patience {
		return true // No watch tells that nothing happens.
	}
	addresses, err := listPods(ctx, p.webhooks, hook)
	if err != nil {
		return false // Only a cache that is shut down fails.
	}
	if !meta.IsStatusConditionTrue(hook.Status.Conditions, v1alpha1.ConditionAvailable) {
		return len(addresses.ready) == 0 && p.newsOfWaiting(ctx, hook, addresses.waiting)
	}
	if len(addresses.ready) == 0 {
		return false
	}
	var reports []contract.Status
	for _, r := range askPods(ctx, p.pods, addresses.ready) {
		if r == nil {
			return true
		}
		reports = append(reports, *r)
	}
	if ctx.Err() != nil {
		return false
	}
	if differs(hook, observeDurability(hook, reports)) {
		return true
	}
	handedOut := &corev1.Secret{}
	if err := p.webhooks.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: desired.ReceiverName(key.Name)}, handedOut); err != nil {
		return true
	}
	digest := configDigest(handedOut)
	after := hook.Status.DeepCopy()
	after.Targets = nil
	figures(hook, after, serving(reports, digest), time.Now())
	if meta.IsStatusConditionTrue(hook.Status.Conditions, v1alpha1.ConditionAccepted) {
		tokens(hook, after, reports, digest, time.Now())
	}
	return !equality.Semantic.DeepEqual(&hook.Status, after)
}

// newsOfWaiting says whether Pods that are not ready know something of Redis that the status does not say. They are known to be
// there before they answer, and nothing tells when they do.
func (p podPoll) newsOfWaiting(ctx context.Context, hook *v1alpha1.HeymarketWebhook, waiting []podAddresses) bool {
	var reports []contract.Status
	for _, r := range askPods(ctx, p.pods, waiting) {
		if r != nil {
			reports = append(reports, *r)
		}
	}
	return len(reports) > 0 && differs(hook, observeDurability(hook, reports))
}

// differs says whether the status says something else of Redis.
func differs(hook *v1alpha1.HeymarketWebhook, durable verdict) bool {
	is := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionDurable)
	return is == nil || is.Reason != durable.reason || is.Message != durable.message
}

// sleep returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
