package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation"

	"heymarket.dev/operator/api/v1alpha1"
)

// What people may write on Ingresses, Services and Pods acts through other controllers, with those controllers' rights. Who may
// write nothing but HeymarketWebhooks gets no more than the operator's allow lists grant.

// AllowList holds the keys of annotations or labels that HeymarketWebhooks may set: whole keys, and beginnings of keys that end
// with "*". The zero value allows none.
type AllowList []string

// DefaultKeys is the entry of an allow list that stands for its defaults.
const DefaultKeys = "Default"

// DefaultAnnotations are the annotations that HeymarketWebhooks may set unless the operator says otherwise: what cert-manager,
// external-dns, ingress controllers, Prometheus, service meshes and autoscalers of nodes commonly need, and nothing that runs
// code, redirects requests, loosens authentication, or acts on what belongs to others.
var DefaultAnnotations = AllowList{
	"acme.cert-manager.io/http01-edit-in-place",
	"acme.cert-manager.io/http01-ingress-class",
	"acme.cert-manager.io/http01-ingress-ingressclassname",
	"cert-manager.io/cluster-issuer",
	"cert-manager.io/duration",
	"cert-manager.io/issuer",
	"cert-manager.io/issuer-group",
	"cert-manager.io/issuer-kind",
	"cert-manager.io/private-key-algorithm",
	"cert-manager.io/private-key-rotation-policy",
	"cert-manager.io/private-key-size",
	"cert-manager.io/renew-before",
	"kubernetes.io/tls-acme",

	"external-dns.alpha.kubernetes.io/cloudflare-proxied",
	annotationDNSHostname,
	"external-dns.alpha.kubernetes.io/ttl",

	"kubernetes.io/ingress.allow-http",
	annotationIngressClass,
	"kubernetes.io/ingress.global-static-ip-name",
	"networking.gke.io/managed-certificates",
	"networking.gke.io/v1beta1.FrontendConfig",
	"cloud.google.com/app-protocols",
	"cloud.google.com/backend-config",
	"cloud.google.com/neg",
	"alb.ingress.kubernetes.io/backend-protocol",
	"alb.ingress.kubernetes.io/certificate-arn",
	"alb.ingress.kubernetes.io/healthcheck-*",
	"alb.ingress.kubernetes.io/healthy-threshold-count",
	"alb.ingress.kubernetes.io/ip-address-type",
	"alb.ingress.kubernetes.io/listen-ports",
	"alb.ingress.kubernetes.io/scheme",
	"alb.ingress.kubernetes.io/ssl-policy",
	"alb.ingress.kubernetes.io/ssl-redirect",
	"alb.ingress.kubernetes.io/success-codes",
	"alb.ingress.kubernetes.io/target-type",
	"alb.ingress.kubernetes.io/unhealthy-threshold-count",
	"nginx.ingress.kubernetes.io/allowlist-source-range",
	"nginx.ingress.kubernetes.io/force-ssl-redirect",
	"nginx.ingress.kubernetes.io/limit-burst-multiplier",
	"nginx.ingress.kubernetes.io/limit-connections",
	"nginx.ingress.kubernetes.io/limit-rpm",
	"nginx.ingress.kubernetes.io/limit-rps",
	"nginx.ingress.kubernetes.io/proxy-body-size",
	"nginx.ingress.kubernetes.io/proxy-connect-timeout",
	"nginx.ingress.kubernetes.io/proxy-read-timeout",
	"nginx.ingress.kubernetes.io/proxy-send-timeout",
	"nginx.ingress.kubernetes.io/ssl-redirect",
	"nginx.ingress.kubernetes.io/whitelist-source-range",
	"traefik.ingress.kubernetes.io/router.entrypoints",
	"traefik.ingress.kubernetes.io/router.tls",
	"traefik.ingress.kubernetes.io/router.tls.certresolver",

	"prometheus.io/path",
	"prometheus.io/port",
	"prometheus.io/scheme",
	"prometheus.io/scrape",

	"config.linkerd.io/opaque-ports",
	"config.linkerd.io/proxy-cpu-limit",
	"config.linkerd.io/proxy-cpu-request",
	"config.linkerd.io/proxy-memory-limit",
	"config.linkerd.io/proxy-memory-request",
	"config.linkerd.io/skip-inbound-ports",
	"config.linkerd.io/skip-outbound-ports",
	"consul.hashicorp.com/connect-inject",
	"kuma.io/sidecar-injection",
	"linkerd.io/inject",
	"sidecar.istio.io/inject",
	"sidecar.istio.io/proxyCPU",
	"sidecar.istio.io/proxyCPULimit",
	"sidecar.istio.io/proxyMemory",
	"sidecar.istio.io/proxyMemoryLimit",
	"sidecar.istio.io/rewriteAppHTTPProbers",
	"traffic.sidecar.istio.io/excludeInboundPorts",
	"traffic.sidecar.istio.io/excludeOutboundPorts",

	"cluster-autoscaler.kubernetes.io/safe-to-evict",
	"karpenter.sh/do-not-disrupt",
	"kubectl.kubernetes.io/default-container",
	"kubectl.kubernetes.io/restartedAt",
}

// DefaultLabels are the labels of Pods that HeymarketWebhooks may set unless the operator says otherwise: those of meshes and of
// monitoring, and none that a NetworkPolicy or an admission policy is likely to trust.
var DefaultLabels = AllowList{
	"app.kubernetes.io/component",
	"app.kubernetes.io/part-of",
	"app.kubernetes.io/version",
	"istio.io/dataplane-mode",
	"istio.io/rev",
	"kuma.io/sidecar-injection",
	"sidecar.istio.io/inject",
	"tags.datadoghq.com/env",
	"tags.datadoghq.com/service",
	"tags.datadoghq.com/version",
}

// annotationDNSHostname makes external-dns create names besides the host of the Ingress.
const annotationDNSHostname = "external-dns.alpha.kubernetes.io/hostname"

// ParseAllowList reads a comma separated list of keys such as example.com/team or example.com/*, in which Default stands for
// the given defaults. An error says what is wrong with it.
func ParseAllowList(s string, defaults AllowList) (AllowList, error) {
	out := AllowList{}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		key, beginning := strings.CutSuffix(part, "*")
		switch {
		case part == "":
		case part == DefaultKeys:
			out = append(out, defaults...)
		case beginning && (key == "" || len(validation.IsQualifiedName(key+"x")) == 0),
			!beginning && len(validation.IsQualifiedName(key)) == 0:
			out = append(out, part)
		default:
			return nil, fmt.Errorf("%q is neither a key such as example.com/team, nor the beginning of one with * at its end", part)
		}
	}
	return out, nil
}

// Allows says whether a key may be set.
func (a AllowList) Allows(key string) bool {
	return slices.ContainsFunc(a, func(allowed string) bool {
		beginning, open := strings.CutSuffix(allowed, "*")
		return key == allowed || open && strings.HasPrefix(key, beginning)
	})
}

// checkMetadata refuses annotations and labels that the operator does not allow.
func (r *Reconciler) checkMetadata(now *round) {
	spec, annotations, labels := now.hook.Spec, DefaultAnnotations, DefaultLabels
	if r.Settings.AllowedAnnotations != nil {
		annotations = r.Settings.AllowedAnnotations
	}
	if r.Settings.AllowedLabels != nil {
		labels = r.Settings.AllowedLabels
	}
	if i := spec.Exposure.Ingress; i != nil {
		now.checkAnnotations("spec.exposure.ingress.annotations", i.Annotations, annotations)
	}
	now.checkAnnotations("spec.receiver.podAnnotations", spec.Receiver.PodAnnotations, annotations)
	for _, key := range slices.Sorted(maps.Keys(spec.Receiver.PodLabels)) {
		if !labels.Allows(key) {
			now.refuse(v1alpha1.ReasonLabelNotAllowed,
				"Label %q of spec.receiver.podLabels is not one that HeymarketWebhooks may set: remove it, or have the operator's --allowed-labels allow it.", key)
		}
	}
}

func (now *round) checkAnnotations(field string, annotations map[string]v1alpha1.AnnotationValue, allowed AllowList) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		value := string(annotations[key])
		switch {
		case !allowed.Allows(key):
			now.refuse(v1alpha1.ReasonAnnotationNotAllowed,
				"Annotation %q of %s is not one that HeymarketWebhooks may set: remove it, or have the operator's --allowed-annotations allow it.", key, field)
		case slices.Contains(allowed, "*"): // The operator leaves it to the authors.
		case strings.ContainsFunc(value, unicode.IsControl):
			now.refuse(v1alpha1.ReasonAnnotationNotAllowed,
				"Annotation %q of %s holds a line break or another control character: put its value on one line.", key, field)
		case key == annotationDNSHostname && !now.isHost(value):
			now.refuse(v1alpha1.ReasonAnnotationNotAllowed,
				"Annotation %q of %s names another host than the webhook has, %q: name that one, or remove the annotation.", key, field, cmp.Or(now.input.Host, "none yet"))
		}
	}
}

// isHost says that every name of a comma separated list is the host of the webhook.
func (now *round) isHost(names string) bool {
	for name := range strings.SplitSeq(names, ",") {
		if strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), ".") != now.input.Host || !now.input.HostRequested {
			return false
		}
	}
	return true
}
