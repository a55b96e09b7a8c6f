package desired

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
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

// IsRedis says whether a target is a node that one of these Redis URLs names, as far as that is known without a name server. What
// is sent there could only do harm: Redis reads each line as a command.
func IsRedis(target v1alpha1.Target, namespace string, redisURLs ...string) bool {
	at := ""
	switch {
	case target.Service != nil:
		at = hostPort(target.Service.Name+"."+namespace, strconv.Itoa(int(target.Service.Port)))
	case target.URL != nil:
		if u, err := url.Parse(*target.URL); err == nil {
			at = hostPort(u.Hostname(), cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]))
		}
	}
	for _, redis := range redisURLs {
		if slices.Contains(redisNodes(redis), at) {
			return true
		}
	}
	return false
}

// redisNodes are the hosts and ports that a Redis URL names; none if it cannot be read.
func redisNodes(redis string) (nodes []string) {
	u, err := url.Parse(redis)
	if err != nil || u.Host == "" {
		return nil
	}
	for _, address := range append([]string{u.Host}, u.Query()["addr"]...) {
		node := url.URL{Host: address}
		nodes = append(nodes, hostPort(node.Hostname(), cmp.Or(node.Port(), strconv.Itoa(defaultRedisPort))))
	}
	return nodes
}

// hostPort joins a host and a port, with one spelling of each name of a Service.
func hostPort(host, port string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	host = strings.TrimSuffix(strings.TrimSuffix(host, ".cluster.local"), ".svc")
	return net.JoinHostPort(host, port)
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
	return t.Policy().Refuses(a)
}

// Policy is the rule for addresses in the form that a dialer takes.
func (t TargetAddresses) Policy() address.Policy {
	policy := address.Policy{DenyPrivate: t.Public}
	for _, n := range t.AndNetworks {
		if p, err := netip.ParsePrefix(n); err == nil { // The flag was checked.
			policy.AllowNetworks = append(policy.AllowNetworks, p)
		}
	}
	return policy
}
