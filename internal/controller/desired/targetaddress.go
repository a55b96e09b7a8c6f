package desired

import (
	"net/netip"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/address"
)

// RefusedAddress is the address of a target to which receivers send no events.
type RefusedAddress struct {
	// Address is as the target or its Service has it.
	Address string
	// Kind says what is wrong with it, such as loopback.
	Kind string
	// Private says that the operator's settings could allow it.
	Private bool
}

// RefusesTarget says whether receivers refuse the address of a target, as far as it is known without a name server; nil if it
// is not known or they do not. The Service is that of the target, nil for one with a URL.
func (t TargetAddresses) RefusesTarget(target v1alpha1.Target, service *corev1.Service) *RefusedAddress {
	var known []string
	switch {
	case service != nil && service.Spec.Type != corev1.ServiceTypeExternalName && service.Spec.ClusterIP != corev1.ClusterIPNone:
		known = service.Spec.ClusterIPs
	case target.URL != nil:
		if u, err := url.Parse(*target.URL); err == nil {
			known = []string{u.Hostname()}
		}
	}
	for _, host := range known {
		if kind := t.refuses(host); kind != "" {
			return &RefusedAddress{Address: host, Kind: kind, Private: kind == address.Private}
		}
	}
	return nil
}

func (t TargetAddresses) refuses(host string) string {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return "loopback"
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	policy := address.Policy{DenyPrivate: t.Public}
	for _, n := range t.AndNetworks {
		if p, err := netip.ParsePrefix(n); err == nil { // The flag was checked.
			policy.AllowNetworks = append(policy.AllowNetworks, p)
		}
	}
	return policy.Refuses(a)
}
