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
	"heymarket.dev/operator/internal/controller/condition"
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
	// users hears of what receivers report of their Redis user; nil for none.
	users RedisUsers
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
	asking := &namespaceSlots{limit: namespacePollers, inUse: map[string]int{}}
	work := make(chan client.ObjectKey)
	defer close(work)
	for range min(pollers, len(hooks.Items)) {
		wg.Go(func() {
			for key := range work {
				if p.needsReconcile(ctx, key) {
					queue.Add(reconcile.Request{NamespacedName: key})
				}
				asking.release(key.Namespace)
			}
		})
	}
	step := p.period / time.Duration(len(hooks.Items)+1)
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

// needsReconcile reports whether the Pods of a resource report other than its status, as far as the status may change by now.
// If the Pods do not serve, only what they know of Redis counts.
func (p podPoll) needsReconcile(ctx context.Context, key client.ObjectKey) bool {
	hook := &v1alpha1.HeymarketWebhook{}
	if err := p.webhooks.Get(ctx, key, hook); err != nil {
		return false // Deleted meanwhile.
	}
	if !hook.DeletionTimestamp.IsZero() {
		return false
	}
	addresses, err := listPods(ctx, p.webhooks, hook)
	if err != nil {
		return false // Only a cache that is shut down fails.
	}
	if !meta.IsStatusConditionTrue(hook.Status.Conditions, v1alpha1.ConditionAvailable) {
		if len(addresses.ready) > 0 {
			return false
		}
		// Pods are listed before they answer, and nothing reports when they do.
		reports := answers(askPods(ctx, p.pods, addresses.waiting))
		return len(reports) > 0 && reportsDurability(hook, reports)
	}
	if len(addresses.ready) == 0 {
		return false
	}
	handedOut := &corev1.Secret{}
	if err := p.webhooks.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: desired.ReceiverName(key.Name)}, handedOut); err != nil {
		return true
	}
	answered := askPods(ctx, p.pods, addresses.ready)
	noteRedisUser(p.users, hook, string(handedOut.Data[desired.KeyRedisURL]), answered)
	switch {
	case ctx.Err() != nil:
		return false
	case slices.Contains(answered, nil), reportsDurability(hook, answers(answered)):
		return true
	}
	reports := answers(answered)
	digest := configDigest(handedOut)
	after := hook.Status.DeepCopy()
	setTargets(after, hook, serving(reports, digest), time.Now())
	if meta.IsStatusConditionTrue(hook.Status.Conditions, v1alpha1.ConditionAccepted) {
		setTokens(after, hook, serving(reports, digest), time.Now())
	}
	return !equality.Semantic.DeepEqual(&hook.Status, after)
}

// reportsDurability reports whether Pods that answered know something of Redis that the status does not have.
func reportsDurability(hook *v1alpha1.HeymarketWebhook, reports []contract.Status) bool {
	durable := condition.Durable(condition.Facts{Now: time.Now(), Webhook: hook, Reports: reports}, condition.Writes{})
	is := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionDurable)
	return is == nil || is.Reason != durable.Reason || is.Message != durable.Message
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
