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
	"heymarket.dev/operator/internal/controller/desired"
)

// hold keeps a receiver on the version that it runs while others are being rolled: its Deployment is left alone, and its
// configuration stays the one that this version was given. Everything else is brought up to date.
func (r *Reconciler) hold(ctx context.Context, now *round, want desired.Objects) (desired.Objects, error) {
	upgrade, err := r.isUpgrade(now, want)
	if err != nil || !upgrade {
		return want, err
	}
	kept, err := keptConfiguration(now)
	if err != nil {
		return want, err
	}
	configured := map[string][]byte{desired.KeyConfig: kept}
	if kept != nil && !slices.Equal(desired.ServedPaths(configured), desired.ServedPaths(want.ConfigSecret.Data)) {
		return want, nil // A URL is to be withdrawn, which cannot wait.
	}
	if _, had := data(desired.ConfigSecret.In(now.children))[desired.KeyRedisCA]; had != (want.ConfigSecret.Data[desired.KeyRedisCA] != nil) {
		return want, nil // A receiver that was not told of certificates, or whose file of them goes, would lose Redis.
	}
	free, err := r.Rollouts.Admit(ctx, desired.Deployment.In(now.children))
	if err != nil || free {
		return want, err
	}
	now.held = true
	now.input.Image = receiverImage(desired.Deployment.In(now.children))
	if kept != nil {
		want.ConfigSecret.Data[desired.KeyConfig] = kept
		want.ConfigDigest = desired.DigestOf(configured)
	}
	return want, nil
}

// isUpgrade says that Pods would be replaced although no person has asked for anything: this version of the operator
// makes another Pod template than the one before. What a person has changed is seen by the generation, or by the
// resource not having been accepted before.
func (r *Reconciler) isUpgrade(now *round, want desired.Objects) (bool, error) {
	is, before := desired.Deployment.In(now.children), now.hook.Status
	if r.Rollouts == nil || !now.accepted() || is == nil || want.Deployment == nil || before.ObservedGeneration != now.hook.Generation {
		return false, nil
	}
	if c := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionAccepted); c == nil || refusing(c.Reason) {
		return false, nil
	}
	if asked, found := is.Annotations[annotationAppliedTemplate]; found {
		template, err := templateDigest(want.Deployment)
		return asked != template, err
	}
	owned, err := appsv1ac.ExtractDeployment(is, FieldOwner)
	if err != nil {
		return false, fmt.Errorf("read what the operator owns of Deployment %s: %w", is.Name, err)
	}
	return owned.Spec != nil && !equality.Semantic.DeepEqual(owned.Spec.Template, want.Deployment.Spec.Template), nil
}

// refusing says of a reason of ConditionAccepted that nothing was rolled out because of it.
func refusing(reason string) bool {
	return !slices.Contains([]string{v1alpha1.ReasonAccepted, v1alpha1.ReasonTargetServiceNotFound, v1alpha1.ReasonTargetPortNotFound, v1alpha1.ReasonTargetAddressRefused, v1alpha1.ReasonTargetNamespaceClosed}, reason)
}

// keptConfiguration is the configuration that the operator has handed out, nil if somebody has taken it away or changed it.
func keptConfiguration(now *round) ([]byte, error) {
	is := desired.ConfigSecret.In(now.children)
	if is == nil {
		return nil, nil
	}
	owned, err := corev1ac.ExtractSecret(is, FieldOwner)
	if err != nil {
		return nil, fmt.Errorf("read what the operator owns of Secret %s: %w", is.Name, err)
	}
	return owned.Data[desired.KeyConfig], nil
}
