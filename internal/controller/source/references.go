package source

import (
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// IndexSecret indexes the HeymarketWebhooks of a namespace by the Secrets that they refer to.
const IndexSecret = "secrets"

// SecretsOf returns the keys of IndexSecret.
func SecretsOf(obj client.Object) []string {
	var names []string
	for _, r := range desired.References(obj.(*v1alpha1.HeymarketWebhook)) {
		names = append(names, r.Secret)
	}
	if name := desired.TLSSecretName(obj.(*v1alpha1.HeymarketWebhook)); name != "" {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// IndexService indexes the HeymarketWebhooks of a namespace by the Services of their targets.
const IndexService = "services"

// ServicesOf returns the keys of IndexService.
func ServicesOf(obj client.Object) []string {
	var names []string
	for _, t := range obj.(*v1alpha1.HeymarketWebhook).Spec.Targets {
		if t.Service != nil {
			names = append(names, t.Service.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// References is a source that wakes the HeymarketWebhooks that refer to an object of one kind when that object is
// created, changed or deleted. It stores nothing: a cluster may hold tens of thousands of unrelated Secrets, so it
// watches their metadata, drops each event once it is handled, and does not even list them, because the reconciler reads
// a Secret from the API server when it needs it.
type References struct {
	Metadata metadata.Interface
	// Resource is a resource of the core group, such as secrets.
	Resource string
	// Index is the index of Webhooks by referenced name.
	Index string
	// Namespaces are those to watch; empty means all.
	Namespaces []string
	// Webhooks is a cache with that index.
	Webhooks client.Reader

	synced []chan struct{}
}

var _ source.SyncingSource = (*References)(nil)

// Start implements source.Source.
func (s *References) Start(ctx context.Context, q queue) error {
	namespaces := s.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, ns := range namespaces {
		synced := make(chan struct{})
		s.synced = append(s.synced, synced)
		resource := s.Metadata.Resource(corev1.SchemeGroupVersion.WithResource(s.Resource)).Namespace(ns)
		reflector := toolscache.NewReflectorWithOptions(
			&unlisted{ctx: ctx, resource: resource},
			&metav1.PartialObjectMetadata{},
			&wakeUp{ctx: ctx, namespace: ns, index: s.Index, webhooks: s.Webhooks, queue: q, synced: sync.OnceFunc(func() { close(synced) })},
			toolscache.ReflectorOptions{Name: s.Resource, TypeDescription: "metadata of " + s.Resource})
		go reflector.RunWithContext(ctx)
	}
	return nil
}

// WaitForSync implements source.SyncingSource: workers start once the watch is established, so that no change is missed
// between their first read of an object and the watch.
func (s *References) WaitForSync(ctx context.Context) error {
	for _, synced := range s.synced {
		select {
		case <-synced:
		case <-ctx.Done():
			return fmt.Errorf("wait for the watch on %s (is the operator allowed to list and watch them?): %w", s.Resource, context.Cause(ctx))
		}
	}
	return nil
}

func (s *References) String() string { return "metadata of users' " + s.Resource }

// unlisted gives a reflector the resource version from which to watch, and an empty list.
type unlisted struct {
	ctx      context.Context //nolint:containedctx // The interface's methods without context are never called in earnest.
	resource metadata.ResourceInterface
}

var _ toolscache.ListerWatcherWithContext = (*unlisted)(nil)

func (u *unlisted) ListWithContext(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	list, err := u.resource.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	return &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: list.ResourceVersion}}, nil
}

func (u *unlisted) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return u.resource.Watch(ctx, o)
}

func (u *unlisted) List(o metav1.ListOptions) (runtime.Object, error) {
	return u.ListWithContext(u.ctx, o)
}

func (u *unlisted) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return u.WatchWithContext(u.ctx, o)
}

// IsWatchListSemanticsUnSupported prevents the reflector from streaming the whole list.
func (u *unlisted) IsWatchListSemanticsUnSupported() bool { return true }

// wakeUp is a reflector's store that stores nothing.
type wakeUp struct {
	ctx       context.Context //nolint:containedctx // A store's methods have no context parameter.
	namespace string
	index     string
	webhooks  client.Reader
	queue     queue
	synced    func()
	listed    bool
}

var _ toolscache.ReflectorStore = (*wakeUp)(nil)

func (w *wakeUp) Add(obj any) error    { return w.wake(obj) }
func (w *wakeUp) Update(obj any) error { return w.wake(obj) }
func (w *wakeUp) Delete(obj any) error { return w.wake(obj) }
func (w *wakeUp) Resync() error        { return nil }

// Replace is called when a watch starts. After the first time that means that the previous watch was lost, and with it
// an unknown number of changes.
func (w *wakeUp) Replace([]any, string) error {
	w.synced()
	if !w.listed {
		w.listed = true
		return nil
	}
	return enqueueAll(w.ctx, w.webhooks, w.queue, client.InNamespace(w.namespace))
}

func (w *wakeUp) wake(obj any) error {
	changed, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("watch what HeymarketWebhooks refer to: unexpected %T", obj)
	}
	var hooks v1alpha1.HeymarketWebhookList
	if err := w.webhooks.List(w.ctx, &hooks, client.UnsafeDisableDeepCopy,
		client.InNamespace(changed.Namespace), client.MatchingFields{w.index: changed.Name}); err != nil {
		return fmt.Errorf("find the HeymarketWebhooks that refer to an object: %w", err)
	}
	for i := range hooks.Items {
		w.queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&hooks.Items[i])})
	}
	return nil
}
