package controller

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// adopt makes the resource the owner of a child that the operator created and that has lost its owner: the resource was
// deleted with --cascade=orphan, or a backup was restored without owner references, or with those of a resource that no
// longer exists. Otherwise the URL in the child would be lost. It reports whether the resource owns the child now.
func (r *Reconciler) adopt(ctx context.Context, hook *v1alpha1.HeymarketWebhook, child client.Object) (bool, error) {
	if !child.GetDeletionTimestamp().IsZero() || !madeByOperator(hook, child) {
		return false, nil
	}
	former := metav1.GetControllerOf(child)
	if former == nil {
		return true, nil // Applying it adds the reference.
	}
	if former.Kind != "HeymarketWebhook" || former.Name != hook.Name || former.APIVersion != v1alpha1.GroupVersion.String() {
		return false, nil
	}
	// The resource is read from a cache. If it is outdated, the child already belongs to its successor.
	var present v1alpha1.HeymarketWebhookList
	if err := r.Live.List(ctx, &present, client.InNamespace(hook.Namespace), client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", hook.Name)}); err != nil {
		return false, fmt.Errorf("read HeymarketWebhook: %w", err)
	}
	if len(present.Items) != 1 || present.Items[0].UID != hook.UID {
		return false, nil
	}
	before := child.DeepCopyObject().(client.Object)
	owners := slices.DeleteFunc(slices.Clone(child.GetOwnerReferences()), func(o metav1.OwnerReference) bool { return o.UID == former.UID })
	child.SetOwnerReferences(append(owners, *metav1.NewControllerRef(hook, v1alpha1.GroupVersion.WithKind("HeymarketWebhook"))))
	child.GetOwnerReferences()[len(owners)].BlockOwnerDeletion = nil
	// The lock prevents overruling a garbage collector that has just removed the child, or a newer owner.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, child, patch, client.FieldOwner(FieldOwner)); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	log.FromContext(ctx).Info("Adopted a child of a HeymarketWebhook of the same name that no longer exists", "child", child.GetName(), "formerUID", former.UID)
	return true, nil
}

// madeByOperator reports whether the operator created the child for a HeymarketWebhook of this name: by its labels, and by
// its field manager or, if a backup has lost that, by the operator's annotation.
func madeByOperator(hook *v1alpha1.HeymarketWebhook, child client.Object) bool {
	labels := child.GetLabels()
	if labels[contract.LabelManagedBy] != contract.ManagedByValue {
		return false
	}
	for name, value := range contract.PodLabels(hook.Name) {
		if labels[name] != value {
			return false
		}
	}
	return child.GetAnnotations()[annotationApplied] != "" ||
		slices.ContainsFunc(child.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool { return f.Manager == FieldOwner })
}
