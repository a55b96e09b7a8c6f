package controller

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// A Secret that was saved with more than its value gets a hint in the condition Accepted: behind the mistake where it cannot be used,
// and in the message of a resource that is accepted where it may be meant.
func TestSecretsAsPeopleSaveThem(t *testing.T) {
	t.Parallel()
	const token = "hunter2-Kf93Tz"
	key := "Secret \"crm\" of spec.targets[crm].signing.secretKeyRef"
	hook := &v1alpha1.HeymarketWebhook{Spec: v1alpha1.HeymarketWebhookSpec{
		Token: v1alpha1.Token{SecretKeyRef: v1alpha1.TokenReference{Name: "heymarket", Key: "token"}},
		Targets: []v1alpha1.Target{{Name: "crm", Signing: &v1alpha1.Signing{
			SecretKeyRef: v1alpha1.SecretKeyReference{Name: "crm", Key: "key"},
		}}},
	}}
	for _, tc := range []struct {
		name, token, key string
		accepted         bool
		want             string
	}{
		{"as they are", token + "\n", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", true, "is good."},
		{"a token with a blank", token + " ", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true, `The value under key "token" of Secret "heymarket" of spec.token.secretKeyRef begins or ends with a blank`},
		{"a token with a byte order mark", "\ufeff" + token, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true, "byte order mark"},
		{"a key in quotes", token, `"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`, false, key + " is in quotation marks; remove them."},
	} {
		now := &round{hook: hook}
		secrets := map[string]*corev1.Secret{
			"heymarket": {Data: map[string][]byte{"token": []byte(tc.token)}}, "crm": {Data: map[string][]byte{"key": []byte(tc.key)}},
		}
		for _, ref := range desired.References(hook) {
			now.checkReference(ref, secrets[ref.Secret])
		}
		got := now.verdict()
		if got.ok != tc.accepted || !strings.Contains(got.message, tc.want) || strings.Contains(got.message, "hunter2") {
			t.Errorf("%s: accepted %t, %q; want %t and %q", tc.name, got.ok, got.message, tc.accepted, tc.want)
		}
	}
}
