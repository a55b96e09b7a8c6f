package condition

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// ExposureTimeout is how long an ingress controller, a Gateway or the issuer of a certificate may take before a missing answer
// emits an event.
const ExposureTimeout = 5 * time.Minute

// Exposed reports whether events from outside the cluster reach the receiver.
func Exposed(f Facts, w Writes) *Condition {
	exposure := f.Webhook.Spec.Exposure
	if c := w.problem(f, v1alpha1.ConditionExposed); c != nil {
		return c
	}
	switch {
	case exposure.Type == v1alpha1.ExposureNone:
		return True(v1alpha1.ReasonNotRequested, "spec.exposure.type is None: the receiver is reached through Service %q.", f.name())
	case f.Rival != nil:
		return hostConflict(f)
	case f.ForeignNamespace != "":
		return False(v1alpha1.ReasonPathNotAllowed,
			"The path %q of spec.exposure.path begins with the name of another namespace that has HeymarketWebhooks, %q: begin it with /%s/%s, or with another word.",
			exposure.Path, f.ForeignNamespace, f.Webhook.Namespace, f.Webhook.Name)
	case exposure.Type == v1alpha1.ExposureHTTPRoute:
		return exposedByRoute(f, w)
	}
	return exposedByIngress(f, w)
}

// exposedAlarms: pending states resolve automatically, and without a receiver Accepted emits an event.
var exposedAlarms = except(v1alpha1.ReasonAddressPending, v1alpha1.ReasonCertificatePending, v1alpha1.ReasonRoutePending, v1alpha1.ReasonNotExposed)

func hostConflict(f Facts) *Condition {
	why := "is older"
	if OwnPath(f.Rival) && !OwnPath(f.Webhook) {
		why = "has its name in the path"
	}
	return False(v1alpha1.ReasonHostConflict,
		"HeymarketWebhook %q in namespace %q %s and has the same host and path, %q: set another spec.exposure.host or spec.exposure.path.",
		f.Rival.Name, f.Rival.Namespace, why, desired.URLHost(f.Input.Host)+desired.PathPrefix(f.Webhook))
}

func exposedByIngress(f Facts, w Writes) *Condition {
	switch {
	case desired.Ingress.In(f.Children) == nil && !MayWrite(f, w):
		return False(v1alpha1.ReasonNotExposed, "There is no Ingress, because %s.", notWritten(f, w))
	case IngressAddress(desired.Ingress.In(f.Children)) == "":
		return withoutAddress(f)
	case desired.TLSSecretName(f.Webhook) != "" && certificateProblem(f) != "":
		return withoutCertificate(f)
	}
	return True(v1alpha1.ReasonAdmitted, "An ingress controller has published an address.")
}

// AnnotationIngressClass is the predecessor of the field for the class of an Ingress.
const AnnotationIngressClass = "kubernetes.io/ingress.class"

// withoutAddress returns why an Ingress has no address yet, as far as the operator can tell.
func withoutAddress(f Facts) *Condition {
	ingress := desired.Ingress.In(f.Children)
	if ingress != nil && ingress.Spec.IngressClassName == nil && ingress.Annotations[AnnotationIngressClass] == "" && timeLeft(f, desired.Ingress.Child) == 0 {
		// The API server sets the default class only on new Ingresses.
		return False(v1alpha1.ReasonAddressMissing,
			"No ingress controller has published an address for Ingress %q, which has no IngressClass, because spec.exposure.ingress.className is not set and the cluster had no default "+
				"when it was created: set the field or the operator's --ingress-class (kubectl get ingressclass); or, if there is a default by now, delete the Ingress, and the operator creates it again.",
			ingress.Name)
	}
	return pending(f, v1alpha1.ReasonAddressPending, v1alpha1.ReasonAddressMissing, desired.Ingress.Child,
		"No ingress controller has published an address for Ingress %q: check that one serves %s (kubectl get ingressclass) and publishes its address.",
		f.name(), ingressClass(f))
}

func ingressClass(f Facts) string {
	if i := f.Webhook.Spec.Exposure.Ingress; i != nil && i.ClassName != "" {
		return fmt.Sprintf("IngressClass %q of spec.exposure.ingress.className", i.ClassName)
	}
	if f.Input.IngressClass != "" {
		return fmt.Sprintf("IngressClass %q of the operator's --ingress-class", f.Input.IngressClass)
	}
	return "the cluster's default IngressClass, because spec.exposure.ingress.className is not set"
}

// certificateProblem returns the problem with the certificate's Secret, "" if there is none.
func certificateProblem(f Facts) string {
	if f.Certificate == nil {
		return fmt.Sprintf("does not exist in namespace %q", f.Webhook.Namespace)
	}
	for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if len(f.Certificate.Data[key]) == 0 {
			return fmt.Sprintf("has no value under the key %q", key)
		}
	}
	return ""
}

// withoutCertificate reports that senders will not trust the ingress controller's certificate.
func withoutCertificate(f Facts) *Condition {
	return pending(f, v1alpha1.ReasonCertificatePending, v1alpha1.ReasonCertificateMissing, desired.Ingress.Child,
		"Secret %q of spec.exposure.ingress.tlsSecretName %s: create it with a certificate for the host and its key (kubectl create secret tls), or see why cert-manager has not (kubectl describe certificate). Heymarket does not trust the ingress controller's default certificate.",
		desired.TLSSecretName(f.Webhook), certificateProblem(f))
}

// exposedByRoute reports whether every Gateway accepts the HTTPRoute and finds the Service.
func exposedByRoute(f Facts, w Writes) *Condition {
	switch {
	case f.NoGatewayAPI:
		return False(v1alpha1.ReasonGatewayAPIMissing, "The cluster has no HTTPRoute of gateway.networking.k8s.io/v1: install the Gateway API, or set spec.exposure.type to Ingress.")
	case desired.HTTPRoute.In(f.Children) == nil && !MayWrite(f, w):
		return False(v1alpha1.ReasonNotExposed, "There is no HTTPRoute, because %s.", notWritten(f, w))
	case len(desired.ParentRefs(f.Webhook, f.Input.Gateways)) == 0:
		return False(v1alpha1.ReasonGatewayUnknown, "No Gateway is configured: set spec.exposure.httpRoute.parentRefs or the operator's --gateway flag.")
	case !f.Input.HostRequested:
		return False(v1alpha1.ReasonHostUnknown, "The host of the URL is unknown, because no HTTPRoute reports one: set spec.exposure.host or the operator's --host-template flag.")
	}
	if c := GatewayMissing(f); c != nil {
		return c
	}
	for _, gateway := range desired.ParentRefs(f.Webhook, f.Input.Gateways) {
		if c := acceptedBy(f, gateway); c != nil {
			return c
		}
	}
	return True(v1alpha1.ReasonAdmitted, "Every Gateway has accepted the HTTPRoute.")
}

// GatewayMissing reports the first Gateway of the HTTPRoute that does not exist, nil if none is known to be missing.
func GatewayMissing(f Facts) *Condition {
	for _, gateway := range desired.ParentRefs(f.Webhook, f.Input.Gateways) {
		if key := desired.GatewayKey(gateway, f.Webhook.Namespace); slices.Contains(f.MissingGateways, key) {
			return False(v1alpha1.ReasonGatewayMissing,
				"Gateway %q of %s does not exist in namespace %q, so no events arrive through it: create it, or name another one (kubectl get gateway -n %s).",
				key.Name, gatewaySource(f), key.Namespace, key.Namespace)
		}
	}
	return nil
}

// gatewaySource says where the Gateways of the HTTPRoute are named.
func gatewaySource(f Facts) string {
	if f.Webhook.Spec.Exposure.HTTPRoute == nil {
		return "the operator's --gateway"
	}
	return "spec.exposure.httpRoute.parentRefs"
}

// acceptedBy returns why one Gateway does not serve the HTTPRoute, nil if it does.
func acceptedBy(f Facts, gateway v1alpha1.GatewayReference) *Condition {
	route := desired.HTTPRoute.In(f.Children)
	accepted, resolved := false, false
	for _, c := range gatewayConditions(route, gateway, f.Webhook.Namespace) {
		if c.Status == metav1.ConditionFalse && (c.Type == "Accepted" || c.Type == "ResolvedRefs") {
			rejected := False(v1alpha1.ReasonRouteRefused, "Gateway %q of %s rejects HTTPRoute %q (%s): %s", gateway.Name, gatewaySource(f), f.name(), c.Reason, c.Message)
			rejected.Message = Bounded(rejected.Message)
			return rejected
		}
		accepted = accepted || c.Type == "Accepted" && c.Status == metav1.ConditionTrue
		resolved = resolved || c.Type == "ResolvedRefs" && c.Status == metav1.ConditionTrue
	}
	if accepted && resolved {
		return nil
	}
	namespace := ""
	if gateway.Namespace != "" {
		namespace = " -n " + gateway.Namespace
	}
	return pending(f, v1alpha1.ReasonRoutePending, v1alpha1.ReasonRouteIgnored, desired.HTTPRoute.Child,
		"Gateway %q of %s has not reported whether it accepts HTTPRoute %q: check that it exists and that a controller serves it (kubectl get gateway%s).",
		gateway.Name, gatewaySource(f), f.name(), namespace)
}

// gatewayConditions returns the current conditions for a Gateway in the status of a route in namespace own.
func gatewayConditions(route *unstructured.Unstructured, gateway v1alpha1.GatewayReference, own string) (out []metav1.Condition) {
	var is struct {
		Status struct {
			Parents []struct {
				ParentRef  map[string]any     `json:"parentRef"`
				Conditions []metav1.Condition `json:"conditions"`
			} `json:"parents"`
		} `json:"status"`
	}
	if route == nil || runtime.DefaultUnstructuredConverter.FromUnstructured(route.Object, &is) != nil {
		return nil // It does not match the schema of its kind.
	}
	for _, p := range is.Status.Parents {
		namespace, _ := p.ParentRef["namespace"].(string)
		if p.ParentRef["name"] != gateway.Name || cmp.Or(namespace, own) != desired.GatewayKey(gateway, own).Namespace ||
			gateway.SectionName != "" && p.ParentRef["sectionName"] != gateway.SectionName {
			continue
		}
		for _, c := range p.Conditions {
			// Not every controller sets observedGeneration. Without it the condition counts.
			if c.ObservedGeneration == 0 || c.ObservedGeneration >= route.GetGeneration() {
				out = append(out, c)
			}
		}
	}
	return out
}

// pending reports that a child waits for another controller: with the reason soon within the usual time, and with the reason
// late after it.
func pending(f Facts, soon, late string, child *desired.Child, format string, args ...any) *Condition {
	if left := timeLeft(f, child); left > 0 {
		return False(soon, format, args...).again(left)
	}
	return False(late, format, args...)
}

// timeLeft returns how much of ExposureTimeout is left, counted from when the child was created and the status reported it.
func timeLeft(f Facts, child *desired.Child) time.Duration {
	object := f.Children[child]
	if object == nil {
		return f.ExposureTimeout
	}
	waited := min(f.lasted(v1alpha1.ConditionExposed, metav1.ConditionFalse), f.Now.Sub(object.GetCreationTimestamp().Time))
	return max(0, f.ExposureTimeout-waited)
}
