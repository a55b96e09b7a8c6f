package condition

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/reach"
)

// mostNotice is how long before its expiry a certificate causes a warning; a sixth of the certificate's lifetime if that is less.
// By then it should have been renewed.
const mostNotice = 14 * 24 * time.Hour

// Reachable reports whether the webhook's receiver answers at its public URL, nil if the operator does not probe. It does not
// change until the next probe.
func Reachable(f Facts, _ Writes) *Condition {
	switch {
	case !f.Probes:
		return nil
	case f.Probe == nil:
		return reported(f)
	}
	host, r := f.Input.Host, f.Probe
	switch r.Outcome {
	case reach.NotAsked:
		return nil
	case reach.NoName:
		return False(v1alpha1.ReasonNameNotResolved,
			"The operator finds no address for %q in DNS: create a record for it that points to the ingress controller or Gateway, and check the record with an outside name server, such as dig @1.1.1.1 %s.", host, host)
	case reach.Blocked:
		return False(v1alpha1.ReasonAddressBlocked,
			"The operator does not probe %q, because the name resolves to a %s address: change its DNS record. If the address is private and right, list its network in the operator's --target-addresses.", host, r.Blocked)
	case reach.NoConnection:
		return False(v1alpha1.ReasonNotConnected,
			"The operator cannot connect to port 443 of %q. Many cluster networks cannot reach their own public address (no hairpin NAT), and Heymarket can reach it all the same: try curl -I https://%s from outside the cluster. "+
				"If that fails too, check the load balancer, its firewall and the DNS record.", host, desired.URLHost(host))
	case reach.NoTLS:
		return False(v1alpha1.ReasonCertificateInvalid, "Port 443 of %q does not complete a TLS handshake: check that the ingress controller or Gateway terminates TLS for this host.", host)
	case reach.CertificateExpired:
		return False(v1alpha1.ReasonCertificateInvalid,
			"The certificate of %q has expired, or is not valid yet, so Heymarket does not send: renew it; if cert-manager should have, see kubectl describe certificate -n %s.", host, f.Webhook.Namespace)
	case reach.CertificateOfOther:
		return False(v1alpha1.ReasonCertificateInvalid,
			"The certificate at %q is for other names, so Heymarket does not send: set spec.exposure.ingress.tlsSecretName to a Secret whose certificate has this name, or add the name to the Gateway's listener.", host)
	case reach.CertificateOfController:
		return False(v1alpha1.ReasonCertificateInvalid,
			"The ingress controller presents its own default certificate for %q, because it has none for this host, so Heymarket does not send: set spec.exposure.ingress.tlsSecretName, and check that the Secret exists.", host)
	case reach.CertificateUntrusted:
		return False(v1alpha1.ReasonCertificateInvalid,
			"The certificate of %q is not signed by a public authority, or an intermediate certificate is missing, so Heymarket does not send: use a certificate that browsers trust, with its chain.", host)
	case reach.NoAnswer:
		return False(v1alpha1.ReasonReceiverNotAnswering, "The connection to %q and its certificate are good, but no answer came in time: check the ingress controller or Gateway, and whether a firewall cuts requests off.", host)
	case reach.NoReceiver:
		return False(v1alpha1.ReasonReceiverNotAnswering, "What answers at %q is a proxy that does not reach the receiver: see the condition Available, and check that the proxy's namespace may connect to port 8080 of the receiver Pods.", host)
	case reach.Redirected:
		return False(v1alpha1.ReasonRouteElsewhere, "What answers at %q redirects the request, and Heymarket follows no redirect: exempt the webhook's path from it.", host)
	case reach.Denied:
		return False(v1alpha1.ReasonRouteElsewhere, "What answers at %q demands a login or denies access before the receiver: exempt the webhook's path from it, such as from the ingress controller's authentication, firewall rules or bot protection.", host)
	case reach.AnsweredByOther:
		return False(v1alpha1.ReasonRouteElsewhere,
			"What answers at %q is not the receiver of this webhook: check that the DNS record points to this cluster, and that no other Ingress or HTTPRoute takes the path of status.url.", host)
	}
	return reached(f)
}

// reached reports that the receiver answers, and whether the certificate expires soon.
func reached(f Facts) *Condition {
	r := f.Probe
	notice := min(mostNotice, r.NotAfter.Sub(r.NotBefore)/6)
	if r.NotAfter.Sub(f.Now) > notice {
		return True(v1alpha1.ReasonReachable, "The receiver answers at its public URL, and the certificate is valid.")
	}
	return True(v1alpha1.ReasonCertificateEnding,
		"The certificate of %q, issued by %q, ends on %s, and nothing has renewed it: if cert-manager should have, see kubectl describe certificate -n %s. Once it has ended, Heymarket does not send.",
		f.Input.Host, r.Issuer, r.NotAfter.UTC().Format(time.DateOnly), f.Webhook.Namespace)
}

// reported returns what the status reports, nil if nothing: the operator has started, or the URL has changed, since the last
// probe.
func reported(f Facts) *Condition {
	c := meta.FindStatusCondition(f.Webhook.Status.Conditions, v1alpha1.ConditionReachable)
	if c == nil || f.Webhook.Status.Host != f.Input.Host {
		return nil
	}
	return &Condition{OK: c.Status == metav1.ConditionTrue, Reason: c.Reason, Message: c.Message}
}

// reachableAlarms: a cluster that cannot reach itself emits no event.
var reachableAlarms = only(v1alpha1.ReasonNameNotResolved, v1alpha1.ReasonCertificateInvalid, v1alpha1.ReasonCertificateEnding,
	v1alpha1.ReasonReceiverNotAnswering, v1alpha1.ReasonRouteElsewhere)
