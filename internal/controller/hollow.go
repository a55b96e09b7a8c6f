package controller

import (
	"net/netip"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// Anyone may put the operator's labels on any object. The caches keep the content of an object only if it has the name and
// the owner of a child and is small. All others are kept as hollow objects: enough to find them and to wake their owners. A
// child that is hollow is read from the API server.

const (
	// keptSize bounds the content that the caches keep of one object, in bytes as the API server sends them.
	keptSize = 32 << 10
	// keptEndpoints bounds how many endpoints of an EndpointSlice are kept: the maximum that Kubernetes puts into one.
	keptEndpoints = 100
	// hollowAnnotation marks hollow objects, only in memory. Its value is the digest of a Secret's configuration.
	hollowAnnotation = "heymarket.dev/not-cached"
)

// isHollow reports whether a cache has kept only what hollow keeps of the object.
func isHollow(obj client.Object) bool {
	_, hollow := obj.GetAnnotations()[hollowAnnotation]
	return hollow
}

// keepable reports whether the object has the name, owner and size of a child.
func keepable(obj client.Object) bool {
	owner := webhookOf(obj)
	if owner == nil || obj.GetName() != contract.ReceiverName(owner.Name) && obj.GetName() != contract.URLSecretName(owner.Name) {
		return false
	}
	sized, ok := obj.(interface{ Size() int })
	return ok && sized.Size() <= keptSize
}

// webhookOf returns the HeymarketWebhook that the object names as its controller, or nil. It proves nothing: anyone who
// can write the object can set any owner.
func webhookOf(obj client.Object) *metav1.OwnerReference {
	const longestName, longestUID = 253, 64
	c := metav1.GetControllerOfNoCopy(obj)
	if c == nil || c.Kind != "HeymarketWebhook" || c.APIVersion != v1alpha1.GroupVersion.String() ||
		len(c.Name) > longestName || len(c.UID) > longestUID {
		return nil
	}
	return c
}

// hollow returns a new object of the same type without any large part.
func hollow(obj client.Object) client.Object {
	if isHollow(obj) {
		return obj // Caches may transform an object twice.
	}
	out := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(client.Object)
	out.GetObjectKind().SetGroupVersionKind(obj.GetObjectKind().GroupVersionKind())
	out.SetNamespace(obj.GetNamespace())
	out.SetName(obj.GetName())
	out.SetUID(obj.GetUID())
	out.SetResourceVersion(obj.GetResourceVersion())
	out.SetGeneration(obj.GetGeneration())
	out.SetCreationTimestamp(obj.GetCreationTimestamp())
	out.SetDeletionTimestamp(obj.GetDeletionTimestamp())
	out.SetLabels(map[string]string{contract.LabelManagedBy: contract.ManagedByValue})
	if owner := webhookOf(obj); owner != nil {
		out.SetOwnerReferences([]metav1.OwnerReference{*owner.DeepCopy()})
	}
	digest := ""
	if s, ok := obj.(*corev1.Secret); ok {
		digest = desired.DigestOf(s.Data)
	}
	out.SetAnnotations(map[string]string{hollowAnnotation: digest})
	return out
}

// slimMetadata does the same as hollow for kinds whose content is never cached.
func slimMetadata(in any) (any, error) {
	obj, ok := in.(*metav1.PartialObjectMetadata)
	if !ok {
		return in, nil
	}
	out := hollow(obj)
	out.SetAnnotations(nil)
	return out, nil
}

// slimEndpoints keeps of an EndpointSlice only the addresses of its Service, and whether they are ready; nothing of one that
// was not created for the Service it names, and no address that a Pod on another node cannot have: the operator connects to
// them.
func slimEndpoints(in any) (any, error) {
	slice, ok := in.(*discoveryv1.EndpointSlice)
	if !ok {
		return in, nil
	}
	out := hollow(slice).(*discoveryv1.EndpointSlice)
	out.Annotations = nil
	for _, label := range []string{discoveryv1.LabelServiceName, contract.LabelInstance} {
		if value, ok := slice.Labels[label]; ok {
			out.Labels[label] = value
		}
	}
	out.AddressType = slice.AddressType
	service := metav1.GetControllerOfNoCopy(slice)
	if service == nil || service.Kind != "Service" || service.Name != slice.Labels[discoveryv1.LabelServiceName] {
		return out, nil
	}
	out.OwnerReferences = []metav1.OwnerReference{*service.DeepCopy()}
	for _, e := range slice.Endpoints[:min(len(slice.Endpoints), keptEndpoints)] {
		if len(e.Addresses) == 0 || !ofPod(e.Addresses[0]) {
			continue
		}
		kept := discoveryv1.Endpoint{Addresses: []string{e.Addresses[0]}, Conditions: e.Conditions}
		if e.TargetRef != nil {
			kept.TargetRef = &corev1.ObjectReference{Kind: e.TargetRef.Kind, Name: e.TargetRef.Name}
		}
		out.Endpoints = append(out.Endpoints, kept)
	}
	return out, nil
}

// ofPod reports whether a Pod may have the address: not the operator's own host, a cloud's metadata server or a multicast
// group.
func ofPod(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && a.Unmap().IsGlobalUnicast()
}

// configDigest returns the digest of the configuration in a cached Secret.
func configDigest(s *corev1.Secret) string {
	if isHollow(s) {
		return s.Annotations[hollowAnnotation]
	}
	return desired.DigestOf(s.Data)
}
