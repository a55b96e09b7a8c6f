package controller

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"heymarket.dev/operator/internal/controller/condition"
)

// Annotations and labels on Ingresses, Services and Pods act through other controllers, with those controllers' rights. A user
// who may write only HeymarketWebhooks gets no more than the operator's allow lists grant.

// AllowList holds the keys of annotations or labels that HeymarketWebhooks may set: whole keys, and prefixes that end with "*".
// The zero value allows none.
type AllowList []string

// DefaultKeys is the entry of an allow list that stands for its defaults.
const DefaultKeys = "Default"

// DefaultAnnotations are the annotations that HeymarketWebhooks may set by default: those commonly needed for cert-manager,
// external-dns, ingress controllers, Prometheus, service meshes and node autoscalers, but none that runs code, redirects
// requests, weakens authentication, or affects other owners' objects.
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
	condition.AnnotationDNSHostname,
	"external-dns.alpha.kubernetes.io/ttl",

	"kubernetes.io/ingress.allow-http",
	condition.AnnotationIngressClass,
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

// DefaultLabels are the Pod labels that HeymarketWebhooks may set by default: those of meshes and of monitoring, and none that a
// NetworkPolicy or an admission policy is likely to trust.
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

// ParseAllowList parses a comma-separated list of keys such as example.com/team or example.com/*, in which Default stands for
// the given defaults. Its error describes the mistake.
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
