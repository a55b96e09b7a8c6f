package source

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
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// DiscoveryPeriod is how often the API server is queried for the kinds that it serves.
	DiscoveryPeriod = 30 * time.Second
	// syncTimeout bounds the wait for the objects of a new kind.
	syncTimeout = 30 * time.Second
)

// directory lists what the API server serves; everyone may read it, whatever their rights.
type directory interface {
	ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error)
}

// OptionalKinds is a source that detects, while the operator runs, when a kind that not every cluster has is installed or
// removed, and watches its objects while it is installed. It polls instead of watching CustomResourceDefinitions, for
// which an operator limited to some namespaces has no rights.
type OptionalKinds struct {
	directory directory
	cache     cache.Cache
	scheme    *runtime.Scheme
	mapper    meta.RESTMapper
	period    time.Duration

	mu     sync.RWMutex
	served map[schema.GroupVersionKind]bool
	known  chan struct{} // closed once all are known for the first time
}

var _ source.SyncingSource = (*OptionalKinds)(nil)

// Served reports whether the API server serves the kind and its objects are watched.
func (e *OptionalKinds) Served(kind schema.GroupVersionKind) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.served[kind]
}

// NewOptionalKinds returns a source that polls every period.
func NewOptionalKinds(mgr manager.Manager, period time.Duration) (*OptionalKinds, error) {
	directory, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("make a client for discovery: %w", err)
	}
	return &OptionalKinds{
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
func (e *OptionalKinds) Start(ctx context.Context, q queue) error {
	go e.watch(ctx, q)
	return nil
}

// WaitForSync implements source.SyncingSource: until the existing kinds are known, nothing may be concluded from the
// absence of one.
func (e *OptionalKinds) WaitForSync(ctx context.Context) error {
	select {
	case <-e.known:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for what the API server serves: %w", context.Cause(ctx))
	}
}

func (e *OptionalKinds) String() string { return "optional kinds" }

func (e *OptionalKinds) watch(ctx context.Context, q queue) {
	logger := log.FromContext(ctx).WithName("optional-kinds")
	first, failing := sync.OnceFunc(func() { close(e.known) }), ""
	for {
		changed, err := e.discover(ctx, q)
		switch {
		case err == nil:
			first()
			failing = ""
		case ctx.Err() == nil && err.Error() != failing: // Logged once, not at every poll.
			failing = err.Error()
			logger.Error(err, "Cannot determine whether HTTPRoutes and ScaledObjects are installed; keeping the last known state")
		}
		if len(changed) > 0 {
			logger.Info("Optional kinds have been installed or removed", "changed", changed)
			if err := enqueueAll(ctx, e.cache, q); err != nil && ctx.Err() == nil {
				logger.Error(err, "Cannot requeue HeymarketWebhooks after optional kinds have changed")
			}
		}
		if !sleep(ctx, e.period) {
			return
		}
	}
}

// discover updates the list of served kinds, and returns those that have been added or removed.
func (e *OptionalKinds) discover(ctx context.Context, q queue) ([]string, error) {
	var changed []string
	for _, x := range desired.Kinds() {
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
			err = e.begin(ctx, q, x)
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

func (e *OptionalKinds) serves(kind schema.GroupVersionKind) (bool, error) {
	list, err := e.directory.ServerResourcesForGroupVersion(kind.GroupVersion().String())
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask for the resources of %s: %w", kind.GroupVersion(), err)
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Kind == kind.Kind }), nil
}

// begin watches the objects of a kind that has been installed. Once they are cached, the kind counts as installed.
func (e *OptionalKinds) begin(ctx context.Context, q queue, x *desired.Child) error {
	owner := handler.EnqueueRequestForOwner(e.scheme, e.mapper, &v1alpha1.HeymarketWebhook{}, handler.OnlyControllerOwner())
	objects := source.Kind(e.cache, client.Object(x.Metadata()), owner, Changes(x))
	if err := objects.Start(ctx, q); err != nil {
		return fmt.Errorf("watch %s: %w", x.Kind, err)
	}
	syncing, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	if err := objects.WaitForSync(syncing); err != nil {
		_ = e.cache.RemoveInformer(ctx, x.Metadata()) // It never fails; the next poll starts over.
		return fmt.Errorf("watch %s (is the operator allowed to list and watch them?): %w", x.Kind, err)
	}
	e.note(x.GroupVersionKind, true)
	return nil
}

// end stops the watch for a kind that has been removed.
func (e *OptionalKinds) end(ctx context.Context, x *desired.Child) error {
	e.note(x.GroupVersionKind, false)
	if err := e.cache.RemoveInformer(ctx, x.Metadata()); err != nil {
		return fmt.Errorf("stop watching %s: %w", x.Kind, err)
	}
	return nil
}

func (e *OptionalKinds) note(kind schema.GroupVersionKind, served bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.served[kind] = served
}
