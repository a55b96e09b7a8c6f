package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// checkReferences looks at every key of a Secret that the spec refers to. It reads the Secrets from the API server, each
// once, so that the operator's memory holds none of them.
func (r *Reconciler) checkReferences(ctx context.Context, now *round) error {
	secrets := map[string]*corev1.Secret{} // nil for one that does not exist
	now.keepConfidential()
	for _, ref := range desired.References(now.hook) {
		others, err := r.otherTokens(ctx, now.hook, ref)
		if err != nil {
			return err
		}
		secret, read := secrets[ref.Secret]
		if !read {
			secret, err = r.readReferenced(ctx, now, ref, others)
			if apierrors.IsNotFound(err) {
				secret = nil
			} else if err != nil {
				return fmt.Errorf("read Secret %s of %s: %w", ref.Secret, ref.Field, err)
			}
			secrets[ref.Secret] = secret
		}
		now.checkOwner(ref, secret, others)
		now.checkReference(ref, secret)
		now.checkConfidential(ref, secret, others)
	}
	now.checkLiterals()
	return nil
}

func (now *round) checkReference(ref desired.Reference, secret *corev1.Secret) {
	noSecret, noKey, empty := v1alpha1.ReasonSecretNotFound, v1alpha1.ReasonSecretKeyNotFound, v1alpha1.ReasonSecretValueInvalid
	if ref.Token {
		noSecret, noKey, empty = v1alpha1.ReasonTokenSecretNotFound, v1alpha1.ReasonTokenKeyNotFound, v1alpha1.ReasonTokenEmpty
	}
	if secret == nil {
		now.refuse(noSecret, "Secret %q of %s does not exist in namespace %q: create it with %s under the key %q.",
			ref.Secret, ref.Field, now.hook.Namespace, ref.Content, ref.Key)
		return
	}
	value, found := secret.Data[ref.Key]
	if !found {
		now.refuse(noKey, "Secret %q of %s has no key %q: add it with %s, or name the right key.",
			ref.Secret, ref.Field, ref.Key, ref.Content)
		return
	}
	if ref.Token {
		now.confidential.AddToken(value)
	}
	if ref.Redis {
		now.input.OwnRedisURL = string(bytes.TrimSpace(value))
		now.confidential.AddRedisURL(now.input.OwnRedisURL)
		if closed := now.input.NetworkPolicy.ClosedNamespace(now.hook.Namespace, now.input.OwnRedisURL); closed != "" {
			now.missing = now.closed("Redis of spec.redis", closed)
		}
	}
	hint := ""
	if s := ref.Suspicion(value); s != "" {
		hint = fmt.Sprintf(" The value under key %q of Secret %q of %s %s.", ref.Key, ref.Secret, ref.Field, s)
	}
	switch err := ref.Check(value); {
	case errors.Is(err, desired.ErrEmpty):
		now.refuse(empty, "Key %q of Secret %q of %s is empty: put %s into it.", ref.Key, ref.Secret, ref.Field, ref.Content)
	case err != nil:
		now.refuse(v1alpha1.ReasonSecretValueInvalid, "Key %q of Secret %q of %s cannot be used: %s.%s", ref.Key, ref.Secret, ref.Field, err, hint)
	case now.hint == "":
		now.hint = hint
	}
}

// checkTargets looks for the Services of targets, and at the addresses that are known. What is wrong with a target holds nothing
// up: the receiver keeps its events until it is mended.
func (r *Reconciler) checkTargets(ctx context.Context, now *round) error {
	for _, t := range now.hook.Spec.Targets {
		if now.missing != nil {
			break
		}
		var service *corev1.Service
		if t.Service != nil {
			service = &corev1.Service{}
			err := r.Live.Get(ctx, client.ObjectKey{Namespace: now.hook.Namespace, Name: t.Service.Name}, service)
			if client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("read Service %s of target %s: %w", t.Service.Name, t.Name, err)
			}
			if err != nil {
				now.missing = &verdict{reason: v1alpha1.ReasonTargetServiceNotFound, message: fmt.Sprintf(
					"Service %q of spec.targets[%s].service does not exist in namespace %q: create it, or name the right one. The events for this target are kept meanwhile.",
					t.Service.Name, t.Name, now.hook.Namespace)}
				break
			}
		}
		now.checkTarget(t, service)
	}
	return nil
}

func (now *round) checkTarget(t v1alpha1.Target, service *corev1.Service) {
	field := fmt.Sprintf("spec.targets[%s].url", t.Name)
	if service != nil {
		field = fmt.Sprintf("spec.targets[%s].service", t.Name)
	}
	refused := now.input.TargetAddresses.RefusesTarget(t, service)
	closed := ""
	if t.URL != nil {
		closed = now.input.NetworkPolicy.ClosedNamespace(now.hook.Namespace, *t.URL)
	}
	switch {
	case closed != "":
		now.missing = now.closed(field, closed)
	case service != nil && !offers(service, t.Service.Port):
		now.missing = &verdict{reason: v1alpha1.ReasonTargetPortNotFound, message: fmt.Sprintf(
			"Service %q has no port %d, which is the one of spec.targets[%s].service.port: name one of its ports (kubectl get service %s). The events for this target are kept meanwhile.",
			t.Service.Name, t.Service.Port, t.Name, t.Service.Name)}
	case refused != nil:
		remedy := "name another one"
		if refused.Private {
			remedy += ", or have the operator's --target-addresses allow its network"
		}
		now.missing = &verdict{reason: v1alpha1.ReasonTargetAddressRefused, message: fmt.Sprintf(
			"Receivers send nothing to %s of %s, which is a %s address: %s. The events for this target are kept meanwhile.", refused.Address, field, refused.Kind, remedy)}
	}
}

// closed says that the receivers' NetworkPolicy keeps them from what a field names.
func (now *round) closed(field, namespace string) *verdict {
	return &verdict{reason: v1alpha1.ReasonTargetNamespaceClosed, message: fmt.Sprintf(
		"The NetworkPolicy of the receivers blocks the way to %s, which is in namespace %q: have the operator's --network-policy-target-namespaces allow that namespace, or name another one.",
		field, namespace)}
}

// checkCertificate looks for the Secret of the Ingress's certificate. The Ingress is made before it: cert-manager needs one.
func (r *Reconciler) checkCertificate(ctx context.Context, now *round) error {
	name := desired.TLSSecretName(now.hook)
	if name == "" {
		return nil
	}
	secret, err := r.readSecret(ctx, client.ObjectKey{Namespace: now.hook.Namespace, Name: name}, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	switch {
	case apierrors.IsNotFound(err):
		now.uncertified = fmt.Sprintf("does not exist in namespace %q", now.hook.Namespace)
	case err != nil:
		return fmt.Errorf("read Secret %s of spec.exposure.ingress.tlsSecretName: %w", name, err)
	case belongsToOperator(secret):
		now.refuse(v1alpha1.ReasonSecretNotAllowed,
			"Secret %q of spec.exposure.ingress.tlsSecretName belongs to the operator: name a Secret of type kubernetes.io/tls of your own.", name)
	case len(secret.Data[corev1.TLSCertKey]) == 0:
		now.uncertified = fmt.Sprintf("has nothing under the key %q", corev1.TLSCertKey)
	case len(secret.Data[corev1.TLSPrivateKeyKey]) == 0:
		now.uncertified = fmt.Sprintf("has nothing under the key %q", corev1.TLSPrivateKeyKey)
	}
	return nil
}

// offers says whether a connection to the port can reach something. Behind a name that resolves to the Pods themselves,
// or to another host, the Service does not say.
func offers(s *corev1.Service, port int32) bool {
	return s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone ||
		slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port })
}
