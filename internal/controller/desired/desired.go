// Package desired builds the child objects of a HeymarketWebhook. It is pure: from an Input it returns apply configurations,
// and the same Input always yields the same bytes. Its builders set only the fields that the operator manages; the golden files
// in testdata are what is applied.
package desired

import (
	"fmt"
	"slices"
	"strings"

	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
)

// Keys of the two Secrets.
const (
	KeyConfig   = "config.json"
	KeyRedisURL = "redis-url"
	KeyRedisCA  = "redis-ca.crt"
	KeyURL      = "url"
	KeySegment  = "segment"
	KeyRevision = "revision"
	KeyPrevious = "previous"
)

// StatusTimeout is how long a receiver may wait for Redis before it answers a request for /status.
const StatusTimeout = config.StatusTimeout

// ContainerName is the name of the receiver's container in its Pod.
const ContainerName = "receiver"

// Input is all data from which the child objects are built.
type Input struct {
	// Webhook is the resource, with the API server's defaults.
	Webhook *v1alpha1.HeymarketWebhook
	// Address is the secret part of the URL, and its previous paths.
	Address
	// Host is the host of the URL; empty if it is not known yet.
	Host string
	// HostRequested reports that Host is set by the resource or the operator's template, and was not read from the Ingress:
	// only then does the Ingress request it.
	HostRequested bool
	// Conflict reports that Host and path belong to another resource, so the webhook must not be exposed.
	Conflict bool
	// SharedRedis holds the connection settings of the shared Redis, copied into the configuration Secret unless the resource
	// has its own.
	SharedRedis SharedRedis
	// OwnRedisURL is the URL of the resource's own Redis, empty without one. Receivers read it from the user's Secret; here it
	// only provides the addresses that the NetworkPolicy must allow.
	OwnRedisURL string
	// Image is the receiver's image.
	Image string
	// UserID is the user, group and fsGroup of the Pods unless the resource sets others; 0 leaves them to the platform.
	UserID int64
	// ReceiverDefaults apply to unset fields of spec.receiver.
	ReceiverDefaults ReceiverDefaults
	// TargetAddresses restrict the addresses of targets.
	TargetAddresses TargetAddresses
	// TrustedProxies are the networks (CIDR) whose forwarding headers receivers trust for a sender's address.
	TrustedProxies []string
	// MaxBacklogBytes bounds the resource's data in the shared Redis; 0 means a share of its maxmemory.
	MaxBacklogBytes int64
	// Traces configure the receivers' tracing.
	Traces Traces
	// Gateways are the Gateways for an HTTPRoute whose resource names none.
	Gateways []v1alpha1.GatewayReference
	// KEDA reports that the cluster has ScaledObjects.
	KEDA bool
	// FirstReplicas reports that the Deployment needs a number of replicas although an autoscaler will set it: a new Deployment
	// has no number to keep.
	FirstReplicas bool
	// IngressClass is used when the resource names none; empty means the cluster's default class.
	IngressClass string
	// NetworkPolicy configures the NetworkPolicy; nil means none.
	NetworkPolicy *NetworkPolicy
}

// TargetAddresses restrict the addresses of targets, in addition to those to which no receiver sends. The zero value allows
// any.
type TargetAddresses struct {
	// Public refuses private ranges.
	Public bool
	// AndNetworks (CIDR) are exempt from Public.
	AndNetworks []string
}

// WebhookOfReceiver returns the name of the webhook whose children, except one, have the given name.
func WebhookOfReceiver(receiver string) string { return strings.TrimSuffix(receiver, "-receiver") }

// ReservedKey reports whether a Secret's key has the name of a generated one, for this webhook or a future one: such a Secret
// can become the operator's after a reference to it was accepted.
func ReservedKey(secret, key string) bool {
	switch {
	case strings.HasSuffix(secret, contract.URLSecretName("")):
		return slices.Contains([]string{KeyURL, KeySegment, KeyRevision, KeyPrevious}, key)
	case strings.HasSuffix(secret, contract.ReceiverName("")):
		return slices.Contains([]string{KeyConfig, KeyRedisURL, KeyRedisCA}, key)
	}
	return false
}

func labels(in Input) map[string]string {
	l := selector(in)
	l[contract.LabelManagedBy] = contract.ManagedByValue
	return l
}

// selector must never change: a Deployment's selector is immutable.
func selector(in Input) map[string]string { return contract.PodLabels(in.Webhook.Name) }

// owner makes the resource the controller of a child, so that the garbage collector removes the child with it.
// blockOwnerDeletion is omitted: it would require the right to update finalizers, and nothing waits for it.
func owner(in Input) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).
		WithKind("HeymarketWebhook").
		WithName(in.Webhook.Name).
		WithUID(in.Webhook.UID).
		WithController(true)
}

func pathPrefix(in Input) string { return PathPrefix(in.Webhook) }

// PathPrefix returns the path of w's URL without the secret segment: it begins and ends with "/".
func PathPrefix(w *v1alpha1.HeymarketWebhook) string {
	if p := w.Spec.Exposure.Path; p != "" {
		return p + "/"
	}
	return fmt.Sprintf("/%s/%s/", w.Namespace, w.Name)
}
