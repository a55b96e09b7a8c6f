package desired

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"heymarket.dev/operator/internal/contract"
)

var serviceChild = child[corev1.Service](Child{
	GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Service"), EveryChange: true,
	build: func(p plan) any { return service(p.Input) },
})

func service(in Input) *corev1ac.ServiceApplyConfiguration {
	spec := corev1ac.ServiceSpec().
		WithSelector(selector(in)).
		WithPorts(corev1ac.ServicePort().
			WithName("http").
			WithProtocol(corev1.ProtocolTCP).
			WithPort(80).
			WithTargetPort(intstr.FromString("http")))
	if scalesByBacklog(in.Webhook) {
		// KEDA queries the backlog on this port. Ingress and HTTPRoute use the other one.
		spec.WithPorts(corev1ac.ServicePort().
			WithName("ops").
			WithProtocol(corev1.ProtocolTCP).
			WithPort(contract.OperationsPort).
			WithTargetPort(intstr.FromString("ops")))
	}
	out := corev1ac.Service(contract.ReceiverName(in.Webhook.Name), in.Webhook.Namespace).
		WithLabels(labels(in)).
		WithOwnerReferences(owner(in)).
		WithSpec(spec)
	for k, v := range in.Webhook.Spec.Exposure.ServiceAnnotations {
		out.WithAnnotations(map[string]string{k: string(v)})
	}
	return out
}
