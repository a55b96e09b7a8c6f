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

// replicasOwner keeps the number of replicas between the operator, which lets go of it, and an autoscaler, which takes
// it when it first changes it.
const replicasOwner = FieldOwner + "-replicas"

// handOverReplicas gives the number of replicas as it is to another field owner, if the operator owns it and no longer
// wants to. A field that its last owner leaves out is removed, and a Deployment without it gets one replica.
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
