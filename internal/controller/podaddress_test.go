package controller

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/contract"
)

// unchecked asks at every address, for tests without Pods.
func unchecked(p *HTTPPodStatus) *HTTPPodStatus {
	p.check = func(context.Context, PodAddress, time.Time) error { return nil }
	return p
}

// EndpointSlices are controlled by tenants. The operator queries an address only if the kubelet has assigned it to a Pod of
// the receiver.
func TestOnlyAddressesOfReceiverPodsAreAsked(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	const rightful = "10.1.0.1"
	pod := func(in *world, name, address string, change func(*corev1.Pod)) {
		t.Helper()
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: in.namespace, Name: name, Labels: contract.PodLabels("support"),
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "support-receiver-abc", UID: "1", Controller: new(true)}},
			},
			Spec: corev1.PodSpec{
				SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
				Containers: []corev1.Container{{Name: "receiver", Image: "i", SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				}}},
			},
		}
		if change != nil {
			change(p)
		}
		in.do(in.person.Create(t.Context(), p))
		p.Status.PodIP, p.Status.PodIPs = address, []corev1.PodIP{{IP: address}}
		in.do(in.person.Status().Update(t.Context(), p))
	}
	pod(w, "ours", rightful, nil)
	pod(other, "theirs", "10.1.0.9", nil)
	pod(w, "unlabelled", "10.1.0.2", func(p *corev1.Pod) { p.Labels = nil })
	pod(w, "of-a-job", "10.1.0.3", func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "Job" })
	pod(w, "of-another", "10.1.0.4", func(p *corev1.Pod) { p.OwnerReferences[0].Name = "sales-receiver-abc" })
	pod(w, "of-nobody", "10.1.0.5", func(p *corev1.Pod) { p.OwnerReferences = nil })

	book := &podAddressBook{pods: w.r.Live}
	at := func(in *world, pod, address string) PodAddress {
		return PodAddress{Webhook: types.NamespacedName{Namespace: in.namespace, Name: "support"}, Pod: pod, Address: netip.MustParseAddr(address)}
	}
	now := time.Now()
	for name, tc := range map[string]struct {
		at   PodAddress
		asks bool
	}{
		"the Pod's own":                           {at(w, "ours", rightful), true},
		"another one, under its name":             {at(w, "ours", "10.96.0.1"), false},
		"one of a Pod of another namespace":       {at(w, "theirs", "10.1.0.9"), false},
		"the same, under the name of an own Pod":  {at(w, "ours", "10.1.0.9"), false},
		"that of a Pod without labels":            {at(w, "unlabelled", "10.1.0.2"), false},
		"that of a Job's Pod":                     {at(w, "of-a-job", "10.1.0.3"), false},
		"that of another webhook's Pod":           {at(w, "of-another", "10.1.0.4"), false},
		"that of a Pod that nobody has made":      {at(w, "of-nobody", "10.1.0.5"), false},
		"that of no Pod":                          {at(w, "gone", rightful), false},
		"one of an endpoint that names no Pod":    {at(w, "", rightful), false},
		"the Pod's own, from the other namespace": {at(other, "ours", rightful), false},
	} {
		if err := book.check(t.Context(), tc.at, now); (err == nil) != tc.asks {
			t.Errorf("%s: %v, want that it is asked: %v", name, err, tc.asks)
		}
	}
	node := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "ours", OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "support-receiver-abc", Controller: new(true)}}}}
	node.Status.PodIPs = []corev1.PodIP{{IP: rightful}}
	for _, host := range []bool{false, true} {
		node.Spec.HostNetwork = host
		if at(w, "ours", rightful).belongsTo(node) == host {
			t.Errorf("a Pod in its node's network (%v) is asked", host)
		}
	}

	// What was found holds for an hour, and costs the API server nothing meanwhile.
	reads := w.writes.read.Load()
	if err := book.check(t.Context(), at(w, "ours", rightful), now.Add(confirmedFor-time.Second)); err != nil || w.writes.read.Load() != reads {
		t.Errorf("%v, %d reads, want none", err, w.writes.read.Load()-reads)
	}
	w.do(w.person.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "ours"}}, client.GracePeriodSeconds(0)))
	if err := book.check(t.Context(), at(w, "ours", rightful), now.Add(confirmedFor+time.Second)); err == nil {
		t.Error("the address of a Pod that is gone is asked after an hour")
	}
}

// The operator does not even connect to an address that is not a receiver Pod's.
func TestAForgedAddressIsNotConnectedTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	defer s.Close()
	listener := netip.MustParseAddrPort(s.Listener.Addr().String())
	p := NewHTTPPodStatus(w.person)
	p.port = listener.Port()
	if _, err := p.Report(t.Context(), PodAddress{Webhook: w.key("support"), Pod: "support-receiver-abc-1", Address: listener.Addr()}); err == nil {
		t.Error("there is a report of a Pod that does not exist")
	}
}
