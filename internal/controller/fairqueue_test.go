package controller

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func request(namespace, name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

func newTestQueue(t *testing.T, share int) requestQueue {
	t.Helper()
	q := newFairQueue(share)("", workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Hour, time.Hour))
	t.Cleanup(q.ShutDown)
	return q
}

func TestTheQueueServesNamespacesInTurn(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t, 1000)
	for i := range 600 {
		q.Add(request("busy", fmt.Sprint(i)))
	}
	q.Add(request("quiet", "support"))
	for range 2 {
		got, _ := q.Get()
		if got == request("quiet", "support") {
			return
		}
	}
	t.Error("a namespace with one request waits behind one with 600")
}

func TestTheQueueKeepsANamespaceToItsShareOfWorkers(t *testing.T) {
	t.Parallel()
	const share = 3
	q := newTestQueue(t, share)
	for i := range 60 {
		q.Add(request("silent", fmt.Sprint(i)))
	}
	var taken []reconcile.Request
	for range share {
		item, _ := q.Get()
		taken = append(taken, item)
	}
	if n := q.Len(); n != 0 {
		t.Fatalf("%d requests are handed out to further workers, want none", n)
	}
	q.Add(request("other", "support"))
	if got, _ := q.Get(); got != request("other", "support") {
		t.Errorf("Get = %v, want the request of the other namespace", got)
	}
	// A place that is given back lets the next one in, and a request that was added meanwhile runs again.
	q.Add(taken[0])
	for _, item := range taken {
		q.Done(item)
	}
	seen := map[reconcile.Request]bool{}
	for range 58 {
		item, _ := q.Get()
		seen[item] = true
		q.Done(item)
	}
	if len(seen) != 58 || !seen[taken[0]] || q.Len() != 0 {
		t.Errorf("%d of 58 requests came, %d are left", len(seen), q.Len())
	}
}

func TestTheQueueEndsWithRequestsThatHaveNoPlace(t *testing.T) {
	t.Parallel()
	q := newTestQueue(t, 1)
	q.Add(request("a", "1"))
	q.Add(request("a", "2"))
	q.Get()
	q.ShutDown()
	if _, shutdown := q.Get(); !shutdown {
		t.Error("Get waits for a place after ShutDown")
	}
}
