package desired

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/config"
)

// secretsMount holds one directory for each Secret that the spec refers to, with one file for each key. A file's path
// depends only on the reference, so moving a reference to another field does not change the Pod template.
const secretsMount = "/etc/heymarket/secrets"

// Reference is a key of a Secret in the webhook's namespace that the spec refers to.
type Reference struct {
	// Field is the path of the reference in the resource, such as spec.token.secretKeyRef.
	Field string
	// Secret and Key locate the value.
	Secret, Key string
	// Content is a short description of the value, for people.
	Content string
	// Token reports that the value is a verification token, and Redis that it is the Redis URL.
	Token, Redis bool
	// Target reports that the value is sent to a target or used to reach it.
	Target bool

	kind  config.SecretKind
	check func([]byte) error
}

// Suspicion returns a hint at what an editor or a tool has probably added to the value, or "", see config.Suspicion.
func (r Reference) Suspicion(value []byte) string { return config.Suspicion(value, r.kind) }

// Confidential holds the values that must not be sent to a target.
type Confidential = config.Confidential

// Check checks that a receiver can use the value. Its error contains the remedy and quotes no part of the value.
func (r Reference) Check(value []byte) error {
	if len(bytes.TrimSpace(value)) == 0 {
		return ErrEmpty
	}
	if r.check == nil {
		return nil
	}
	return r.check(bytes.TrimRight(value, "\r\n"))
}

// ErrEmpty is Check's error for a value that is empty or only white space.
var ErrEmpty = errors.New("it is empty")

func (r Reference) file() string { return secretsMount + "/" + r.path() }

func (r Reference) path() string { return r.Secret + "/" + r.Key }

// References returns all references of a resource in the order of its fields. The same key may occur several times, for
// different fields.
func References(w *v1alpha1.HeymarketWebhook) []Reference {
	out := []Reference{currentToken(w)}
	if p := w.Spec.Token.PreviousSecretKeyRef; p != nil {
		out = append(out, previousToken(*p))
	}
	out = append(out, RedisReferences(w)...)
	for _, t := range w.Spec.Targets {
		out = append(out, signingKeys(t)...)
		for _, h := range t.Headers {
			if h.SecretKeyRef != nil {
				out = append(out, headerValue(t, h))
			}
		}
		if t.TLS != nil && t.TLS.CASecretKeyRef != nil {
			out = append(out, targetCA(t))
		}
	}
	return out
}

// RedisReferences returns the reference to the resource's own Redis URL, and to its certificate authority if there is
// one; none if it uses the shared Redis.
func RedisReferences(w *v1alpha1.HeymarketWebhook) []Reference {
	if w.Spec.Redis == nil {
		return nil
	}
	out := []Reference{redisURL(*w.Spec.Redis)}
	if ca := w.Spec.Redis.CASecretKeyRef; ca != nil {
		out = append(out, certificates("spec.redis.caSecretKeyRef", *ca))
	}
	return out
}

func currentToken(w *v1alpha1.HeymarketWebhook) Reference {
	return token("spec.token.secretKeyRef", w.Spec.Token.SecretKeyRef)
}

func previousToken(r v1alpha1.TokenReference) Reference {
	return token("spec.token.previousSecretKeyRef", r)
}

func token(field string, r v1alpha1.TokenReference) Reference {
	return Reference{Field: field, Secret: r.Name, Key: r.Key, Content: "the webhook's verification token", Token: true}
}

func redisURL(r v1alpha1.Redis) Reference {
	ca := ""
	if r.CASecretKeyRef != nil {
		ca = "spec.redis.caSecretKeyRef"
	}
	return Reference{
		Field: "spec.redis.secretKeyRef", Secret: r.SecretKeyRef.Name, Key: r.SecretKeyRef.Key,
		Content: "the URL of Redis", Redis: true,
		check: func(value []byte) error {
			if err := CheckRedisURL(string(bytes.TrimSpace(value)), ca); err != nil {
				return fmt.Errorf("the URL %w", err)
			}
			return nil
		},
	}
}

func signingKeys(t v1alpha1.Target) []Reference {
	if t.Signing == nil {
		return nil
	}
	one := func(field string, r v1alpha1.SecretKeyReference) Reference {
		return Reference{
			Field: targetField(t) + ".signing." + field, Secret: r.Name, Key: r.Key, Content: "a signing key", Target: true, kind: config.SecretSigningKey,
			check: func(value []byte) error {
				_, err := config.ParseSigningKey(value)
				return err
			},
		}
	}
	out := []Reference{one("secretKeyRef", t.Signing.SecretKeyRef)}
	if p := t.Signing.PreviousSecretKeyRef; p != nil {
		out = append(out, one("previousSecretKeyRef", *p))
	}
	return out
}

func headerValue(t v1alpha1.Target, h v1alpha1.Header) Reference {
	return Reference{
		Field: fmt.Sprintf("%s.headers[%s].secretKeyRef", targetField(t), h.Name), Secret: h.SecretKeyRef.Name, Key: h.SecretKeyRef.Key,
		Content: "the header's value", Target: true,
		check: func(value []byte) error {
			if err := config.CheckHeaderValue(string(value)); err != nil {
				return fmt.Errorf("the header %w", err)
			}
			return nil
		},
	}
}

func targetCA(t v1alpha1.Target) Reference {
	r := certificates(targetField(t)+".tls.caSecretKeyRef", *t.TLS.CASecretKeyRef)
	r.Target = true
	return r
}

func certificates(field string, r v1alpha1.SecretKeyReference) Reference {
	return Reference{
		Field: field, Secret: r.Name, Key: r.Key, Content: "certificates in PEM form", kind: config.SecretCertificates,
		check: func(value []byte) error {
			_, err := config.ParseCertificates(value)
			return err
		},
	}
}

func targetField(t v1alpha1.Target) string { return "spec.targets[" + t.Name + "]" }

// secretsVolume mounts exactly the referenced keys. It depends only on the set of references.
func secretsVolume(refs []Reference, mode int32) *corev1ac.VolumeApplyConfiguration {
	slices.SortFunc(refs, func(a, b Reference) int { return strings.Compare(a.path(), b.path()) })
	refs = slices.CompactFunc(refs, func(a, b Reference) bool { return a.path() == b.path() })
	projected := corev1ac.ProjectedVolumeSource().WithDefaultMode(mode)
	var last *corev1ac.SecretProjectionApplyConfiguration
	for _, r := range refs {
		if last == nil || *last.Name != r.Secret {
			last = corev1ac.SecretProjection().WithName(r.Secret)
			projected.Sources = append(projected.Sources, corev1ac.VolumeProjectionApplyConfiguration{Secret: last})
		}
		last.WithItems(corev1ac.KeyToPath().WithKey(r.Key).WithPath(r.path()))
	}
	return corev1ac.Volume().WithName("secrets").WithProjected(projected)
}
