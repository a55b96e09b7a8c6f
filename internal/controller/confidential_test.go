package controller

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
)

// header is a target that gets a key of a Secret in a header.
func header(secret, key string) string {
	return fmt.Sprintf("headers: [{name: X-Key, secretKeyRef: {name: %s, key: %s}}]", secret, key)
}

// sendTo sets fields of the target crm, written in YAML.
func (w *world) sendTo(fields string) {
	w.t.Helper()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		url := "https://crm.example.com/in"
		h.Spec.Targets = []v1alpha1.Target{{Name: "crm", URL: &url}}
		w.do(yaml.UnmarshalStrict([]byte(fields), &h.Spec.Targets[0]))
	})
}

// No reference can send a target a token, the Redis credentials or the secret part of a URL.
func TestNoTargetGetsWhatIsConfidential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.redis = "redis://shared:a-shared-password@redis.example.com:6379/0"
	w.secret("heymarket", map[string]string{"token": canary, "copy": canary, "key": signingKey, "ca": certificate(t)})
	w.secret("others", map[string]string{"token": "another-token-of-theirs", "previous": "a-previous-token", "copy": "another-token-of-theirs", "fine": "a-value"})
	w.secret("redis", map[string]string{"url": w.redis, "password": "a-shared-password"})
	w.secret("crm-url", map[string]string{"url": "https://crm.example.com", "api-key": "a-value"})
	w.do(w.person.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "labelled", Labels: map[string]string{"app.kubernetes.io/managed-by": "heymarket-operator"}},
		StringData: map[string]string{"key": "a-value", "redis": "redis://h"},
	}))
	w.do(w.person.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "owned", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "heymarket.dev/v1", Kind: "HeymarketWebhook", Name: "gone", UID: "1"},
		}},
		StringData: map[string]string{"key": "a-value"},
	}))
	other := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "sales"}}
	w.do(yaml.UnmarshalStrict([]byte(smallest), &other.Spec))
	other.Spec.Token = v1alpha1.Token{
		SecretKeyRef:         v1alpha1.TokenReference{Name: "others", Key: "token"},
		PreviousSecretKeyRef: &v1alpha1.TokenReference{Name: "others", Key: "previous"},
	}
	w.do(w.person.Create(t.Context(), other))
	w.webhook(smallest)
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	segment := string(w.urlSecret().Data["segment"])
	w.secret("segments", map[string]string{"path": "https://h/x/" + segment})

	for _, fields := range []string{
		header("support-url", "url"), header("support-url", "segment"), header("support-url", "other"),
		header("support-receiver", "redis-url"), header("support-receiver", "config.json"),
		header("later-url", "url"), header("later-receiver", "redis-url"), header("crm-url", "url"),
		header("labelled", "key"), header("owned", "key"),
		header("heymarket", "token"), header("heymarket", "copy"),
		header("others", "token"), header("others", "previous"), header("others", "copy"),
		header("redis", "url"), header("redis", "password"), header("segments", "path"),
		"signing: {secretKeyRef: {name: heymarket, key: token}}",
		"signing: {secretKeyRef: {name: support-url, key: segment}}",
		"signing: {secretKeyRef: {name: heymarket, key: key}, previousSecretKeyRef: {name: others, key: previous}}",
		"tls: {caSecretKeyRef: {name: support-receiver, key: redis-ca.crt}}",
		"tls: {caSecretKeyRef: {name: heymarket, key: token}}",
		"signing: {secretKeyRef: {name: heymarket, key: key}}\n" + header("heymarket", "copy"),
	} {
		w.sendTo(fields)
		w.reconcile()
		w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonSecretNotAllowed, "crm", ":")
		if t.Failed() {
			t.Fatalf("accepted, or refused with another reason: %s", fields)
		}
	}
	for _, fields := range []string{
		header("others", "fine"), header("crm-url", "api-key"), "headers: [{name: X-Key, value: a-value}]",
		"signing: {secretKeyRef: {name: heymarket, key: key}}", "tls: {caSecretKeyRef: {name: heymarket, key: ca}}",
	} {
		w.sendTo(fields)
		w.reconcile()
		w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
		if t.Failed() {
			t.Fatalf("refused: %s", fields)
		}
	}
}

// Neither the token nor Redis nor the certificate can refer to a Secret of the operator.
func TestReferencesReachNoSecretOfTheOperator(t *testing.T) {
	t.Parallel()
	w := settled(t)
	for name, edit := range map[string]func(*v1alpha1.HeymarketWebhookSpec){
		"token": func(s *v1alpha1.HeymarketWebhookSpec) {
			s.Token.SecretKeyRef = v1alpha1.TokenReference{Name: "support-url", Key: "segment"}
		},
		"previous token": func(s *v1alpha1.HeymarketWebhookSpec) {
			s.Token.PreviousSecretKeyRef = &v1alpha1.TokenReference{Name: "support-url", Key: "segment"}
		},
		"redis": func(s *v1alpha1.HeymarketWebhookSpec) {
			s.Redis = &v1alpha1.Redis{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "support-receiver", Key: "redis-url"}}
		},
		"redis with the token": func(s *v1alpha1.HeymarketWebhookSpec) {
			s.Redis = &v1alpha1.Redis{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "heymarket", Key: "token"}}
		},
		"certificate": func(s *v1alpha1.HeymarketWebhookSpec) {
			s.Exposure.Ingress = &v1alpha1.IngressExposure{TLSSecretName: "support-receiver"}
		},
	} {
		good := w.hook().Spec
		change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { edit(&h.Spec) })
		w.reconcile()
		w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonSecretNotAllowed)
		if t.Failed() {
			t.Fatal(name)
		}
		change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec = good })
		w.reconcile()
		w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	}
}
