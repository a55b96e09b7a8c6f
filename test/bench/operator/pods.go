package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// podNetwork is where the addresses of Pods come from. All of them are local in the network namespace of this program.
const podNetwork = "10.128.0.0/9"

// pods plays Deployment controller, kubelet, endpoint controller and ingress controller, and answers the operator in the
// name of every Pod.
type pods struct {
	server *http.Server

	mu     sync.RWMutex
	status map[netip.Addr][]byte
}

func startPods(ctx context.Context) (*pods, error) {
	p := &pods{status: map[netip.Addr][]byte{}}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("0.0.0.0:%d", contract.OperationsPort)) //nolint:gosec // Every interface of a namespace that has only loopback.
	if err != nil {
		return nil, err
	}
	p.server = &http.Server{Handler: p} //nolint:gosec // Its only client is the operator.
	go func() { _ = p.server.Serve(listener) }()
	return p, nil
}

func (p *pods) stop() { _ = p.server.Close() }

// ServeHTTP answers GET /status for the Pod whose address was dialed.
func (p *pods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	p.mu.RLock()
	status, found := p.status[local.AddrPort().Addr().Unmap()]
	p.mu.RUnlock()
	if !found {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(status)
}

// run brings up two Pods of every resource and an address of its Ingress: seven writes each.
func (p *pods) run(ctx context.Context, c *cluster, hooks []*v1alpha1.HeymarketWebhook) error {
	var secrets corev1.SecretList
	if err := c.admin.List(ctx, &secrets, client.MatchingLabels{contract.LabelManagedBy: contract.ManagedByValue}); err != nil {
		return err
	}
	digests := map[types.NamespacedName]string{}
	for _, s := range secrets.Items {
		if _, found := s.Data[desired.KeyConfig]; found {
			digests[client.ObjectKeyFromObject(&s)] = desired.DigestOf(s.Data)
		}
	}
	return each(ctx, len(hooks), func(ctx context.Context, i int) error {
		key := types.NamespacedName{Namespace: hooks[i].Namespace, Name: contract.ReceiverName(hooks[i].Name)}
		var addresses []string
		for a := range 2 {
			n := i*2 + a
			addr := netip.AddrFrom4([4]byte{10, byte(128 + n>>16), byte(n >> 8), byte(n)})
			addresses = append(addresses, addr.String())
			status, err := json.Marshal(contract.Status{
				ConfigDigest: digests[key], Redis: "ok", Durable: true, Targets: []contract.TargetStatus{{Name: "crm", Circuit: "Closed"}},
			})
			if err != nil {
				return err
			}
			p.mu.Lock()
			p.status[addr] = status
			p.mu.Unlock()
		}
		return c.serve(ctx, hooks[i].Name, key, addresses)
	})
}

// serve reports the status of one resource's children as the cluster's controllers would.
func (c *cluster) serve(ctx context.Context, hook string, key types.NamespacedName, addresses []string) error {
	service := &corev1.Service{}
	if err := c.admin.Get(ctx, key, service); err != nil {
		return err
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name + "-x7k2p",
			Labels: map[string]string{
				discoveryv1.LabelServiceName: key.Name, contract.LabelManagedBy: contract.ManagedByValue, contract.LabelInstance: hook,
			},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for i, a := range addresses {
		pod := fmt.Sprintf("%s-x7k2p-%d", key.Name, i)
		if err := c.pod(ctx, hook, types.NamespacedName{Namespace: key.Namespace, Name: pod}, a); err != nil {
			return err
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod},
		})
	}
	if err := c.admin.Create(ctx, slice); err != nil {
		return err
	}
	meta := metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
	if err := c.patchStatus(ctx, &networkingv1.Ingress{ObjectMeta: meta}, `{"loadBalancer":{"ingress":[{"ip":"203.0.113.7"}]}}`); err != nil {
		return err
	}
	return c.patchStatus(ctx, &appsv1.Deployment{ObjectMeta: meta}, strings.ReplaceAll(
		`{"observedGeneration":1,"replicas":N,"updatedReplicas":N,"readyReplicas":N,"availableReplicas":N,`+
			`"conditions":[{"type":"Progressing","status":"True","reason":"NewReplicaSetAvailable"}]}`, "N", fmt.Sprint(len(addresses))))
}

// pod makes a Pod with this address: the operator asks at no other.
func (c *cluster) pod(ctx context.Context, hook string, key types.NamespacedName, address string) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name, Labels: contract.PodLabels(hook),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: contract.ReceiverName(hook) + "-x7k2p", UID: "bench", Controller: new(true),
			}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "receiver", Image: "receiver"}}},
	}
	if err := c.admin.Create(ctx, pod); err != nil {
		return err
	}
	return c.patchStatus(ctx, pod, fmt.Sprintf(`{"podIP":%q,"podIPs":[{"ip":%q}]}`, address, address))
}

func (c *cluster) patchStatus(ctx context.Context, obj client.Object, status string) error {
	return c.admin.Status().Patch(ctx, obj, client.RawPatch(types.MergePatchType, []byte(`{"status":`+status+`}`)))
}
