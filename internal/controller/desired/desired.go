// Package desired says which child objects a HeymarketWebhook asks for. It is pure: an Input goes in, apply
// configurations come out, and the same Input always yields the same bytes. Its builders set only the fields that the
// operator has an opinion about; the golden files in testdata are what is applied.
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

// StatusTimeout is how long a receiver may wait for Redis before it answers /status.
const StatusTimeout = config.StatusTimeout

// ContainerName is the name of the receiver's container in its Pod.
const ContainerName = "receiver"

// Input is every fact that the child objects are made from.
type Input struct {
	// Webhook is the resource, with the API server's defaults filled in.
	Webhook *v1alpha1.HeymarketWebhook
	// Address is the secret part of the URL, and what was its path before.
	Address
	// Host is the host of the URL; empty if it is not known (yet).
	Host string
	// HostRequested says that Host was asked for by the resource or the operator's template, and not learnt from the
	// Ingress: only then does the Ingress ask for it.
	HostRequested bool
	// Conflict says that Host and path belong to another resource, so there is to be no way from outside.
	Conflict bool
	// SharedRedis is how the shared Redis is reached, copied into the configuration Secret unless the resource has its own.
	SharedRedis SharedRedis
	// OwnRedisURL is the URL of the resource's own Redis, empty without one. Receivers read it from the user's Secret; here it
	// only names the addresses that the NetworkPolicy must allow.
	OwnRedisURL string
	// Image of the receiver.
	Image string
	// UserID is the user, group and fsGroup of the Pods unless the resource names others; 0 leaves them to the platform.
	UserID int64
	// ReceiverDefaults are used where spec.receiver leaves fields out.
	ReceiverDefaults ReceiverDefaults
	// TargetAddresses say where targets may be.
	TargetAddresses TargetAddresses
	// TrustedProxies are the networks (CIDR) whose word receivers take for a sender's address.
	TrustedProxies []string
	// MaxBacklogBytes bounds what the resource may have in the shared Redis; 0 means a share of what Redis may hold.
	MaxBacklogBytes int64
	// Traces say where receivers send spans of what they do.
	Traces Traces
	// Gateways are those that an HTTPRoute attaches to which names none.
	Gateways []v1alpha1.GatewayReference
	// KEDA says that the cluster has ScaledObjects.
	KEDA bool
	// FirstReplicas says that the Deployment is to have a number of replicas although an autoscaler will choose it: one
	// that does not exist yet has no number to keep.
	FirstReplicas bool
	// IngressClass is used when the resource names none; empty means the cluster's default class.
	IngressClass string
	// NetworkPolicy asks for a NetworkPolicy; nil means none.
	NetworkPolicy *NetworkPolicy
}

// TargetAddresses say where targets may be, besides what no receiver sends to. The zero value is anywhere.
type TargetAddresses struct {
	// Public refuses private ranges.
	Public bool
	// AndNetworks (CIDR) are allowed in spite of Public.
	AndNetworks []string
}

// WebhookOfReceiver is the name of the webhook whose children but one have the given name.
func WebhookOfReceiver(receiver string) string { return strings.TrimSuffix(receiver, "-receiver") }

// ReservedKey says whether a key of a Secret has the place of one that the operator makes, for this webhook or for one that may
// come: such a Secret can become the operator's after a reference to it was accepted.
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
// blockOwnerDeletion is left out: it would need the right to update finalizers, and nothing waits for it.
func owner(in Input) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).
		WithKind("HeymarketWebhook").
		WithName(in.Webhook.Name).
		WithUID(in.Webhook.UID).
		WithController(true)
}

func pathPrefix(in Input) string { return PathPrefix(in.Webhook) }

// PathPrefix is the path of w's URL without the secret segment: it begins and ends with "/".
func PathPrefix(w *v1alpha1.HeymarketWebhook) string {
	if p := w.Spec.Exposure.Path; p != "" {
		return p + "/"
	}
	return fmt.Sprintf("/%s/%s/", w.Namespace, w.Name)
}
