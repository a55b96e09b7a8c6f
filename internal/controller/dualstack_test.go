package controller

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

func endpoints(name string, family discoveryv1.AddressType, byPod map[string]string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "a", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: contract.ReceiverName("support")}},
		AddressType: family,
	}
	for pod, address := range byPod {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod},
		})
	}
	return s
}

// A Pod with an address of each IP family is one Pod, and answers if it does so at either.
func TestDualStackPods(t *testing.T) {
	t.Parallel()
	slices := fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(
		endpoints("v4", discoveryv1.AddressTypeIPv4, map[string]string{"one": "10.0.0.1", "two": "10.0.0.2"}),
		endpoints("v6", discoveryv1.AddressTypeIPv6, map[string]string{"one": "fd00::1", "two": "fd00::2"}),
	).Build()
	found, err := listPods(t.Context(), slices, &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "support"}})
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for _, addresses := range found.ready {
		var pod []string
		for _, a := range addresses {
			pod = append(pod, a.Pod+" "+a.Address.String())
		}
		got = append(got, pod)
	}
	if want := "[[one 10.0.0.1 one fd00::1] [two 10.0.0.2 two fd00::2]]"; fmt.Sprint(got) != want {
		t.Errorf("Pods %v, want %s", got, want)
	}
	status := &fakePods{serves: map[string]contract.Status{"fd00::1": {ConfigDigest: "one"}, "10.0.0.2": {ConfigDigest: "two"}}}
	reports := askPods(t.Context(), status, found.ready)
	if len(reports) != 2 || reports[0] == nil || reports[0].ConfigDigest != "one" || reports[1] == nil || reports[1].ConfigDigest != "two" {
		t.Errorf("reports %v", reports)
	}
}
