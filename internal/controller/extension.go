package controller

import (
	"context"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
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

// applyExtension applies want like every other child.
func (r *Reconciler) applyExtension(ctx context.Context, now *round, is, want *unstructured.Unstructured) error {
	answer := &unstructured.Unstructured{}
	answer.SetGroupVersionKind(want.GroupVersionKind())
	answer.SetNamespace(want.GetNamespace())
	answer.SetName(want.GetName())
	_, err := r.applyObject(ctx, now, existing(is), application{
		kind: want.GetKind(), config: client.ApplyConfigurationFromUnstructured(want), answer: answer,
		annotate: func(annotations map[string]string) {
			all := want.GetAnnotations()
			if all == nil {
				all = map[string]string{}
			}
			maps.Copy(all, annotations)
			want.SetAnnotations(all)
		},
	})
	return err
}
