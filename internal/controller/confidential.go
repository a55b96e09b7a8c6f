package controller

import (
	"context"
	"slices"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/controller/source"
)

// referrers queries a cache with the index source.IndexSecret.
func referrers(ctx context.Context, webhooks client.Reader, namespace, secret string) ([]*v1alpha1.HeymarketWebhook, error) {
	return find(ctx, webhooks, "refer to a Secret", client.InNamespace(namespace), client.MatchingFields{source.IndexSecret: secret})
}

// wakeReferrers wakes the HeymarketWebhooks that refer to a Secret in which another one has its token, now or before: a value
// that they send to a target may be a token now.
func wakeReferrers(webhooks client.Reader) handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	wake := func(ctx context.Context, q queue, changed ...client.Object) {
		for _, obj := range changed {
			hook := obj.(*v1alpha1.HeymarketWebhook)
			for _, ref := range desired.References(hook) {
				if !ref.Token {
					continue
				}
				others, err := referrers(ctx, webhooks, hook.Namespace, ref.Secret)
				if err != nil {
					continue // Fails only if the cache is shut down.
				}
				for _, other := range others {
					if other.Name != hook.Name && sendsFrom(other, ref) {
						q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(other)})
					}
				}
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { wake(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if tokensOf(e.ObjectOld) != tokensOf(e.ObjectNew) {
				wake(ctx, q, e.ObjectOld, e.ObjectNew)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { wake(ctx, q, e.Object) },
	}
}

// sendsFrom reports whether hook sends a target a value from the Secret of a token.
func sendsFrom(hook *v1alpha1.HeymarketWebhook, token desired.Reference) bool {
	return slices.ContainsFunc(desired.References(hook), func(r desired.Reference) bool {
		return !r.Token && r.Secret == token.Secret
	})
}

// tokensOf returns the keys that hold tokens, in a comparable form.
func tokensOf(obj client.Object) (tokens [2]v1alpha1.TokenReference) {
	t := obj.(*v1alpha1.HeymarketWebhook).Spec.Token
	tokens[0] = t.SecretKeyRef
	if t.PreviousSecretKeyRef != nil {
		tokens[1] = *t.PreviousSecretKeyRef
	}
	return tokens
}
