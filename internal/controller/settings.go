package controller

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// DefaultReceiverUserID is the user of the image.
const DefaultReceiverUserID = desired.ImageUser

// Settings are the operator's settings, from its flags.
type Settings struct {
	// ReceiverImage is the image of the receiver Pods.
	ReceiverImage string
	// ReceiverUserID is the user, group and fsGroup of receiver Pods unless the resource sets others; 0 leaves them to the
	// platform.
	ReceiverUserID int64
	// ReceiverDefaults apply to unset fields of spec.receiver.
	ReceiverDefaults ReceiverDefaults
	// HostTemplate builds the host of resources that set none; nil means that there is no template.
	HostTemplate *HostTemplate
	// AllowedHosts restrict the hosts that resources may set; empty means any except those that HostTemplate yields for other
	// namespaces.
	AllowedHosts AllowedHosts
	// AllowedAnnotations restrict the annotations that resources may set on Ingresses and Pods; nil means DefaultAnnotations.
	AllowedAnnotations AllowList
	// AllowedLabels restrict the labels that resources may set on Pods; nil means DefaultLabels.
	AllowedLabels AllowList
	// IngressClass is the class for resources that set none; empty means the cluster's default class.
	IngressClass string
	// Gateways are the Gateways for resources that name none.
	Gateways Gateways
	// TargetAddresses restrict the addresses of targets.
	TargetAddresses TargetAddresses
	// TrustedProxies are the networks (CIDR) from which receivers trust forwarding headers such as X-Forwarded-For; empty
	// means none.
	TrustedProxies []string
	// Traces configure where receivers send spans; the zero value disables tracing.
	Traces Traces
	// ProbeInterval is how often the public URL of each resource is probed, for the condition Reachable; 0 means never.
	ProbeInterval time.Duration
	// NetworkPolicy configures the NetworkPolicies of receivers; nil means that the operator creates none.
	NetworkPolicy *NetworkPolicy
	// MaxConcurrentRollouts bounds how many receivers roll out at a time after an operator upgrade; 0 means no bound.
	MaxConcurrentRollouts int
	// MaxBacklogBytes bounds each webhook's data in the shared Redis; 0 means a share of its maxmemory.
	MaxBacklogBytes int64
	// Namespaces are the namespaces to manage; empty means all.
	Namespaces []string
	// Liveness records how long reconciles run; may be nil.
	Liveness *Liveness

	// RedisIsolation selects the credential with which receivers log in at the shared Redis; empty means RedisShared.
	RedisIsolation RedisIsolation
	// RedisRotation is the age at which the password of a namespace's Redis user is replaced; 0 means never.
	RedisRotation time.Duration
	// OperatorNamespace is the operator's namespace, required for RedisManaged.
	OperatorNamespace string

	// pollPeriod, exposureTimeout, discoveryPeriod and removalDeadline override the constants in tests.
	pollPeriod, exposureTimeout, discoveryPeriod, removalDeadline time.Duration
	// redisDialer replaces the default dialer in tests.
	redisDialer *net.Dialer
	// prober replaces the reach.Prober in tests.
	prober Prober
}

// ReceiverDefaults replace built-in defaults of spec.receiver.
type ReceiverDefaults = desired.ReceiverDefaults

// ParseReceiverDefaults parses JSON or YAML; its error names the field and the mistake.
func ParseReceiverDefaults(text string) (ReceiverDefaults, error) {
	return desired.ParseReceiverDefaults(text)
}

// TargetAddresses restrict the addresses of targets. The zero value allows any.
type TargetAddresses = desired.TargetAddresses

// Traces configure where receivers send spans. The zero value disables tracing.
type Traces = desired.Traces

// ParseTargetAddresses parses Any, or Public, or Public and a comma-separated list of private networks that are allowed as well.
// Its error describes the mistake.
func ParseTargetAddresses(s string) (TargetAddresses, error) {
	var out TargetAddresses
	for i, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		switch {
		case i == 0 && part == "Any" && part == strings.TrimSpace(s):
			return out, nil
		case i == 0 && part == "Public":
			out.Public = true
		case i == 0:
			return TargetAddresses{}, errors.New("it begins neither with Public nor is it Any alone")
		default:
			n, err := network(part)
			if err != nil {
				return TargetAddresses{}, err
			}
			out.AndNetworks = append(out.AndNetworks, n)
		}
	}
	return out, nil
}

// ParseNetworks parses a comma-separated list of networks such as 10.244.0.0/16. Its error describes the mistake.
func ParseNetworks(s string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		n, err := network(part)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// network parses a network such as 10.96.0.0/12; 10.96.0.1/12 is not one.
func network(s string) (string, error) {
	n, err := netip.ParsePrefix(s)
	if err != nil || n != n.Masked() {
		return "", fmt.Errorf("%q is no network", s)
	}
	return n.String(), nil
}

// Gateways are the Gateways that HTTPRoutes attach to.
type Gateways []v1alpha1.GatewayReference

// ParseGateways parses a comma-separated list of Gateways, each namespace/name. Its error describes the mistake.
func ParseGateways(s string) (Gateways, error) {
	var out Gateways
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		namespace, name, _ := strings.Cut(part, "/")
		if len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
			return nil, fmt.Errorf("%q is not the namespace and the name of a Gateway", part)
		}
		out = append(out, v1alpha1.GatewayReference{Namespace: namespace, Name: name})
	}
	return out, nil
}

// NetworkPolicy configures the NetworkPolicies of receivers.
type NetworkPolicy = desired.NetworkPolicy
