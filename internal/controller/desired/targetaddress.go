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

// RefusedAddress is a target address to which receivers send no events.
type RefusedAddress struct {
	// Address is the address in the target or its Service.
	Address string
	// Kind is the kind of refused address, such as loopback.
	Kind string
	// Private reports that the operator's settings could allow it.
	Private bool
}

// RefusesTarget returns the address of a target if receivers refuse it, as far as it can be determined without DNS; nil if it
// cannot or they do not. service is the target's Service, nil for a target with a URL.
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

// IsRedis reports whether a target is a node in one of these Redis URLs, as far as it can be determined without DNS. Requests to
// it could only do harm: Redis interprets each line as a command.
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

// redisNodes returns the hosts and ports in a Redis URL; none if it cannot be parsed.
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

// hostPort joins a host and a port, with a canonical spelling of a Service's name.
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

// Policy returns the rules as an address.Policy.
func (t TargetAddresses) Policy() address.Policy {
	policy := address.Policy{DenyPrivate: t.Public}
	for _, n := range t.AndNetworks {
		if p, err := netip.ParsePrefix(n); err == nil { // The flag has been checked.
			policy.AllowNetworks = append(policy.AllowNetworks, p)
		}
	}
	return policy
}
