package controller

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// replicasOwner keeps the number of replicas between the operator, which lets go of it, and an autoscaler, which takes
// it when it first changes it.
const replicasOwner = FieldOwner + "-replicas"

// handOverReplicas gives the number of replicas as it is to another field owner, if the operator owns it and no longer
// wants to. A field that its last owner leaves out is removed, and a Deployment without it gets one replica.
func (r *Reconciler) handOverReplicas(ctx context.Context, now *round, want desired.Objects) error {
	is := desired.Deployment.In(now.children)
	if !now.writes() || is == nil || want.Deployment.Spec.Replicas != nil {
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
	_, err = now.applied(r.Client.Apply(ctx, keep, client.FieldOwner(replicasOwner), client.ForceOwnership), desired.Deployment.Child, is.Name)
	return err
}

// observeScaling says whether KEDA scales by the backlog; nil where that is not asked for.
func observeScaling(now *round) *verdict {
	a := now.hook.Spec.Receiver.Autoscaling
	if a == nil || a.BacklogPerReplica == nil {
		return nil
	}
	name := desired.ReceiverName(now.hook.Name)
	switch {
	case !now.input.KEDA:
		instead := "Until then the number of Pods is spec.receiver.autoscaling.minReplicas."
		if a.TargetCPUUtilization != nil {
			instead = "Until then a HorizontalPodAutoscaler chooses the number of Pods by their CPU alone."
		}
		return &verdict{reason: v1alpha1.ReasonKEDAMissing, message: "The cluster has no ScaledObject of keda.sh/v1alpha1: install KEDA, or remove spec.receiver.autoscaling.backlogPerReplica. " + instead}
	case !now.writes() && desired.ScaledObject.In(now.children) == nil:
		return &verdict{reason: v1alpha1.ReasonNotDeployed, message: "There is no ScaledObject, because " + now.why() + "."}
	}
	var status struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	if desired.ScaledObject.In(now.children) != nil {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(desired.ScaledObject.In(now.children).Object, &status); err != nil {
			status.Status.Conditions = nil // It is not of the shape that its kind has.
		}
	}
	for _, c := range status.Status.Conditions {
		switch {
		case c.Type != "Ready":
		case c.Status == metav1.ConditionTrue:
			return &verdict{ok: true, reason: v1alpha1.ReasonScaling, message: "KEDA chooses the number of Pods by the backlog."}
		case c.Status == metav1.ConditionFalse:
			return &verdict{reason: v1alpha1.ReasonScaledObjectRefused, message: bounded(fmt.Sprintf("KEDA does not take ScaledObject %q (%s): %s", name, c.Reason, c.Message))}
		}
	}
	return &verdict{reason: v1alpha1.ReasonScaledObjectPending, message: fmt.Sprintf(
		"KEDA has not said yet whether it takes ScaledObject %q: check that it runs and watches this namespace (kubectl describe scaledobject %s).", name, name)}
}
