package controller

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// secretReads is how many Secrets of users, of up to 1 MiB each, are in memory as they came at any time.
	secretReads = 4
	// mostReferenced bounds the values that one resource refers to, together, in bytes.
	mostReferenced = 1 << 20
)

// secretPlaces are shared by all rounds.
var secretPlaces = make(chan struct{}, secretReads)

// readSecret reads a Secret from the API server and returns it with the given keys and no others, and without what users
// may write beside them.
func (r *Reconciler) readSecret(ctx context.Context, key client.ObjectKey, keys ...string) (*corev1.Secret, error) {
	select {
	case secretPlaces <- struct{}{}:
		defer func() { <-secretPlaces }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to read Secret %s: %w", key.Name, context.Cause(ctx))
	}
	var all corev1.Secret
	if err := r.Live.Get(ctx, key, &all); err != nil {
		return nil, err
	}
	kept := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: all.Namespace, Name: all.Name, UID: all.UID, Labels: all.Labels, OwnerReferences: all.OwnerReferences},
		Type:       all.Type, Data: map[string][]byte{},
	}
	for _, k := range keys {
		if value, found := all.Data[k]; found {
			kept.Data[k] = append([]byte{}, value...)
		}
	}
	return kept, nil
}

// readReferenced reads the Secret of a reference with all keys of it that the resource refers to, and the given ones, which other
// resources use as tokens. Once their values are too large together, the resource is refused and the values are dropped.
func (r *Reconciler) readReferenced(ctx context.Context, now *round, ref desired.Reference, tokens []string) (*corev1.Secret, error) {
	keys := slices.Clone(tokens)
	for _, other := range desired.References(now.hook) {
		if other.Secret == ref.Secret {
			keys = append(keys, other.Key)
		}
	}
	secret, err := r.readSecret(ctx, client.ObjectKey{Namespace: now.hook.Namespace, Name: ref.Secret}, keys...)
	if err != nil {
		return nil, err
	}
	for _, value := range secret.Data {
		now.referenced += len(value)
	}
	if now.referenced > mostReferenced {
		now.refuse(v1alpha1.ReasonSecretValueInvalid,
			"The values of all Secret keys that the spec refers to are larger than 1 MiB together: refer to fewer or smaller ones.")
		clear(secret.Data)
	}
	return secret, nil
}
