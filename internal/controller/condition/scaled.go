package condition

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// How soon to check the status of a ScaledObject again: KEDA writes it at every poll of an active one, so a watch on it does
// not wake the operator.
const (
	retryScaledObject   = 30 * time.Second
	refreshScaledObject = 5 * time.Minute
)

// Scaled reports whether KEDA scales by the backlog; nil if the spec does not request it.
func Scaled(f Facts, w Writes) *Condition {
	if !scalesByBacklog(f) {
		return nil
	}
	if c := w.problem(f, v1alpha1.ConditionScaled); c != nil {
		return c
	}
	object := desired.ScaledObject.In(f.Children)
	switch {
	case !f.Input.KEDA:
		instead := "Until then the number of Pods is spec.receiver.autoscaling.minReplicas."
		if f.Webhook.Spec.Receiver.Autoscaling.TargetCPUUtilization != nil {
			instead = "Until then a HorizontalPodAutoscaler chooses the number of Pods by their CPU alone."
		}
		return False(v1alpha1.ReasonKEDAMissing, "The cluster has no ScaledObject of keda.sh/v1alpha1: install KEDA, or remove spec.receiver.autoscaling.backlogPerReplica. %s", instead)
	case object == nil && !MayWrite(f, w):
		return False(v1alpha1.ReasonNotDeployed, "There is no ScaledObject, because %s.", notWritten(f, w)).again(retryScaledObject)
	}
	for _, c := range scaledObjectConditions(object) {
		switch {
		case c.Type != "Ready":
		case c.Status == metav1.ConditionTrue:
			return True(v1alpha1.ReasonScaling, "KEDA chooses the number of Pods by the backlog.").again(refreshScaledObject)
		case c.Status == metav1.ConditionFalse:
			rejected := False(v1alpha1.ReasonScaledObjectRefused, "KEDA rejects ScaledObject %q (%s): %s", f.name(), c.Reason, c.Message).again(retryScaledObject)
			rejected.Message = Bounded(rejected.Message)
			return rejected
		}
	}
	return False(v1alpha1.ReasonScaledObjectPending,
		"KEDA has not reported yet whether it accepts ScaledObject %q: check that it runs and watches this namespace (kubectl describe scaledobject %s).", f.name(), f.name()).again(retryScaledObject)
}

var scaledAlarms = only(v1alpha1.ReasonKEDAMissing, v1alpha1.ReasonScaledObjectRefused, v1alpha1.ReasonChildFailed, v1alpha1.ReasonChildOverwritten)

func scalesByBacklog(f Facts) bool {
	a := f.Webhook.Spec.Receiver.Autoscaling
	return a != nil && a.BacklogPerReplica != nil
}

func scaledObjectConditions(object *unstructured.Unstructured) []metav1.Condition {
	var is struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	if object == nil || runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &is) != nil {
		return nil // It does not match the schema of its kind.
	}
	return is.Status.Conditions
}
