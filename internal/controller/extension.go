package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// Extensions tells which of the kinds that not every cluster has there are.
type Extensions interface {
	// Served says whether the API server serves the kind and its objects are watched.
	Served(kind schema.GroupVersionKind) bool
}

// readExtension reads a child of a kind that not every cluster has. One that is not wanted is looked for in a cache
// alone, so that resources which never had one cost no request; of it no more is known than its metadata.
func (r *Reconciler) readExtension(
	ctx context.Context, now *round, kind schema.GroupVersionKind, key client.ObjectKey, wanted bool,
) (*unstructured.Unstructured, error) {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(kind)
	switch {
	case !r.Extensions.Served(kind):
		return nil, nil
	case wanted:
		return readChild(ctx, r, now, kind.Kind, key, obj, wanted)
	}
	known := &metav1.PartialObjectMetadata{}
	known.SetGroupVersionKind(kind)
	known, err := readChild(ctx, r, now, kind.Kind, key, known, wanted)
	if known == nil || err != nil {
		return nil, err
	}
	obj.SetName(known.Name)
	obj.SetNamespace(known.Namespace)
	obj.SetUID(known.UID)
	obj.SetDeletionTimestamp(known.DeletionTimestamp)
	return obj, nil
}

// applyExtension applies want unless is says the same. lists are the fields of the spec that are lists with one owner
// each; elsewhere others may have added.
func (r *Reconciler) applyExtension(ctx context.Context, now *round, is, want *unstructured.Unstructured, lists ...string) error {
	if !now.writes() || is != nil && says(is, want, lists) {
		return nil
	}
	err := r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(FieldOwner), client.ForceOwnership)
	wrote, err := now.applied(err, want.GetKind(), want.GetName())
	if wrote {
		log.FromContext(ctx).Info("Applied", "child", fmt.Sprintf("%s/%s", want.GetKind(), want.GetName()))
	}
	return err
}

// says compares what the operator says about an object.
func says(is, want *unstructured.Unstructured, lists []string) bool {
	for _, field := range lists {
		a, _, _ := unstructured.NestedFieldNoCopy(is.Object, "spec", field)
		b, _, _ := unstructured.NestedFieldNoCopy(want.Object, "spec", field)
		if !equality.Semantic.DeepEqual(a, b) {
			return false
		}
	}
	return covers(is.Object, want.Object)
}

// covers says whether all of want is in is.
func covers(is, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		is, ok := is.(map[string]any)
		for k, v := range want {
			ok = ok && covers(is[k], v)
		}
		return ok
	case []any:
		is, ok := is.([]any)
		ok = ok && len(is) == len(want)
		for i := 0; ok && i < len(want); i++ {
			ok = covers(is[i], want[i])
		}
		return ok
	default:
		return is == want
	}
}
