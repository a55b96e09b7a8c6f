package faults

import (
	"context"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"heymarket.dev/operator/api/v1alpha1"
)

// forgetful is a client that remembers the version before the present one of what it has read, and shows it again when
// the plan releases it. To the operator that is an outdated cache. A cache is behind until the event comes, and the event
// wakes the resource: so late is called soon after.
type forgetful struct {
	client.Client
	wire *wire
	late func()

	mu       sync.Mutex
	versions map[string][2]client.Object // before and present; nil is an object that is not there
}

func (p *play) newClient(cfg *rest.Config, opts client.Options) (client.Client, error) {
	c, err := client.New(cfg, opts)
	late := func() {
		time.AfterFunc(delay/4, func() { _ = p.touch(context.Background()) }) // Where there is no Secret, its coming will wake the resource.
	}
	return &forgetful{Client: c, wire: p.wire, late: late, versions: map[string][2]client.Object{}}, err
}

// Get implements client.Reader.
func (f *forgetful) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	err := f.Client.Get(ctx, key, obj, opts...)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if _, live := obj.(*unstructured.Unstructured); live {
		return err // It comes from the API server, and that is never behind.
	}
	gvk, gvkErr := apiutil.GVKForObject(obj, f.Scheme())
	if gvkErr != nil {
		return gvkErr
	}
	name := gvk.Kind + "/" + key.Name
	kept := reflect.TypeOf(obj).String() + name // Metadata alone is another type.
	var present client.Object
	if err == nil {
		present = obj.DeepCopyObject().(client.Object)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	known, seen := f.versions[kept]
	if seen && version(known[1]) == version(present) {
		return err
	}
	f.versions[kept] = [2]client.Object{known[1], present}
	if _, ok := obj.(*v1alpha1.HeymarketWebhook); ok && known[1] != nil && present != nil && known[1].GetGeneration() == present.GetGeneration() {
		return err // The operator alone writes its status, and the client waits for its own writes.
	}
	if !seen || f.wire.meet(aRead, "GET "+name) != stale {
		return err
	}
	f.late()
	if known[1] == nil {
		return apierrors.NewNotFound(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, key.Name)
	}
	reflect.ValueOf(obj).Elem().Set(reflect.ValueOf(known[1].DeepCopyObject()).Elem())
	return nil
}

func version(obj client.Object) string {
	if obj == nil {
		return ""
	}
	return obj.GetResourceVersion()
}
