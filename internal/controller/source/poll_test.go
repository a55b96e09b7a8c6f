package source

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
)

// A panic while one resource is polled must not end the operator, nor keep the others from being polled.
func TestPollSurvivesAPanic(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var objects []client.Object
	for _, name := range []string{"good", "hostile", "other"} {
		objects = append(objects, &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: "staging", Name: name}})
	}
	var hostile atomic.Int64
	poll := Poll{
		Of: "test", Webhooks: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(), Period: time.Millisecond,
		NeedsReconcile: func(_ context.Context, key client.ObjectKey) bool {
			if key.Name == "hostile" {
				hostile.Add(1)
				panic("an unexpected answer")
			}
			return true
		},
	}
	q := priorityqueue.New[reconcile.Request]("test")
	defer q.ShutDown()
	for range 3 { // A place that is not given back would be missed.
		poll.round(t.Context(), q)
	}
	seen := map[string]bool{}
	for range 2 {
		item, _, _ := q.GetWithPriority()
		seen[item.Name] = true
		q.Done(item)
	}
	if !seen["good"] || !seen["other"] || hostile.Load() != 3 {
		t.Errorf("queued: %v, the other one was polled %d times, want good and other, and 3", seen, hostile.Load())
	}
}
