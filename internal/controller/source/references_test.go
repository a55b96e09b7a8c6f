package source

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
)

// A lost and restarted watch has missed an unknown number of changes, so all resources are woken.
func TestSecretWatchAfterAGap(t *testing.T) {
	t.Parallel()
	signed := hookWithSecret("b", "three", "x")
	signed.Spec.Targets = []v1alpha1.Target{{Name: "crm", Signing: &v1alpha1.Signing{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "keys", Key: "k"}}}}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	hooks := fake.NewClientBuilder().WithScheme(scheme).
		WithIndex(&v1alpha1.HeymarketWebhook{}, IndexSecret, SecretsOf).
		WithObjects(hookWithSecret("a", "one", "x"), hookWithSecret("a", "two", "y"), signed).
		Build()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer queue.ShutDown()
	taken := func() []string {
		var out []string
		for queue.Len() > 0 {
			r, _ := queue.Get()
			out = append(out, r.String())
			queue.Done(r)
		}
		return out
	}
	synced := 0
	s := &wakeUp{ctx: t.Context(), index: IndexSecret, webhooks: hooks, queue: queue, synced: func() { synced++ }}

	if err := s.Replace(nil, "1"); err != nil || synced != 1 || len(taken()) != 0 {
		t.Errorf("the first watch: %v", err)
	}
	for _, f := range []func(any) error{s.Add, s.Update, s.Delete} {
		secret := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "x"}}
		if err := f(secret); err != nil {
			t.Error(err)
		}
		if got := taken(); len(got) != 1 || got[0] != "a/one" {
			t.Errorf("woke %v, want a/one", got)
		}
	}
	// A Secret that a target refers to wakes like that of the token.
	if err := s.Add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "keys"}}); err != nil {
		t.Error(err)
	}
	if got := taken(); len(got) != 1 || got[0] != "b/three" {
		t.Errorf("woke %v, want b/three", got)
	}
	if err := s.Add(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "unrelated"}}); err != nil || len(taken()) != 0 {
		t.Errorf("an unrelated Secret woke something: %v", err)
	}
	if err := s.Replace(nil, "2"); err != nil || len(taken()) != 3 {
		t.Errorf("after a gap not all were woken: %v", err)
	}
}

func hookWithSecret(namespace, name, secret string) *v1alpha1.HeymarketWebhook {
	h := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	h.Spec.Token.SecretKeyRef = v1alpha1.TokenReference{Name: secret, Key: "token"}
	return h
}
