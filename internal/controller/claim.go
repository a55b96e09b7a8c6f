package controller

import (
	"context"
	"fmt"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// indexClaim finds the HeymarketWebhooks that claim a host and path.
const indexClaim = "claim"

// host is the one that hook asks for, by itself or by the operator's template, or "".
func (s Settings) host(hook *v1alpha1.HeymarketWebhook) (string, error) {
	if h := hook.Spec.Exposure.Host; h != "" || s.HostTemplate == nil {
		return h, nil
	}
	return s.HostTemplate.Host(hook.Namespace, hook.Name)
}

// claims is the host and path that hook takes for itself, or nothing: only what a route is made for is claimed, and only
// by those who may.
func (s Settings) claims(hook *v1alpha1.HeymarketWebhook) []string {
	host, err := s.host(hook)
	if err != nil || hook.Spec.Exposure.Type == v1alpha1.ExposureNone || !hook.DeletionTimestamp.IsZero() ||
		hook.Spec.Exposure.Host != "" && !s.AllowedHosts.Allow(hook.Namespace, hook.Name, hook.Spec.Exposure.Host) {
		return nil
	}
	return []string{host + desired.PathPrefix(hook)}
}

// claimants asks a cache with the index indexClaim.
func claimants(ctx context.Context, webhooks client.Reader, claim string) ([]*v1alpha1.HeymarketWebhook, error) {
	var hooks v1alpha1.HeymarketWebhookList
	if err := webhooks.List(ctx, &hooks, client.MatchingFields{indexClaim: claim}); err != nil {
		return nil, fmt.Errorf("find the HeymarketWebhooks that claim a host and path: %w", err)
	}
	out := make([]*v1alpha1.HeymarketWebhook, len(hooks.Items))
	for i := range hooks.Items {
		out[i] = &hooks.Items[i]
	}
	return out, nil
}

// older orders resources by age, and those of one second by name, so that all agree on who keeps a claim.
func older(a, b *v1alpha1.HeymarketWebhook) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	if a.Namespace != b.Namespace {
		return a.Namespace < b.Namespace
	}
	return a.Name < b.Name
}

// wakeRivals wakes those who claim what a HeymarketWebhook claims or has claimed before: it may be theirs now.
func wakeRivals(webhooks client.Reader, settings Settings) handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	wake := func(ctx context.Context, q queue, changed ...client.Object) {
		for _, obj := range changed {
			hook := obj.(*v1alpha1.HeymarketWebhook).DeepCopy()
			hook.DeletionTimestamp = nil
			for _, claim := range settings.claims(hook) {
				rivals, err := claimants(ctx, webhooks, claim)
				if err != nil {
					continue // Only a cache that is shut down fails.
				}
				for _, r := range rivals {
					if key := client.ObjectKeyFromObject(r); key != client.ObjectKeyFromObject(obj) {
						q.Add(reconcile.Request{NamespacedName: key})
					}
				}
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { wake(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { wake(ctx, q, e.ObjectOld, e.ObjectNew) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { wake(ctx, q, e.Object) },
	}
}
