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

// Settings are the operator's own, from its flags.
type Settings struct {
	// ReceiverImage is the image of the receiver Pods.
	ReceiverImage string
	// ReceiverUserID is the user, group and fsGroup of receiver Pods unless the resource names others; 0 leaves them to the platform.
	ReceiverUserID int64
	// ReceiverDefaults are used where resources leave fields of spec.receiver out.
	ReceiverDefaults ReceiverDefaults
	// HostTemplate makes the host of resources that name none; nil means that there is no such rule.
	HostTemplate *HostTemplate
	// AllowedHosts bound the hosts that resources may name; empty means any but those that HostTemplate makes for other
	// namespaces.
	AllowedHosts AllowedHosts
	// AllowedAnnotations bound the annotations that resources may set on Ingresses and Pods; nil means DefaultAnnotations.
	AllowedAnnotations AllowList
	// AllowedLabels bound the labels that resources may set on Pods; nil means DefaultLabels.
	AllowedLabels AllowList
	// IngressClass of resources that name none; empty means the cluster's default class.
	IngressClass string
	// Gateways are those that resources attach to which name none.
	Gateways Gateways
	// TargetAddresses say where targets may be.
	TargetAddresses TargetAddresses
	// TrustedProxies are the networks (CIDR) from which receivers trust forwarding headers such as X-Forwarded-For; empty
	// means none.
	TrustedProxies []string
	// Traces say where receivers send spans of what they do; the zero value means nowhere.
	Traces Traces
	// ProbeInterval is how often the public URL of each resource is probed, for the condition Reachable; 0 means never.
	ProbeInterval time.Duration
	// NetworkPolicy shuts receivers off by NetworkPolicies; nil means that the operator makes none.
	NetworkPolicy *NetworkPolicy
	// MaxConcurrentRollouts bounds how many receivers roll at a time because the operator is a new version; 0 means no bound.
	MaxConcurrentRollouts int
	// MaxBacklogBytes bounds what each webhook may have in the shared Redis; 0 means a share of what Redis may hold.
	MaxBacklogBytes int64
	// Namespaces to work in; empty means all.
	Namespaces []string
	// Liveness notes how long reconciles run; nil if nothing asks for it.
	Liveness *Liveness

	// RedisIsolation says by which credential receivers log in at the shared Redis; empty means RedisShared.
	RedisIsolation RedisIsolation
	// RedisRotation is the age at which the password of a namespace's Redis user is replaced; 0 means never.
	RedisRotation time.Duration
	// OperatorNamespace is where the operator runs. RedisManaged needs it.
	OperatorNamespace string

	// pollPeriod, exposureTimeout, discoveryPeriod and removalDeadline are others than the constants, in tests.
	pollPeriod, exposureTimeout, discoveryPeriod, removalDeadline time.Duration
	// redisDialer is another than a plain one, in tests.
	redisDialer *net.Dialer
	// prober takes the place of a reach.Prober, in tests.
	prober Prober
}

// ReceiverDefaults replace built-in defaults of spec.receiver.
type ReceiverDefaults = desired.ReceiverDefaults

// ParseReceiverDefaults reads them from JSON or YAML; its error names the field and the fault.
func ParseReceiverDefaults(text string) (ReceiverDefaults, error) {
	return desired.ParseReceiverDefaults(text)
}

// TargetAddresses say where targets may be. The zero value is anywhere.
type TargetAddresses = desired.TargetAddresses

// Traces say where receivers send spans of what they do. The zero value is nowhere.
type Traces = desired.Traces

// ParseTargetAddresses reads Any, or Public, or Public and a comma separated list of private networks that are allowed
// besides. An error says what is wrong with it.
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

// ParseNetworks reads a comma separated list of networks such as 10.244.0.0/16. An error says what is wrong with it.
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

// network reads a network such as 10.96.0.0/12; 10.96.0.1/12 is none.
func network(s string) (string, error) {
	n, err := netip.ParsePrefix(s)
	if err != nil || n != n.Masked() {
		return "", fmt.Errorf("%q is no network", s)
	}
	return n.String(), nil
}

// Gateways are what HTTPRoutes attach to.
type Gateways []v1alpha1.GatewayReference

// ParseGateways reads a comma separated list of Gateways, each namespace/name. An error says what is wrong with it.
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

// NetworkPolicy says who may reach receivers where NetworkPolicies shut them off.
type NetworkPolicy = desired.NetworkPolicy
