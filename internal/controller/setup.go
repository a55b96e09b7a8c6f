package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/controller/source"
	"heymarket.dev/operator/internal/reach"
)

const (
	// workers is how many resources are reconciled concurrently. A reconcile mostly waits for the API server, whose own
	// priority and fairness limits each client.
	workers = 32
	// roundTimeout bounds one reconcile, so that a hanging API server cannot block a worker indefinitely.
	roundTimeout = time.Minute
	// Retries back off up to lastRetry and no further: no watch reports that a quota was raised or that an admission webhook
	// answers again, and users should not have to wait a quarter of an hour then.
	firstRetry, lastRetry = 5 * time.Millisecond, time.Minute
)

// Scheme returns a scheme with every type that the operator reads or writes.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}

// CacheOptions limits the caches to the given namespaces (none means all) and to the operator's own children.
func CacheOptions(namespaces []string) cache.Options {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{contract.LabelManagedBy: contract.ManagedByValue}), Transform: slim}
	endpoints := ours
	endpoints.Transform = slimEndpoints
	opts := cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&discoveryv1.EndpointSlice{}: endpoints,
			&v1alpha1.HeymarketWebhook{}: {Label: labels.Everything(), Transform: slimWebhook},
		},
		// For the metadata of optional kinds: they cannot be listed above, where each must exist.
		DefaultLabelSelector: ours.Label,
		DefaultTransform:     slimMetadata,
	}
	for _, c := range desired.Kinds() {
		if !c.Optional {
			opts.ByObject[c.New()] = ours
		}
	}
	for _, ns := range namespaces {
		if opts.DefaultNamespaces == nil {
			opts.DefaultNamespaces = map[string]cache.Config{}
		}
		opts.DefaultNamespaces[ns] = cache.Config{}
	}
	return opts
}

// ClientOptions makes the client wait, before it reads an object from a cache, until the cache contains the client's own writes
// to it. Otherwise an early reconcile applies the same again. That is not supported with several namespaces; then such a write
// happens occasionally, and changes nothing.
func ClientOptions(namespaces []string) client.Options {
	return client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(len(namespaces) <= 1)}}
}

// Setup adds the controller to a manager that was created with CacheOptions and ClientOptions.
func Setup(ctx context.Context, mgr manager.Manager, settings Settings, redis *source.RedisFiles, pods PodStatus) error {
	for index, keys := range map[string]client.IndexerFunc{
		source.IndexSecret:  source.SecretsOf,
		source.IndexService: source.ServicesOf,
		indexClaim:          func(obj client.Object) []string { return settings.claims(obj.(*v1alpha1.HeymarketWebhook)) },
	} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.HeymarketWebhook{}, index, keys); err != nil {
			return fmt.Errorf("index HeymarketWebhooks by %s: %w", index, err)
		}
	}
	meta, err := metadata.NewForConfigAndClient(metadata.ConfigFor(mgr.GetConfig()), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client for metadata: %w", err)
	}
	kinds, err := source.NewOptionalKinds(mgr, cmp.Or(settings.discoveryPeriod, source.DiscoveryPeriod))
	if err != nil {
		return err
	}
	if settings.Liveness == nil {
		settings.Liveness = &Liveness{}
	}
	r := &Reconciler{
		Client:   mgr.GetClient(),
		Live:     mgr.GetAPIReader(),
		Events:   mgr.GetEventRecorder(FieldOwner),
		Pods:     pods,
		Redis:    redis.Redis,
		Settings: settings,

		OptionalKinds: kinds,
		Claimants: func(ctx context.Context, claim string) ([]*v1alpha1.HeymarketWebhook, error) {
			return claimants(ctx, mgr.GetCache(), claim)
		},
		Referrers: func(ctx context.Context, namespace, secret string) ([]*v1alpha1.HeymarketWebhook, error) {
			return referrers(ctx, mgr.GetCache(), namespace, secret)
		},
	}
	c := ctrl.NewControllerManagedBy(mgr)
	if settings.RedisIsolation == RedisManaged {
		users := newRedisUsers(settings, redis, mgr.GetCache())
		if err := mgr.Add(users); err != nil {
			return fmt.Errorf("add the manager of Redis users: %w", err)
		}
		r.Users = users
		c.WatchesRawSource(source.Namespaces{OnChange: users.OnChange, Webhooks: mgr.GetCache()})
	}
	if n := settings.MaxConcurrentRollouts; n > 0 {
		r.Rollouts = source.NewRollouts(n, settings.ReceiverImage, mgr.GetCache())
		c.WatchesRawSource(r.Rollouts)
	}
	if settings.ProbeInterval > 0 {
		r.Probes = &probes{interval: settings.ProbeInterval, prober: cmp.Or[Prober](settings.prober, reach.Prober{Policy: settings.TargetAddresses.Policy()})}
		c.WatchesRawSource(source.Poll{
			Of: "public URLs", Webhooks: mgr.GetCache(), Period: min(settings.ProbeInterval, pollPeriod),
			NeedsReconcile: func(ctx context.Context, key client.ObjectKey) bool {
				return r.Probes.needsReconcile(ctx, mgr.GetCache(), key)
			},
		})
	}
	for _, kind := range desired.Kinds() {
		if !kind.Optional {
			c.Owns(kind.New(), builder.WithPredicates(source.Changes(kind)))
		}
	}
	return c.
		Named("heymarketwebhook").
		For(&v1alpha1.HeymarketWebhook{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, finalizersChanged, conditionsChanged))).
		Watches(&v1alpha1.HeymarketWebhook{}, wakeRivals(mgr.GetCache(), settings), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.HeymarketWebhook{}, wakeReferrers(mgr.GetCache()), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(webhookOfEndpointSlice)).
		WatchesRawSource(&source.References{Metadata: meta, Resource: "secrets", Index: source.IndexSecret, Namespaces: settings.Namespaces, Webhooks: mgr.GetCache()}).
		WatchesRawSource(&source.References{Metadata: meta, Resource: "services", Index: source.IndexService, Namespaces: settings.Namespaces, Webhooks: mgr.GetCache()}).
		WatchesRawSource(kinds).
		WatchesRawSource(source.RedisChanges{Files: redis, Webhooks: mgr.GetCache()}).
		WatchesRawSource(source.Poll{
			Of: "status of receiver Pods", Webhooks: mgr.GetCache(), Period: cmp.Or(settings.pollPeriod, pollPeriod),
			NeedsReconcile: func(ctx context.Context, key client.ObjectKey) bool {
				return r.needsReconcile(ctx, mgr.GetCache(), key)
			},
		}).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers, ReconciliationTimeout: roundTimeout,
			NewQueue:    newFairQueue(namespaceWorkers),
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
		}).
		Complete(settings.Liveness.watch(reconcile.AsReconciler(mgr.GetClient(), r)))
}

// finalizersChanged matches a resource whose finalizers have changed.
var finalizersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !slices.Equal(e.ObjectOld.GetFinalizers(), e.ObjectNew.GetFinalizers())
}}

// conditionsChanged matches a resource whose conditions have changed, including changes by the operator itself: it may have
// acted on outdated data, because the answer to its last write was lost or a cache was behind, and nothing else would wake it.
var conditionsChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was, is := e.ObjectOld.(*v1alpha1.HeymarketWebhook), e.ObjectNew.(*v1alpha1.HeymarketWebhook)
	return !slices.EqualFunc(was.Status.Conditions, is.Status.Conditions, sameCondition)
}}

// sameCondition reports whether two conditions are equal, ignoring the API server's message if the request is repeated anyway:
// some admission webhooks, and networks, return a different message each time.
func sameCondition(a, b metav1.Condition) bool {
	switch a.Reason {
	case v1alpha1.ReasonChildRefused, v1alpha1.ReasonChildFailed, v1alpha1.ReasonFinalizerRefused, v1alpha1.ReasonReceiverNotEnded:
		a.Message = b.Message
	}
	return equality.Semantic.DeepEqual(a, b)
}

// webhookOfEndpointSlice uses the label that EndpointSlices inherit from their Service.
func webhookOfEndpointSlice(_ context.Context, slice client.Object) []reconcile.Request {
	name := slice.GetLabels()[contract.LabelInstance]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: slice.GetNamespace(), Name: name}}}
}
