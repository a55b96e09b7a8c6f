package faults

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/test/support/fakecluster"
	"heymarket.dev/operator/test/support/snapshot"
)

// cluster is the API server, the stage that plays on it for all plans, and what a person sees.
type cluster struct {
	cfg    *rest.Config
	person client.Client
	stage  *fakecluster.Stage
	kinds  []apischema.GroupVersionKind
	// seen is a cache of the HeymarketWebhooks of all plans.
	seen cache.Cache

	mu      sync.Mutex
	changed chan struct{}             // closed when something changes
	ended   map[client.ObjectKey]bool // HeymarketWebhooks that have been deleted
}

// newCluster starts the stage: whatever happens to a child or a HeymarketWebhook, the cluster plays its part.
func newCluster(t *testing.T, cfg *rest.Config) *cluster {
	t.Helper()
	c := &cluster{cfg: cfg, changed: make(chan struct{}), ended: map[client.ObjectKey]bool{}}
	var err error
	if c.person, err = client.New(cfg, client.Options{Scheme: controller.Scheme()}); err != nil {
		t.Fatal(err)
	}
	c.stage = fakecluster.New(c.person)
	if c.kinds, err = snapshot.Kinds(c.person.RESTMapper()); err != nil {
		t.Fatal(err)
	}
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{contract.LabelManagedBy: contract.ManagedByValue})}
	route, scaled := &metav1.PartialObjectMetadata{}, &metav1.PartialObjectMetadata{}
	route.SetGroupVersionKind(desired.HTTPRouteKind)
	scaled.SetGroupVersionKind(desired.ScaledObjectKind)
	c.seen, err = cache.New(cfg, cache.Options{Scheme: controller.Scheme(), Mapper: c.person.RESTMapper(), ByObject: map[client.Object]cache.ByObject{
		&appsv1.Deployment{}: ours, &networkingv1.Ingress{}: ours, route: ours, scaled: ours,
	}})
	if err != nil {
		t.Fatal(err)
	}
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[client.ObjectKey]())
	c.watch(t, &v1alpha1.HeymarketWebhook{}, func(obj client.Object) { queue.Add(client.ObjectKeyFromObject(obj)) })
	for _, obj := range []client.Object{&appsv1.Deployment{}, &networkingv1.Ingress{}, route, scaled} {
		c.watch(t, obj, func(obj client.Object) {
			queue.Add(client.ObjectKey{Namespace: obj.GetNamespace(), Name: obj.GetLabels()[contract.LabelInstance]})
		})
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = c.seen.Start(ctx) })
	for range 2 {
		running.Go(func() {
			for c.next(ctx, queue) {
			}
		})
	}
	t.Cleanup(func() {
		queue.ShutDown()
		stop()
		running.Wait()
	})
	if !c.seen.WaitForCacheSync(ctx) {
		t.Fatal("the person's cache was not filled")
	}
	return c
}

func (c *cluster) watch(t *testing.T, obj client.Object, changed func(client.Object)) {
	t.Helper()
	informer, err := c.seen.GetInformer(t.Context(), obj, cache.BlockUntilSynced(false))
	if err != nil {
		t.Fatal(err)
	}
	handle := func(obj any) {
		changed(obj.(client.Object))
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.changed)
		c.changed = make(chan struct{})
	}
	deleted := func(obj any) {
		if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		if hook, ok := obj.(*v1alpha1.HeymarketWebhook); ok {
			c.mu.Lock()
			c.ended[client.ObjectKeyFromObject(hook)] = true
			c.mu.Unlock()
		}
		handle(obj)
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: handle, UpdateFunc: func(_, obj any) { handle(obj) }, DeleteFunc: deleted,
	}); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[client.ObjectKey]) bool {
	key, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(key)
	err := c.stage.Play(ctx, key)
	if err == nil {
		err = c.collect(ctx, key)
	}
	if err != nil && ctx.Err() == nil {
		queue.AddRateLimited(key)
	} else {
		queue.Forget(key)
	}
	return true
}

// mapper spares each manager asking the API server for what it knows.
func (c *cluster) mapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	return c.person.RESTMapper(), nil
}

// collect collects what deleted HeymarketWebhooks of this name have left.
func (c *cluster) collect(ctx context.Context, key client.ObjectKey) error {
	c.mu.Lock()
	ended := c.ended[key]
	c.mu.Unlock()
	if !ended {
		return nil
	}
	state, err := snapshot.Read(ctx, c.person, c.kinds, key)
	if err != nil {
		return err
	}
	return c.stage.Collect(ctx, state.Objects)
}

var errLate = errors.New("it did not come about in time")

// until waits until condition holds and has no error. It looks when something has changed, and now and then.
func (c *cluster) until(ctx context.Context, limit time.Duration, condition func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLate)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		ok, err := condition()
		if ok && err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
