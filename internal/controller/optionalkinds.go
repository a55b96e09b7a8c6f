package controller

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// discoveryPeriod is how often the API server is asked which kinds it serves.
	discoveryPeriod = 30 * time.Second
	// syncTimeout bounds the wait for the objects of a kind that has come.
	syncTimeout = 30 * time.Second
)

// OptionalKinds are those that not every cluster serves.
type OptionalKinds interface {
	// Served says whether the API server serves the kind and its objects are watched.
	Served(kind schema.GroupVersionKind) bool
}

// directory says what the API server serves; everyone may read it, whatever their rights.
type directory interface {
	ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error)
}

// kindDiscovery is a source that notices, while the operator runs, when a kind that not every cluster has comes or goes,
// and watches its objects as long as it is there. It asks now and then instead of watching CustomResourceDefinitions,
// which an operator with rights in some namespaces alone could not.
type kindDiscovery struct {
	directory directory
	cache     cache.Cache
	scheme    *runtime.Scheme
	mapper    meta.RESTMapper
	period    time.Duration

	mu     sync.RWMutex
	served map[schema.GroupVersionKind]bool
	known  chan struct{} // closed once all are known for the first time
}

var (
	_ source.SyncingSource = (*kindDiscovery)(nil)
	_ OptionalKinds        = (*kindDiscovery)(nil)
)

// Served implements OptionalKinds.
func (e *kindDiscovery) Served(kind schema.GroupVersionKind) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.served[kind]
}

func newKindDiscovery(mgr manager.Manager, period time.Duration) (*kindDiscovery, error) {
	directory, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("make a client for discovery: %w", err)
	}
	return &kindDiscovery{
		directory: directory,
		cache:     mgr.GetCache(),
		scheme:    mgr.GetScheme(),
		mapper:    mgr.GetRESTMapper(),
		period:    period,
		served:    map[schema.GroupVersionKind]bool{},
		known:     make(chan struct{}),
	}, nil
}

// Start implements source.Source.
func (e *kindDiscovery) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go e.watch(ctx, queue)
	return nil
}

// WaitForSync implements source.SyncingSource: until it is known which kinds there are, nothing may be concluded from
// the absence of one.
func (e *kindDiscovery) WaitForSync(ctx context.Context) error {
	select {
	case <-e.known:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for what the API server serves: %w", context.Cause(ctx))
	}
}

func (e *kindDiscovery) String() string { return "kinds that not every cluster has" }

func (e *kindDiscovery) watch(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	logger := log.FromContext(ctx).WithName("optional-kinds")
	first, failing := sync.OnceFunc(func() { close(e.known) }), ""
	for {
		changed, err := e.discover(ctx, queue)
		switch {
		case err == nil:
			first()
			failing = ""
		case ctx.Err() == nil && err.Error() != failing: // Once, and not at every look.
			failing = err.Error()
			logger.Error(err, "Cannot tell whether there are HTTPRoutes and ScaledObjects; what was known last holds")
		}
		if len(changed) > 0 {
			logger.Info("The API server serves other kinds than before", "changed", changed)
			if err := enqueueAll(ctx, e.cache, queue); err != nil && ctx.Err() == nil {
				logger.Error(err, "Cannot hand on which kinds the API server serves")
			}
		}
		if !sleep(ctx, e.period) {
			return
		}
	}
}

// discover updates what the API server serves now, and returns the kinds that have come or gone.
func (e *kindDiscovery) discover(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) ([]string, error) {
	var changed []string
	for _, x := range childKinds() {
		if !x.Optional {
			continue
		}
		serves, err := e.serves(x.GroupVersionKind)
		if err != nil {
			return changed, err
		}
		if serves == e.Served(x.GroupVersionKind) {
			continue
		}
		if serves {
			err = e.begin(ctx, queue, x)
		} else {
			err = e.end(ctx, x)
		}
		if err != nil {
			return changed, err
		}
		changed = append(changed, x.Kind)
	}
	return changed, nil
}

func (e *kindDiscovery) serves(kind schema.GroupVersionKind) (bool, error) {
	list, err := e.directory.ServerResourcesForGroupVersion(kind.GroupVersion().String())
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask for the resources of %s: %w", kind.GroupVersion(), err)
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Kind == kind.Kind }), nil
}

// begin watches the objects of a kind that has come. Once they are in the cache, the kind is there.
func (e *kindDiscovery) begin(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request], x *desired.Child) error {
	owner := handler.EnqueueRequestForOwner(e.scheme, e.mapper, &v1alpha1.HeymarketWebhook{}, handler.OnlyControllerOwner())
	objects := source.Kind(e.cache, client.Object(metadataOf(x.GroupVersionKind)), owner, wakingChanges(x))
	if err := objects.Start(ctx, queue); err != nil {
		return fmt.Errorf("watch %s: %w", x.Kind, err)
	}
	syncing, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	if err := objects.WaitForSync(syncing); err != nil {
		_ = e.cache.RemoveInformer(ctx, metadataOf(x.GroupVersionKind)) // It never fails; the next look begins anew.
		return fmt.Errorf("watch %s (is the operator allowed to list and watch them?): %w", x.Kind, err)
	}
	e.note(x.GroupVersionKind, true)
	return nil
}

// end gives up the watch for a kind that is gone.
func (e *kindDiscovery) end(ctx context.Context, x *desired.Child) error {
	e.note(x.GroupVersionKind, false)
	if err := e.cache.RemoveInformer(ctx, metadataOf(x.GroupVersionKind)); err != nil {
		return fmt.Errorf("stop watching %s: %w", x.Kind, err)
	}
	return nil
}

func (e *kindDiscovery) note(kind schema.GroupVersionKind, served bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.served[kind] = served
}

func metadataOf(kind schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{}
	out.SetGroupVersionKind(kind)
	return out
}
