package desired

import (
	"cmp"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/address"
	"heymarket.dev/operator/internal/receiver/config"
)

// NetworkPolicy configures the NetworkPolicies of receivers.
type NetworkPolicy struct {
	// OperatorNamespace is the operator's namespace, from which it reads the receivers' status.
	OperatorNamespace string
	// EventsFrom are the namespaces from which events are allowed; none means from anywhere.
	EventsFrom []string
	// OperationsFrom are the namespaces besides OperatorNamespace that may reach the operations port, such as that of
	// Prometheus.
	OperationsFrom []string
	// TargetNamespaces are the namespaces, in addition to the webhook's own, to whose Pods receivers may connect if a target or
	// the webhook's own Redis is there; "*" is any.
	TargetNamespaces []string
}

// opens reports whether receivers of a webhook in namespace own may connect to Pods in ns.
func (p NetworkPolicy) opens(own, ns string) bool {
	return ns == own || slices.Contains(p.TargetNamespaces, ns) || slices.Contains(p.TargetNamespaces, "*")
}

// ClosedNamespace returns the namespace of a URL's host if the NetworkPolicy blocks it for receivers in namespace own; empty if the
// policy allows it, or if the URL may lead outside the cluster.
func (p *NetworkPolicy) ClosedNamespace(own, target string) string {
	u, err := url.Parse(target)
	if p == nil || err != nil {
		return ""
	}
	if ns, outside := namespaceOf(own, u.Hostname()); !outside && ns != "" && !p.opens(own, ns) {
		return ns
	}
	return ""
}

// dnsPorts are the ports of resolvers: 53, and on OpenShift 5353 behind a Service's 53. A NetworkPolicy sees the port of the Pod.
var dnsPorts = []int32{53, 5353}

// defaultRedisPort is the port of a Redis URL without one.
const defaultRedisPort = 6379

// outside returns all IPv4 and IPv6 addresses, except those that receivers never dial.
func outside() (v4, v6 *networkingv1ac.IPBlockApplyConfiguration) {
	v4, v6 = networkingv1ac.IPBlock().WithCIDR("0.0.0.0/0"), networkingv1ac.IPBlock().WithCIDR("::/0")
	for _, network := range address.NeverDialed() {
		if network.Addr().Is4() {
			v4.WithExcept(network.String())
		} else {
			v6.WithExcept(network.String())
		}
	}
	return v4, v6
}

var networkPolicyChild = child[networkingv1.NetworkPolicy](Child{
	GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"),
	wanted:           func(in Input) bool { return in.NetworkPolicy != nil },
	build:            func(p plan) any { return networkPolicy(p.Input, p.config) },
})

// networkPolicy allows inbound events and metrics scrapes, and outbound traffic to the destinations in the configuration.
func networkPolicy(in Input, cfg config.Config) *networkingv1ac.NetworkPolicyApplyConfiguration {
	events := networkingv1ac.NetworkPolicyIngressRule().WithPorts(port(corev1.ProtocolTCP, contract.EventsPort))
	if from := in.NetworkPolicy.EventsFrom; len(from) > 0 {
		events.WithFrom(namespaces(from))
	}
	operations := networkingv1ac.NetworkPolicyIngressRule().WithPorts(port(corev1.ProtocolTCP, contract.OperationsPort)).
		WithFrom(namespaces(append([]string{in.NetworkPolicy.OperatorNamespace}, in.NetworkPolicy.OperationsFrom...)))
	return networkingv1ac.NetworkPolicy(contract.ReceiverName(in.Webhook.Name), in.Webhook.Namespace).
		WithLabels(labels(in)).
		WithOwnerReferences(owner(in)).
		WithSpec(networkingv1ac.NetworkPolicySpec().
			WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(selector(in))).
			WithPolicyTypes(networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress).
			WithIngress(events, operations).
			WithEgress(egress(in, cfg)...))
}

// egress identifies the resolver only by its ports: it may be a Pod, or listen on the node itself.
func egress(in Input, cfg config.Config) []*networkingv1ac.NetworkPolicyEgressRuleApplyConfiguration {
	dns := networkingv1ac.NetworkPolicyEgressRule()
	for _, p := range dnsPorts {
		dns.WithPorts(port(corev1.ProtocolUDP, p), port(corev1.ProtocolTCP, p))
	}
	peers := egressPeers{namespaces: map[string]bool{}, ports: map[int32]bool{}}
	// First the destinations set by the resource's author, limited to what the operator allows, then those set by the operator.
	if in.Webhook.Spec.Redis != nil {
		peers.addRedis(in.Webhook.Namespace, in.OwnRedisURL)
	}
	for _, t := range cfg.Targets {
		peers.addURL(in.Webhook.Namespace, t.URL)
	}
	maps.DeleteFunc(peers.namespaces, func(ns string, _ bool) bool { return !in.NetworkPolicy.opens(in.Webhook.Namespace, ns) })
	if in.Webhook.Spec.Redis == nil {
		peers.addRedis(in.Webhook.Namespace, in.SharedRedis.URL)
	}
	if in.Traces.Endpoint != "" {
		peers.addURL(in.Webhook.Namespace, in.Traces.Endpoint)
	}
	return append([]*networkingv1ac.NetworkPolicyEgressRuleApplyConfiguration{dns}, peers.rules()...)
}

// egressPeers are the destinations of a receiver.
type egressPeers struct {
	// namespaces are those of the Pods to reach. A policy applies to the ports of Pods, which cannot be derived from the ports of
	// their Services, so all ports are allowed.
	namespaces map[string]bool
	// ports are the ports of addresses outside the cluster.
	ports map[int32]bool
	// anyPort reports that the ports outside are unknown.
	anyPort bool
}

// addURL adds a target, or a collector. Receivers reject an invalid URL, so it is skipped.
func (w *egressPeers) addURL(own, target string) {
	u, err := url.Parse(target)
	if err != nil {
		return
	}
	number := u.Port()
	if number == "" {
		number = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	w.add(own, u.Hostname(), number)
}

// addRedis adds every node in the URL. Sentinels and Cluster nodes refer clients to further nodes, whose ports the URL does not
// contain.
func (w *egressPeers) addRedis(own, redis string) {
	u, err := url.Parse(redis)
	if err != nil || u.Host == "" {
		return
	}
	more := u.Query()["addr"]
	several := len(more) > 0 || u.Query().Has("master_set")
	for _, address := range append([]string{u.Host}, more...) {
		node := url.URL{Host: address}
		outside := w.add(own, node.Hostname(), cmp.Or(node.Port(), strconv.Itoa(defaultRedisPort)))
		w.anyPort = w.anyPort || outside && several
	}
}

// add reports whether the host may be outside the cluster.
func (w *egressPeers) add(own, host, number string) (outside bool) {
	ns, outside := namespaceOf(own, host)
	if ns != "" {
		w.namespaces[ns] = true
	}
	p, err := strconv.ParseUint(number, 10, 16)
	if outside && err == nil {
		w.ports[int32(p)] = true
	}
	return outside
}

func (w *egressPeers) rules() []*networkingv1ac.NetworkPolicyEgressRuleApplyConfiguration {
	var out []*networkingv1ac.NetworkPolicyEgressRuleApplyConfiguration
	if len(w.namespaces) > 0 {
		out = append(out, networkingv1ac.NetworkPolicyEgressRule().WithTo(namespaces(slices.Collect(maps.Keys(w.namespaces)))))
	}
	if len(w.ports) == 0 {
		return out
	}
	v4, v6 := outside()
	rule := networkingv1ac.NetworkPolicyEgressRule().WithTo(
		networkingv1ac.NetworkPolicyPeer().WithIPBlock(v4), networkingv1ac.NetworkPolicyPeer().WithIPBlock(v6))
	if !w.anyPort {
		for _, p := range slices.Sorted(maps.Keys(w.ports)) {
			rule.WithPorts(port(corev1.ProtocolTCP, p))
		}
	}
	return append(out, rule)
}

// namespaceOf returns the namespace of the Pods behind a host, empty for none, and whether the host may be outside the cluster.
// It interprets a host as a Pod's resolver does: NAME is a Service in the own namespace, NAME.NAMESPACE either a Service or a
// name such as example.com, NAME.NAMESPACE.svc with or without the cluster's domain a Service, and further labels in front denote
// a Pod of it.
func namespaceOf(own, host string) (namespace string, outside bool) {
	if _, err := netip.ParseAddr(host); err == nil {
		return "", true
	}
	name, absolute := strings.CutSuffix(strings.ToLower(host), ".")
	parts := strings.Split(name, ".")
	switch svc := slices.Index(parts, "svc"); {
	case svc >= 2:
		domain := strings.Join(parts[svc+1:], ".")
		namespace, outside = parts[svc-1], domain != "" && domain != "cluster.local"
	case len(parts) == 1 && !absolute:
		namespace = own
	case len(parts) == 2 && !absolute:
		namespace, outside = parts[1], true
	default:
		outside = true
	}
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return "", true
	}
	return namespace, outside
}

func namespaces(names []string) *networkingv1ac.NetworkPolicyPeerApplyConfiguration {
	names = slices.Sorted(slices.Values(names))
	return networkingv1ac.NetworkPolicyPeer().WithNamespaceSelector(metav1ac.LabelSelector().WithMatchExpressions(
		metav1ac.LabelSelectorRequirement().
			WithKey(corev1.LabelMetadataName).
			WithOperator(metav1.LabelSelectorOpIn).
			WithValues(slices.Compact(names)...)))
}

func port(protocol corev1.Protocol, number int32) *networkingv1ac.NetworkPolicyPortApplyConfiguration {
	return networkingv1ac.NetworkPolicyPort().WithProtocol(protocol).WithPort(intstr.FromInt32(number))
}
