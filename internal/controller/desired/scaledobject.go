package desired

import (
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// ScaledObjectKind is KEDA's kind. Like HTTPRouteKind it is built without Go types.
var ScaledObjectKind = schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"}

// ScaledObject is the child with which KEDA scales the receiver.
var ScaledObject = optional(Child{
	GroupVersionKind: ScaledObjectKind, Condition: v1alpha1.ConditionScaled, // KEDA writes its status at every poll of an active one.
	Exclusive: exclusiveScaler,
	wanted:    func(in Input) bool { return scalesByBacklog(in.Webhook) },
	possible:  func(in Input) bool { return scaler(in) == keda },
	build:     func(p plan) any { return scaledObject(p.Input) },
})

// scaledObject makes KEDA query any receiver for the backlog, which is the same for all of them. So KEDA needs neither
// the Redis URL nor support for that kind of Redis.
func scaledObject(in Input) *unstructured.Unstructured {
	a, name := in.Webhook.Spec.Receiver.Autoscaling, contract.ReceiverName(in.Webhook.Name)
	triggers := []any{map[string]any{
		"type":       "metrics-api",
		"metricType": "AverageValue",
		"metadata": map[string]any{
			"url":           fmt.Sprintf("http://%s:%d/status", ServiceHost(in.Webhook.Namespace, in.Webhook.Name), contract.OperationsPort),
			"valueLocation": contract.BacklogMember,
			"targetValue":   strconv.Itoa(int(*a.BacklogPerReplica)),
		},
	}}
	if a.TargetCPUUtilization != nil {
		triggers = append(triggers, map[string]any{
			"type":       "cpu",
			"metricType": "Utilization",
			"metadata":   map[string]any{"value": strconv.Itoa(int(*a.TargetCPUUtilization))},
		})
	}
	return optionalObject(in, ScaledObjectKind, map[string]any{
		"scaleTargetRef":  map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
		"minReplicaCount": int64(MinReplicas(in.Webhook)),
		"maxReplicaCount": int64(a.MaxReplicas),
		"triggers":        triggers,
	})
}
