package controller

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// gateUpgrade keeps a receiver on its current version while others are being rolled out: its Deployment is not changed, and its
// configuration stays the one written for this version. Everything else is updated.
func (r *Reconciler) gateUpgrade(ctx context.Context, f condition.Facts) (condition.Facts, error) {
	upgrade, err := r.isUpgrade(f)
	if err != nil || !upgrade {
		return f, err
	}
	kept, err := keptConfiguration(f)
	if err != nil {
		return f, err
	}
	configured, wanted := map[string][]byte{desired.KeyConfig: kept}, f.Want.ConfigSecret.Data
	if kept != nil && !slices.Equal(desired.ServedPaths(configured), desired.ServedPaths(wanted)) {
		return f, nil // A previous URL is due to be revoked, which cannot wait.
	}
	if _, had := condition.Data(desired.ConfigSecret.In(f.Children))[desired.KeyRedisCA]; had != (wanted[desired.KeyRedisCA] != nil) {
		return f, nil // A receiver whose configuration names no certificates, or whose certificate file is removed, would lose Redis.
	}
	deployment := desired.Deployment.In(f.Children)
	free, err := r.Rollouts.Admit(ctx, deployment)
	if err != nil || free {
		return f, err
	}
	f.Held = true
	f.Input.Image = desired.ReceiverImage(deployment)
	if kept != nil {
		wanted[desired.KeyConfig] = kept
		f.Want.ConfigDigest = desired.DigestOf(configured)
	}
	return f, nil
}

// isUpgrade reports whether Pods would be replaced without a change by a person: this version of the operator builds another
// Pod template than the previous one. A person's change shows in the generation, or in the resource not having been accepted
// before.
func (r *Reconciler) isUpgrade(f condition.Facts) (bool, error) {
	is, want, before := desired.Deployment.In(f.Children), f.Want.Deployment, f.Webhook.Status
	if r.Rollouts == nil || f.Mistake != nil || is == nil || want == nil || before.ObservedGeneration != f.Webhook.Generation {
		return false, nil
	}
	if c := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionAccepted); c == nil || !condition.RollsOut(c.Reason) {
		return false, nil
	}
	if asked, found := is.Annotations[annotationAppliedTemplate]; found {
		template, err := templateDigest(want)
		return asked != template, err
	}
	owned, err := appsv1ac.ExtractDeployment(is, FieldOwner)
	if err != nil {
		return false, fmt.Errorf("read what the operator owns of Deployment %s: %w", is.Name, err)
	}
	return owned.Spec != nil && !equality.Semantic.DeepEqual(owned.Spec.Template, want.Spec.Template), nil
}

// keptConfiguration returns the configuration that the operator has written, nil if it was removed or changed.
func keptConfiguration(f condition.Facts) ([]byte, error) {
	is := desired.ConfigSecret.In(f.Children)
	if is == nil {
		return nil, nil
	}
	owned, err := corev1ac.ExtractSecret(is, FieldOwner)
	if err != nil {
		return nil, fmt.Errorf("read what the operator owns of Secret %s: %w", is.Name, err)
	}
	return owned.Data[desired.KeyConfig], nil
}
