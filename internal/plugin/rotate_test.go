package plugin_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
)

// A complete rotation; each step that could reject a delivery is refused.
func TestRotate(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-rotate")
	rotate := func(args ...string) []string { return s.args(append([]string{"rotate", "support"}, args...)...) }
	read := func() *v1alpha1.HeymarketWebhook {
		var hook v1alpha1.HeymarketWebhook
		if err := s.api.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "support"}, &hook); err != nil {
			t.Fatal(err)
		}
		return &hook
	}
	used := func(current, previous *metav1.Time) {
		hook := read()
		hook.Status.Token = &v1alpha1.TokenStatus{
			SecretKeyRef: hook.Spec.Token.SecretKeyRef, LastUsed: current,
			PreviousSecretKeyRef: hook.Spec.Token.PreviousSecretKeyRef, PreviousLastUsed: previous,
		}
		if err := s.api.Status().Update(t.Context(), hook); err != nil {
			t.Fatal(err)
		}
	}
	before := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: time.Now().Add(-d)} }

	wantMistake(t, []string{"no rotation", "--to"}, rotate()...)
	wantMistake(t, []string{"no rotation", "--to"}, rotate("--finish")...)
	wantMistake(t, []string{"already uses"}, rotate("--to", "heymarket")...)
	wantMistake(t, []string{`Secret "next"`, "create the Secret"}, rotate("--to", "next")...)
	s.secret(t, "next", "token", "the-next-token")
	out, err := run(t.Context(), rotate("--to", "next")...)
	if err != nil || !strings.Contains(out, "Heymarket app") {
		t.Fatalf("%q, %v", out, err)
	}
	if token := read().Spec.Token; token.SecretKeyRef.Name != "next" || token.PreviousSecretKeyRef == nil || token.PreviousSecretKeyRef.Name != "heymarket" {
		t.Errorf("begun with %+v", token)
	}
	wantMistake(t, []string{"in progress"}, rotate("--to", "third")...)
	wantMistake(t, []string{"not reported"}, rotate("--finish")...)
	used(nil, before(100*time.Hour))
	wantMistake(t, []string{"new token has not been used"}, rotate("--finish")...)
	used(before(time.Minute), before(2*time.Hour))
	wantMistake(t, []string{"old token was used", "--silent-for"}, rotate("--finish")...)
	if out, err = run(t.Context(), rotate()...); err != nil || !strings.Contains(out, "previous") {
		t.Errorf("%q, %v", out, err)
	}
	if read().Spec.Token.PreviousSecretKeyRef == nil {
		t.Fatal("the old token is withdrawn while it may be in use")
	}
	if out, err = run(t.Context(), rotate("--finish", "--silent-for", "1h")...); err != nil || !strings.Contains(out, `Secret "heymarket"`) {
		t.Errorf("%q, %v", out, err)
	}
	if token := read().Spec.Token; token.SecretKeyRef.Name != "next" || token.PreviousSecretKeyRef != nil {
		t.Errorf("finished with %+v", token)
	}
}
