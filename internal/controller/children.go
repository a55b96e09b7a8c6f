package controller

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// readChildren reads every child of Table that may exist.
func (r *Reconciler) readChildren(ctx context.Context, now *round) error {
	now.children = desired.Children{}
	for _, c := range desired.Table {
		obj, err := r.readChild(ctx, now, c, c.Wanted(now.input))
		if err != nil {
			return err
		}
		if obj != nil {
			now.children[c] = obj
		}
	}
	return nil
}

// readChild returns the object, or nil if there is none. What the cache does not know is asked of the API server if the
// child is wanted: it may be too new for the cache, may have lost its label, or may belong to another owner. An object that
// the operator made and that has lost its owner is adopted. Any other that is not controlled by this resource is rejected,
// and never read, changed or deleted. Of an optional child that is not wanted only the metadata is read, from a cache alone:
// a resource that never had one costs no request.
func (r *Reconciler) readChild(ctx context.Context, now *round, c *desired.Child, wanted bool) (client.Object, error) {
	if !r.served(c) {
		return nil, nil //nolint:nilnil // there is none
	}
	obj, key := client.Object(c.New()), childKey(now.hook, c)
	if c.Optional && !wanted {
		obj = metadataOf(c.GroupVersionKind)
	}
	err := r.Client.Get(ctx, key, obj)
	if err == nil && isHollow(obj) {
		reflect.ValueOf(obj).Elem().SetZero()
		err = r.Live.Get(ctx, key, obj)
	}
	if apierrors.IsNotFound(err) && wanted {
		err = r.Live.Get(ctx, key, obj)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // there is none
	case err != nil:
		return nil, fmt.Errorf("read %s %s: %w", c.Kind, key.Name, err)
	case metav1.IsControlledBy(obj, now.hook):
		return structured(c, obj), nil
	}
	adopted, err := r.adopt(ctx, now.hook, obj)
	switch {
	case err != nil:
		return nil, fmt.Errorf("adopt %s %s: %w", c.Kind, key.Name, err)
	case adopted:
		return structured(c, obj), nil
	case wanted:
		now.rejectNameTaken(c, obj)
	}
	return nil, nil //nolint:nilnil // there is none of this resource
}

// structured returns a child of which only the metadata was read as an object of its kind.
func structured(c *desired.Child, obj client.Object) client.Object {
	known, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj
	}
	out := c.New().(*unstructured.Unstructured)
	out.SetName(known.Name)
	out.SetNamespace(known.Namespace)
	out.SetUID(known.UID)
	out.SetDeletionTimestamp(known.DeletionTimestamp)
	return out
}

func (now *round) rejectNameTaken(c *desired.Child, obj client.Object) {
	now.unwatched = true
	switch {
	case !obj.GetDeletionTimestamp().IsZero():
		now.refuse(v1alpha1.ReasonChildNameTaken, "%s %q belongs to an earlier HeymarketWebhook of this name and is about to be removed.", c.Kind, obj.GetName())
	case c == desired.URLSecret.Child:
		now.refuse(v1alpha1.ReasonChildNameTaken,
			"%s %q exists and was not made by the operator, so it is left alone. If it holds the URL that Heymarket sends to, keep a copy of it before you rename it; or give the HeymarketWebhook another name.",
			c.Kind, obj.GetName())
	default:
		now.refuse(v1alpha1.ReasonChildNameTaken,
			"%s %q exists and does not belong to this HeymarketWebhook, so it is left alone: delete or rename it, or give the HeymarketWebhook another name.",
			c.Kind, obj.GetName())
	}
}

// served reports whether the cluster has the kind of the child.
func (r *Reconciler) served(c *desired.Child) bool {
	return !c.Optional || r.Extensions.Served(c.GroupVersionKind)
}

func childKey(hook *v1alpha1.HeymarketWebhook, c *desired.Child) client.ObjectKey {
	return client.ObjectKey{Namespace: hook.Namespace, Name: c.ObjectName(hook.Name)}
}
