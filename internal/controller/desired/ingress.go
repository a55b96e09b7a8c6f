package desired

import (
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// Ingress is the child that exposes the receiver through an ingress controller.
var Ingress = child[networkingv1.Ingress](Child{
	GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind("Ingress"), Condition: v1alpha1.ConditionExposed, EveryChange: true,
	wanted: func(in Input) bool {
		t := in.Webhook.Spec.Exposure.Type
		return t != v1alpha1.ExposureNone && t != v1alpha1.ExposureHTTPRoute
	},
	possible: func(in Input) bool { return !in.Conflict },
	build:    func(p plan) any { return ingress(p.Input) },
})

// ingress routes everything below the webhook's prefix. The secret segment is not part of it, because people who may read
// an Ingress must not see it; the receiver checks it.
func ingress(in Input) *networkingv1ac.IngressApplyConfiguration {
	var opts v1alpha1.IngressExposure
	if in.Webhook.Spec.Exposure.Ingress != nil {
		opts = *in.Webhook.Spec.Exposure.Ingress
	}
	rule := networkingv1ac.IngressRule().
		WithHTTP(networkingv1ac.HTTPIngressRuleValue().
			WithPaths(networkingv1ac.HTTPIngressPath().
				WithPath(pathPrefix(in)).
				WithPathType(networkingv1.PathTypePrefix).
				WithBackend(networkingv1ac.IngressBackend().
					WithService(networkingv1ac.IngressServiceBackend().
						WithName(contract.ReceiverName(in.Webhook.Name)).
						WithPort(networkingv1ac.ServiceBackendPort().WithName("http"))))))
	spec := networkingv1ac.IngressSpec()
	if in.HostRequested {
		rule.WithHost(in.Host)
	}
	if class := IngressClass(in.Webhook, in.IngressClass); class != "" {
		spec.WithIngressClassName(class)
	}
	if opts.TLSSecretName != "" {
		tls := networkingv1ac.IngressTLS().WithSecretName(opts.TLSSecretName)
		if in.HostRequested {
			tls.WithHosts(in.Host)
		}
		spec.WithTLS(tls)
	}
	out := networkingv1ac.Ingress(contract.ReceiverName(in.Webhook.Name), in.Webhook.Namespace).
		WithLabels(labels(in)).
		WithOwnerReferences(owner(in)).
		WithSpec(spec.WithRules(rule))
	for k, v := range opts.Annotations {
		out.WithAnnotations(map[string]string{k: string(v)})
	}
	return out
}

// TLSSecretName returns the name of the certificate's Secret for the Ingress of w; empty if there is none.
func TLSSecretName(w *v1alpha1.HeymarketWebhook) string {
	e := w.Spec.Exposure
	if e.Ingress == nil || e.Type == v1alpha1.ExposureNone || e.Type == v1alpha1.ExposureHTTPRoute {
		return ""
	}
	return e.Ingress.TLSSecretName
}

// IngressClass returns the class of the Ingress of w, given the operator's default; empty means the cluster's.
func IngressClass(w *v1alpha1.HeymarketWebhook, operatorDefault string) string {
	if i := w.Spec.Exposure.Ingress; i != nil && i.ClassName != "" {
		return i.ClassName
	}
	return operatorDefault
}
