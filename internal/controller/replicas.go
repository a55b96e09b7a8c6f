package controller

import (
	"context"
	"fmt"

	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// replicasOwner owns the number of replicas after the operator has released it and until an autoscaler changes it for
// the first time.
const replicasOwner = FieldOwner + "-replicas"

// handOverReplicas transfers the ownership of the current number of replicas to another field manager, if the operator
// owns it and no longer wants to. A field without an owner is removed, and a Deployment without it gets one replica.
func (r *Reconciler) handOverReplicas(ctx context.Context, f condition.Facts, w *condition.Writes) error {
	is := desired.Deployment.In(f.Children)
	if !condition.MayWrite(f, *w) || is == nil || f.Want.Deployment.Spec.Replicas != nil {
		return nil
	}
	owned, err := appsv1ac.ExtractDeployment(is, FieldOwner)
	if err != nil {
		return fmt.Errorf("read what the operator owns of Deployment %s: %w", is.Name, err)
	}
	given, err := appsv1ac.ExtractDeployment(is, replicasOwner)
	if err != nil {
		return fmt.Errorf("read who owns the replicas of Deployment %s: %w", is.Name, err)
	}
	if owned.Spec == nil || owned.Spec.Replicas == nil || given.Spec != nil && given.Spec.Replicas != nil {
		return nil
	}
	keep := appsv1ac.Deployment(is.Name, is.Namespace).WithUID(is.UID).
		WithSpec(appsv1ac.DeploymentSpec().WithReplicas(ptr.Deref(is.Spec.Replicas, 1)))
	_, err = noteAnswer(w, r.Client.Apply(ctx, keep, client.FieldOwner(replicasOwner), client.ForceOwnership), desired.Deployment.Child, is.Name)
	return err
}
