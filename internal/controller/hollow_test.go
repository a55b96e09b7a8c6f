package controller

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// labelled is the metadata of an object that carries the operator's labels and as much else as one may write.
func labelled(name string, owners ...metav1.OwnerReference) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "team", Name: name, UID: "1", ResourceVersion: "7", OwnerReferences: owners,
		Labels:        map[string]string{contract.LabelManagedBy: contract.ManagedByValue, discoveryv1.LabelServiceName: "support-receiver"},
		Annotations:   map[string]string{"notes": strings.Repeat("a", 200<<10)},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: FieldOwner, FieldsV1: metav1.NewFieldsV1(strings.Repeat("f", 100<<10))}},
	}
}

func ownedBy(webhook string) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "HeymarketWebhook", Name: webhook, UID: "2", Controller: new(true)}
}

// It measures allocated memory, so it does not run in parallel.
func TestCachesKeepLittleOfLabelledObjects(t *testing.T) { //nolint:paralleltest // what others allocate counts as well
	const objects, most = 1000, 2 << 20
	large := func() []byte { return make([]byte, 1<<20) }
	for name, tt := range map[string]struct {
		make func(i int) client.Object
		slim func(any) (any, error)
	}{
		"Secrets": {func(i int) client.Object {
			return &corev1.Secret{ObjectMeta: labelled(fmt.Sprint("secret-", i)), Data: map[string][]byte{"blob": large()}}
		}, slim},
		"Secrets with a forged owner": {func(i int) client.Object {
			return &corev1.Secret{ObjectMeta: labelled(fmt.Sprintf("s%d-url", i), ownedBy(fmt.Sprint("s", i))), Data: map[string][]byte{"blob": large()}}
		}, slim},
		"Services": {func(i int) client.Object { return &corev1.Service{ObjectMeta: labelled(fmt.Sprint("service-", i))} }, slim},
		"Ingresses": {func(i int) client.Object {
			return &networkingv1.Ingress{ObjectMeta: labelled(fmt.Sprint("ingress-", i))}
		}, slim},
		"Deployments": {func(i int) client.Object {
			return &appsv1.Deployment{ObjectMeta: labelled(fmt.Sprint("deployment-", i))}
		}, slim},
		"EndpointSlices": {func(i int) client.Object {
			return &discoveryv1.EndpointSlice{ObjectMeta: labelled(fmt.Sprint("slice-", i)), Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{"10.0.0.1"}, DeprecatedTopology: map[string]string{"zone": strings.Repeat("z", 200<<10)},
			}}}
		}, slimEndpoints},
		"metadata": {func(i int) client.Object {
			return &metav1.PartialObjectMetadata{ObjectMeta: labelled(fmt.Sprint("route-", i))}
		}, slimMetadata},
	} {
		kept := make([]any, 0, objects)
		before := heap()
		for i := range objects {
			obj, err := tt.slim(tt.make(i))
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, obj)
		}
		if took := heap() - before; took > most {
			t.Errorf("1,000 %s take %d KiB of the caches, want at most %d", name, took>>10, most>>10)
		} else {
			t.Logf("1,000 %s: %d KiB", name, took>>10)
		}
		runtime.KeepAlive(kept)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestCachesKeepChildren(t *testing.T) {
	t.Parallel()
	config := map[string][]byte{desired.KeyConfig: []byte("{}")}
	child := func(name string, owner metav1.OwnerReference, data map[string][]byte) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{owner}}, Data: data}
	}
	controllerless := ownedBy("support")
	controllerless.Controller = nil
	for name, tt := range map[string]struct {
		secret *corev1.Secret
		hollow bool
	}{
		"the configuration":                   {child("support-receiver", ownedBy("support"), config), false},
		"the URL":                             {child("support-url", ownedBy("support"), config), false},
		"another name":                        {child("other-url", ownedBy("support"), config), true},
		"an owner that is not the controller": {child("support-url", controllerless, config), true},
		"a large one":                         {child("support-receiver", ownedBy("support"), map[string][]byte{desired.KeyConfig: make([]byte, keptSize)}), true},
	} {
		digest := desired.DigestOf(tt.secret.Data)
		got, err := slim(tt.secret)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = slim(got); err != nil { // Caches may do it twice.
			t.Fatal(err)
		}
		kept := got.(*corev1.Secret)
		if isHollow(kept) != tt.hollow || tt.hollow == (len(kept.Data) > 0) {
			t.Errorf("%s: hollow %v with %d keys, want hollow %v", name, isHollow(kept), len(kept.Data), tt.hollow)
		}
		if configDigest(kept) != digest || kept.Name != tt.secret.Name {
			t.Errorf("%s: digest or name is lost", name)
		}
	}
}

// A child that is hollow in the caches is read from the API server: here one that is too large to be kept.
func TestHollowChildrenAreReadFromTheAPIServer(t *testing.T) {
	w := settled(t)
	w.r.Client = hollowing{w.r.Client}
	w.quiet()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
}

// hollowing is a client whose caches keep no content.
type hollowing struct{ client.Client }

func (h hollowing) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if err := h.Client.Get(ctx, key, obj, opts...); err != nil {
		return err
	}
	switch obj := obj.(type) {
	case *corev1.Secret:
		*obj = *hollow(obj).(*corev1.Secret)
	case *appsv1.Deployment:
		*obj = *hollow(obj).(*appsv1.Deployment)
	}
	return nil
}

func TestOnlyAddressesOfTheServicesPodsAreKept(t *testing.T) {
	t.Parallel()
	service := metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: "support-receiver", UID: "3", Controller: new(true)}
	endpoints := func(owners ...metav1.OwnerReference) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{ObjectMeta: labelled("support-receiver-x", owners...)}
		for _, a := range []string{"10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0", "224.0.0.1", "name", "2001:db8::1"} {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
		}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{})
		return s
	}
	other := service
	other.Name = "other"
	for name, tt := range map[string]struct {
		slice *discoveryv1.EndpointSlice
		want  string
	}{
		"of the Service":        {endpoints(service), "10.0.0.1 2001:db8::1"},
		"of another Service":    {endpoints(other), ""},
		"of nobody":             {endpoints(), ""},
		"of a HeymarketWebhook": {endpoints(ownedBy("support")), ""},
	} {
		got, err := slimEndpoints(tt.slice)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = slimEndpoints(got); err != nil { // Caches may do it twice.
			t.Fatal(err)
		}
		var addresses []string
		for _, e := range got.(*discoveryv1.EndpointSlice).Endpoints {
			addresses = append(addresses, e.Addresses...)
		}
		if s := strings.Join(addresses, " "); s != tt.want {
			t.Errorf("%s: addresses %q are kept, want %q", name, s, tt.want)
		}
	}
}
