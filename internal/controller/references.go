package controller

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// maxSecretReads is how many users' Secrets, of up to 1 MiB each, are held in memory unfiltered at any time.
	maxSecretReads = 4
	// maxReferenced bounds the total size of the values that one resource refers to, in bytes.
	maxReferenced = 1 << 20
)

// secretSlots are shared by all reconciles.
var secretSlots = make(chan struct{}, maxSecretReads)

// readSecrets reads the Secrets that the spec refers to from the API server, each once, so that the operator caches none of
// them.
func (r *Reconciler) readSecrets(ctx context.Context, f *condition.Facts) error {
	f.Secrets, f.OtherTokens = map[string]*corev1.Secret{}, map[string][]string{}
	references, size := desired.References(f.Webhook), 0
	for _, ref := range references {
		if _, read := f.Secrets[ref.Secret]; read {
			continue
		}
		tokens, err := r.otherTokens(ctx, f.Webhook, ref.Secret)
		if err != nil {
			return err
		}
		keys := slices.Clone(tokens)
		for _, other := range references {
			if other.Secret == ref.Secret {
				keys = append(keys, other.Key)
			}
		}
		secret, err := r.readSecret(ctx, client.ObjectKey{Namespace: f.Webhook.Namespace, Name: ref.Secret}, keys...)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read Secret %s of %s: %w", ref.Secret, ref.Field, err)
		}
		for _, value := range condition.Data(secret) {
			size += len(value)
		}
		if size > maxReferenced {
			f.SecretsTooLarge = true
			clear(condition.Data(secret))
		}
		f.Secrets[ref.Secret], f.OtherTokens[ref.Secret] = secret, tokens
	}
	for _, ref := range references {
		if ref.Redis {
			f.Input.OwnRedisURL = string(bytes.TrimSpace(condition.Data(f.Secrets[ref.Secret])[ref.Key]))
		}
	}
	return nil
}

// readSecret reads a Secret from the API server and returns it with only the given keys, and without other user-controlled
// content.
func (r *Reconciler) readSecret(ctx context.Context, key client.ObjectKey, keys ...string) (*corev1.Secret, error) {
	select {
	case secretSlots <- struct{}{}:
		defer func() { <-secretSlots }()
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

// otherTokens returns the keys of a Secret that other HeymarketWebhooks of the namespace use as tokens.
func (r *Reconciler) otherTokens(ctx context.Context, hook *v1alpha1.HeymarketWebhook, secret string) ([]string, error) {
	hooks, err := r.Referrers(ctx, hook.Namespace, secret)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, other := range hooks {
		for _, ref := range desired.References(other) {
			if ref.Token && ref.Secret == secret && other.Name != hook.Name && !slices.Contains(keys, ref.Key) {
				keys = append(keys, ref.Key)
			}
		}
	}
	return keys, nil
}

// readServices reads the Services of targets.
func (r *Reconciler) readServices(ctx context.Context, f *condition.Facts) error {
	f.Services = map[string]*corev1.Service{}
	for _, t := range f.Webhook.Spec.Targets {
		if t.Service == nil || f.Services[t.Service.Name] != nil {
			continue
		}
		service := &corev1.Service{}
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: f.Webhook.Namespace, Name: t.Service.Name}, service)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("read Service %s of target %s: %w", t.Service.Name, t.Name, err)
		default:
			f.Services[t.Service.Name] = service
		}
	}
	return nil
}

// readCertificate reads the Secret of the Ingress's certificate. The Ingress is created first: cert-manager needs it.
func (r *Reconciler) readCertificate(ctx context.Context, f *condition.Facts) (err error) {
	name := desired.TLSSecretName(f.Webhook)
	if name == "" {
		return nil
	}
	f.Certificate, err = r.readSecret(ctx, client.ObjectKey{Namespace: f.Webhook.Namespace, Name: name}, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read Secret %s of spec.exposure.ingress.tlsSecretName: %w", name, err)
	}
	return nil
}
