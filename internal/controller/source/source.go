// Package source contains the sources that wake HeymarketWebhooks in addition to the watches of their children: kinds that
// are installed or removed, referenced objects, files of the operator, Pods that report changes, and rollouts whose turn has
// come.
package source

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// enqueueAll wakes all HeymarketWebhooks.
func enqueueAll(ctx context.Context, webhooks client.Reader, q queue, opts ...client.ListOption) error {
	var hooks v1alpha1.HeymarketWebhookList
	if err := webhooks.List(ctx, &hooks, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		return fmt.Errorf("list HeymarketWebhooks: %w", err)
	}
	for i := range hooks.Items {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&hooks.Items[i])})
	}
	return nil
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

// Changes returns a predicate for the changes of a child that wake its owner.
func Changes(c *desired.Child) predicate.Predicate {
	if c.EveryChange {
		return predicate.Funcs{}
	}
	// Changes that the operator may have to undo, but not those of the status, which is not read.
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, ownersChanged)
}

// ownersChanged matches a child that was taken from its resource.
var ownersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !equality.Semantic.DeepEqual(e.ObjectOld.GetOwnerReferences(), e.ObjectNew.GetOwnerReferences())
}}
