package plugin_test

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/plugin"
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
	if out, err = run(t.Context(), rotate()...); err != nil || !strings.Contains(out, "rotate support --finish --namespace") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err = run(t.Context(), rotate("--finish", "--silent-for", "1h")...); err != nil || !strings.Contains(out, `Secret "heymarket"`) {
		t.Errorf("%q, %v", out, err)
	}
	if token := read().Spec.Token; token.SecretKeyRef.Name != "next" || token.PreviousSecretKeyRef != nil {
		t.Errorf("finished with %+v", token)
	}
}

// With --wait, each step is reported when it comes, and --finish withdraws the old token only once it has been silent.
func TestAwaitedRotation(t *testing.T) {
	t.Parallel()
	s := newScene(t, "plugin-awaited")
	key := client.ObjectKey{Namespace: s.namespace, Name: "support"}
	read := func() *v1alpha1.HeymarketWebhook {
		var hook v1alpha1.HeymarketWebhook
		if err := s.api.Get(t.Context(), key, &hook); err != nil {
			t.Fatal(err)
		}
		return &hook
	}
	reader, writer := io.Pipe()
	lines := bufio.NewScanner(reader)
	next := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
			t.Logf("says %q", lines.Text())
		}
		t.Fatalf("it ended and never said %q", want)
	}
	report := func(ready metav1.ConditionStatus, current, previous time.Duration) {
		t.Helper()
		hook := read()
		meta.SetStatusCondition(&hook.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: ready, Reason: "Test", ObservedGeneration: hook.Generation})
		hook.Status.Token = &v1alpha1.TokenStatus{SecretKeyRef: hook.Spec.Token.SecretKeyRef, PreviousSecretKeyRef: hook.Spec.Token.PreviousSecretKeyRef}
		for at, age := range map[**metav1.Time]time.Duration{&hook.Status.Token.LastUsed: current, &hook.Status.Token.PreviousLastUsed: previous} {
			if age > 0 {
				*at = &metav1.Time{Time: time.Now().Add(-age)}
			}
		}
		if err := s.api.Status().Update(t.Context(), hook); err != nil {
			t.Fatal(err)
		}
	}
	s.secret(t, "next", "token", "the-next-token")
	ended := make(chan error, 1)
	go func() {
		root := plugin.Command("test")
		root.SetArgs(s.args("rotate", "support", "--to", "next", "--finish", "--wait", "--silent-for", "1h"))
		root.SetOut(writer)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // what is never said ends the test as well
		defer cancel()
		err := root.ExecuteContext(ctx)
		_ = writer.Close()
		ended <- err
	}()
	next("accepts both tokens once")
	next("do not all accept both tokens yet")
	report(metav1.ConditionTrue, 0, time.Minute)
	next("new token has not been used")
	report(metav1.ConditionTrue, time.Second, time.Minute)
	next("old token was used at")
	if read().Spec.Token.PreviousSecretKeyRef == nil {
		t.Fatal("the old token is withdrawn while it may be in use")
	}
	report(metav1.ConditionTrue, time.Second, 2*time.Hour)
	next("The old token is withdrawn")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if token := read().Spec.Token; token.SecretKeyRef.Name != "next" || token.PreviousSecretKeyRef != nil {
		t.Errorf("finished with %+v", token)
	}
}
