package desired

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

const defaultCPUUtilization = 80

// scalers are the components that set the number of Pods.
type scalers int

const (
	// Only the operator.
	nobody scalers = iota
	horizontalPodAutoscaler
	keda
)

func scaler(in Input) scalers {
	a := in.Webhook.Spec.Receiver.Autoscaling
	switch {
	case a == nil:
		return nobody
	case !scalesByBacklog(in.Webhook):
		return horizontalPodAutoscaler
	case in.KEDA:
		return keda
	case a.TargetCPUUtilization != nil:
		return horizontalPodAutoscaler // KEDA is not installed.
	}
	return nobody
}

func scalesByBacklog(w *v1alpha1.HeymarketWebhook) bool {
	a := w.Spec.Receiver.Autoscaling
	return a != nil && a.BacklogPerReplica != nil
}

var disruptionBudgetChild = child[policyv1.PodDisruptionBudget](Child{
	GroupVersionKind: policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
	wanted:           func(in Input) bool { return MinReplicas(in.Webhook) > 1 },
	build:            func(p plan) any { return disruptionBudget(p.Input) },
})

// exclusiveScaler is the group of children that set the number of Pods. KEDA rejects a Deployment that has a
// HorizontalPodAutoscaler, and of two HorizontalPodAutoscalers, KEDA's included, neither works.
const exclusiveScaler = "scaler"

var autoscalerChild = child[autoscalingv2.HorizontalPodAutoscaler](Child{
	GroupVersionKind: autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
	Exclusive:        exclusiveScaler,
	wanted:           func(in Input) bool { return in.Webhook.Spec.Receiver.Autoscaling != nil },
	possible:         func(in Input) bool { return scaler(in) == horizontalPodAutoscaler },
	build:            func(p plan) any { return autoscaler(p.Input) },
})

// disruptionBudget allows a drain to evict one receiver at a time. A receiver that is not ready serves no requests, so
// evicting it loses nothing.
func disruptionBudget(in Input) *policyv1ac.PodDisruptionBudgetApplyConfiguration {
	return policyv1ac.PodDisruptionBudget(contract.ReceiverName(in.Webhook.Name), in.Webhook.Namespace).
		WithLabels(labels(in)).
		WithOwnerReferences(owner(in)).
		WithSpec(policyv1ac.PodDisruptionBudgetSpec().
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(selector(in))).
			WithMaxUnavailable(intstr.FromInt32(1)).
			WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow))
}

func autoscaler(in Input) *autoscalingv2ac.HorizontalPodAutoscalerApplyConfiguration {
	a := in.Webhook.Spec.Receiver.Autoscaling
	return autoscalingv2ac.HorizontalPodAutoscaler(contract.ReceiverName(in.Webhook.Name), in.Webhook.Namespace).
		WithLabels(labels(in)).
		WithOwnerReferences(owner(in)).
		WithSpec(autoscalingv2ac.HorizontalPodAutoscalerSpec().
			WithScaleTargetRef(autoscalingv2ac.CrossVersionObjectReference().
				WithAPIVersion("apps/v1").
				WithKind("Deployment").
				WithName(contract.ReceiverName(in.Webhook.Name))).
			WithMinReplicas(MinReplicas(in.Webhook)).
			WithMaxReplicas(a.MaxReplicas).
			WithMetrics(autoscalingv2ac.MetricSpec().
				WithType(autoscalingv2.ResourceMetricSourceType).
				WithResource(autoscalingv2ac.ResourceMetricSource().
					WithName(corev1.ResourceCPU).
					WithTarget(autoscalingv2ac.MetricTarget().
						WithType(autoscalingv2.UtilizationMetricType).
						WithAverageUtilization(ptr.Deref(a.TargetCPUUtilization, defaultCPUUtilization))))))
}
