package controller

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// What a HeymarketWebhook refers to is sent to targets that its author chooses, and the author may have no right to read
// Secrets. So no reference reaches a Secret of the operator's, and no target gets a token or the way to Redis.

// keepConfidential notes the values that no target may get and that the operator itself knows. Tokens and a Redis of the
// resource's own follow when they are read.
func (now *round) keepConfidential() {
	now.confidential.AddRedisURL(now.input.SharedRedis.URL)
	for _, path := range desired.SecretPaths(data(desired.URLSecret.In(now.children)), data(desired.ConfigSecret.In(now.children))) {
		now.confidential.AddPath(path)
	}
}

// checkOwner refuses a reference to what belongs to the operator, or is a token and is not referred to as one. The tokens are the
// keys of the same Secret that other HeymarketWebhooks use as one; secret is nil if it does not exist.
func (now *round) checkOwner(ref desired.Reference, secret *corev1.Secret, tokens []string) {
	own := slices.ContainsFunc(desired.References(now.hook), func(r desired.Reference) bool {
		return r.Token && r.Secret == ref.Secret && r.Key == ref.Key
	})
	switch {
	case secret != nil && belongsToOperator(secret), ref.Target && desired.ReservedKey(ref.Secret, ref.Key):
		now.refuse(v1alpha1.ReasonSecretNotAllowed, "Key %q of Secret %q of %s belongs to the operator: name a Secret of your own.", ref.Key, ref.Secret, ref.Field)
	case !ref.Token && (own || slices.Contains(tokens, ref.Key)):
		now.refuse(v1alpha1.ReasonSecretNotAllowed,
			"Key %q of Secret %q of %s is a verification token of a HeymarketWebhook, which must reach no target: name another key.", ref.Key, ref.Secret, ref.Field)
	}
}

// checkConfidential refuses a value that no target may get, wherever it is kept. The tokens are as in checkOwner.
func (now *round) checkConfidential(ref desired.Reference, secret *corev1.Secret, tokens []string) {
	if !ref.Target || secret == nil {
		return
	}
	confidential := now.confidential
	for _, key := range tokens {
		confidential.AddToken(secret.Data[key])
	}
	if err := confidential.Check(secret.Data[ref.Key]); err != nil {
		now.refuse(v1alpha1.ReasonSecretNotAllowed, "Key %q of Secret %q of %s %s.", ref.Key, ref.Secret, ref.Field, err)
	}
}

// checkLiterals refuses header values that are written in the spec and hold what no target may get.
func (now *round) checkLiterals() {
	for _, t := range now.hook.Spec.Targets {
		for _, h := range t.Headers {
			if h.Value == nil {
				continue
			}
			if err := now.confidential.Check([]byte(*h.Value)); err != nil {
				now.refuse(v1alpha1.ReasonSecretNotAllowed, "The value of spec.targets[%s].headers[%s] %s.", t.Name, h.Name, err)
			}
		}
	}
}

// otherTokens are the keys of the Secret of ref that other HeymarketWebhooks of the namespace use as tokens.
func (r *Reconciler) otherTokens(ctx context.Context, hook *v1alpha1.HeymarketWebhook, ref desired.Reference) ([]string, error) {
	hooks, err := r.Referrers(ctx, hook.Namespace, ref.Secret)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, other := range hooks {
		for _, o := range desired.References(other) {
			if o.Token && o.Secret == ref.Secret && other.Name != hook.Name && !slices.Contains(keys, o.Key) {
				keys = append(keys, o.Key)
			}
		}
	}
	return keys, nil
}

// belongsToOperator says whether a Secret is one that the operator has made, or looks like it.
func belongsToOperator(s *corev1.Secret) bool {
	if s.Labels[desired.LabelManagedBy] == desired.ManagedByValue {
		return true
	}
	for _, o := range s.OwnerReferences {
		if o.Kind == "HeymarketWebhook" {
			return true
		}
	}
	return false
}

// referrers asks a cache with the index indexSecret.
func referrers(ctx context.Context, webhooks client.Reader, namespace, secret string) ([]*v1alpha1.HeymarketWebhook, error) {
	return find(ctx, webhooks, "refer to a Secret", client.InNamespace(namespace), client.MatchingFields{indexSecret: secret})
}

// wakeReferrers wakes the HeymarketWebhooks that refer to a Secret in which another one has its token, now or before: what they
// send to a target may be a token now.
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
					continue // Only a cache that is shut down fails.
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

// sendsFrom says whether a target of hook gets something out of the Secret of a token.
func sendsFrom(hook *v1alpha1.HeymarketWebhook, token desired.Reference) bool {
	return slices.ContainsFunc(desired.References(hook), func(r desired.Reference) bool {
		return !r.Token && r.Secret == token.Secret
	})
}

// tokensOf names the keys that hold tokens, in a form that compares.
func tokensOf(obj client.Object) (tokens [2]v1alpha1.TokenReference) {
	t := obj.(*v1alpha1.HeymarketWebhook).Spec.Token
	tokens[0] = t.SecretKeyRef
	if t.PreviousSecretKeyRef != nil {
		tokens[1] = *t.PreviousSecretKeyRef
	}
	return tokens
}
