package controller

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/contract"
)

// PodAddress is an address of a receiver Pod from an EndpointSlice. It is untrusted: anyone with write access to EndpointSlices
// in the namespace can set it.
type PodAddress struct {
	// Webhook is the HeymarketWebhook of the Pod.
	Webhook types.NamespacedName
	// Pod is the Pod's name.
	Pod     string
	Address netip.Addr
}

const (
	// confirmedFor is how long a confirmed address counts as that Pod's.
	confirmedFor = time.Hour
	// confirmedAddresses is the number of addresses from which on expired ones are removed.
	confirmedAddresses = 1024
)

// podAddressBook verifies which addresses belong to receiver Pods: it reads each Pod from the API server, and caches the result
// for an hour. So the operator connects to no address that a tenant has made up.
type podAddressBook struct {
	pods client.Reader

	mu        sync.Mutex
	confirmed map[PodAddress]time.Time // until when
}

// check returns an error unless the address belongs to a Pod that a receiver's ReplicaSet created, and that Pod is not on the
// host's network.
func (b *podAddressBook) check(ctx context.Context, a PodAddress, now time.Time) error {
	b.mu.Lock()
	known := now.Before(b.confirmed[a])
	b.mu.Unlock()
	if known {
		return nil
	}
	var list corev1.PodList
	if err := b.pods.List(ctx, &list, client.InNamespace(a.Webhook.Namespace), client.MatchingLabels(contract.PodLabels(a.Webhook.Name)),
		client.MatchingFields{metav1.ObjectNameField: a.Pod}, client.Limit(1)); err != nil {
		return fmt.Errorf("read Pod %s: %w", a.Pod, err)
	}
	if !slices.ContainsFunc(list.Items, a.belongsTo) {
		return fmt.Errorf("%s is no address of a receiver Pod %q", a.Address, a.Pod)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.confirmed == nil {
		b.confirmed = map[PodAddress]time.Time{}
	}
	if len(b.confirmed) >= confirmedAddresses {
		for other, until := range b.confirmed {
			if now.After(until) {
				delete(b.confirmed, other)
			}
		}
	}
	b.confirmed[a] = now.Add(confirmedFor)
	return nil
}

// belongsTo reports whether pod is the Pod of a, and the kubelet has assigned it the address.
func (a PodAddress) belongsTo(pod corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(&pod)
	return pod.Name == a.Pod && !pod.Spec.HostNetwork &&
		owner != nil && owner.Kind == "ReplicaSet" && strings.HasPrefix(owner.Name, contract.ReceiverName(a.Webhook.Name)+"-") &&
		slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool {
			address, err := netip.ParseAddr(ip.IP)
			return err == nil && address == a.Address
		})
}
