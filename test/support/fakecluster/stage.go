// Package fakecluster plays those parts of a cluster that an API server alone lacks, as far as the operator looks at them:
// Deployments roll out, receiver Pods answer, ingress controller and Gateway admit, KEDA scales, and the garbage collector collects.
// Everything succeeds and takes no time.
package fakecluster

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller"
	"heymarket.dev/operator/internal/controller/desired"
)

// Stage plays for any number of HeymarketWebhooks. Create it with New.
type Stage struct {
	c client.Client

	mu    sync.Mutex
	pods  map[netip.Addr]client.ObjectKey // whose Pods have this address
	first map[client.ObjectKey]netip.Addr
	asked map[client.ObjectKey]int
	// removed has those whose keys a Pod has reported as removed.
	removed map[client.ObjectKey]bool
}

// New returns a Stage that acts through c.
func New(c client.Client) *Stage {
	return &Stage{c: c, pods: map[netip.Addr]client.ObjectKey{}, first: map[client.ObjectKey]netip.Addr{}, asked: map[client.ObjectKey]int{}, removed: map[client.ObjectKey]bool{}}
}

// Play brings the status of the children of one HeymarketWebhook to what a working cluster would report by now. It writes only
// what differs.
func (s *Stage) Play(ctx context.Context, hook client.ObjectKey) error {
	for _, part := range []func(context.Context, client.ObjectKey) error{s.rollOut, s.admitIngress, s.admitRoute, s.takeScaling} {
		if err := part(ctx, hook); client.IgnoreNotFound(err) != nil && !meta.IsNoMatchError(err) {
			return fmt.Errorf("play the cluster of %s: %w", hook, err)
		}
	}
	return nil
}

func receiver(hook client.ObjectKey) client.ObjectKey {
	return client.ObjectKey{Namespace: hook.Namespace, Name: contract.ReceiverName(hook.Name)}
}

func (s *Stage) rollOut(ctx context.Context, hook client.ObjectKey) error {
	d := &appsv1.Deployment{}
	if err := s.c.Get(ctx, receiver(hook), d); err != nil {
		return err
	}
	if !d.DeletionTimestamp.IsZero() {
		// Deleted in the foreground, and there are no Pods to wait for.
		return s.c.Patch(ctx, d, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
	}
	n := ptr.Deref(d.Spec.Replicas, 1)
	if err := s.publish(ctx, hook, d, int(n)); err != nil {
		return err
	}
	before := d.DeepCopy()
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation,
		Replicas:           n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n,
		Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"},
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable"},
		},
	}
	if equality.Semantic.DeepEqual(before.Status, d.Status) {
		return nil
	}
	return s.c.Status().Patch(ctx, d, client.MergeFrom(before))
}

// publish plays the endpoint controller.
func (s *Stage) publish(ctx context.Context, hook client.ObjectKey, d *appsv1.Deployment, n int) error {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: hook.Namespace, Name: d.Name + "-abc"}}
	err := s.c.Get(ctx, client.ObjectKeyFromObject(slice), slice)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	service := &corev1.Service{}
	if err := s.c.Get(ctx, client.ObjectKeyFromObject(d), service); err != nil {
		return client.IgnoreNotFound(err) // The garbage collector is about to remove the Deployment as well.
	}
	before := slice.DeepCopy()
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: d.Name}
	maps.Copy(slice.Labels, d.Labels)
	slice.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))}
	slice.AddressType = discoveryv1.AddressTypeIPv4
	slice.Endpoints = nil
	for _, a := range s.addresses(hook, n) {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{a.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		})
	}
	switch {
	case err != nil:
		return s.c.Create(ctx, slice)
	case equality.Semantic.DeepEqual(before, slice):
		return nil
	}
	return s.c.Update(ctx, slice)
}

// addresses gives each HeymarketWebhook a range of 256 of its own.
func (s *Stage) addresses(hook client.ObjectKey, n int) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.first[hook]
	if !ok {
		i := len(s.first) + 1
		a = netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		s.first[hook] = a
	}
	out := make([]netip.Addr, n)
	for i := range out {
		out[i], a = a, a.Next()
		s.pods[out[i]] = hook
	}
	return out
}

// Report implements controller.PodStatus: a Pod serves what is in its Secret, in good health.
func (s *Stage) Report(ctx context.Context, at controller.PodAddress) (contract.Status, error) {
	s.mu.Lock()
	hook, ok := s.pods[at.Address]
	s.asked[hook]++
	s.mu.Unlock()
	if !ok {
		return contract.Status{}, fmt.Errorf("no Pod has the address %s", at.Address)
	}
	secret := &corev1.Secret{}
	if err := s.c.Get(ctx, receiver(hook), secret); err != nil {
		return contract.Status{}, err
	}
	d := &appsv1.Deployment{}
	if err := s.c.Get(ctx, receiver(hook), d); err != nil {
		return contract.Status{}, err
	}
	if desired.RemovesKeys(d) {
		s.mu.Lock()
		s.removed[hook] = true
		s.mu.Unlock()
		return contract.Status{ConfigDigest: desired.DigestOf(secret.Data), Redis: "ok", Removal: &contract.Removal{Done: true}}, nil
	}
	report := contract.Status{ConfigDigest: desired.DigestOf(secret.Data), Redis: "ok", Durable: true}
	w := &v1alpha1.HeymarketWebhook{}
	if err := s.c.Get(ctx, hook, w); err != nil {
		return contract.Status{}, err
	}
	for _, t := range w.Spec.Targets {
		report.Targets = append(report.Targets, contract.TargetStatus{Name: t.Name, Circuit: contract.CircuitClosed})
	}
	return report, nil
}

// Removed reports whether a Pod has reported that the keys of a HeymarketWebhook are removed.
func (s *Stage) Removed(hook client.ObjectKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removed[hook]
}

// Asked returns how often the Pods of a HeymarketWebhook have been queried.
func (s *Stage) Asked(hook client.ObjectKey) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[hook]
}

func (s *Stage) admitIngress(ctx context.Context, hook client.ObjectKey) error {
	i := &networkingv1.Ingress{}
	if err := s.c.Get(ctx, receiver(hook), i); err != nil {
		return err
	}
	before := i.DeepCopy()
	i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "203.0.113.7"}}
	if equality.Semantic.DeepEqual(before.Status, i.Status) {
		return nil
	}
	return s.c.Status().Patch(ctx, i, client.MergeFrom(before))
}

// admitRoute plays a Gateway and its controller.
func (s *Stage) admitRoute(ctx context.Context, hook client.ObjectKey) error {
	route := &unstructured.Unstructured{}
	route.SetGroupVersionKind(desired.HTTPRouteKind)
	if err := s.c.Get(ctx, receiver(hook), route); err != nil {
		return err
	}
	refs, _, _ := unstructured.NestedSlice(route.Object, "spec", "parentRefs")
	for _, ref := range refs {
		gateway := &unstructured.Unstructured{}
		gateway.SetGroupVersionKind(desired.GatewayKind)
		gateway.SetNamespace(hook.Namespace)
		gateway.SetName(ref.(map[string]any)["name"].(string))
		if err := s.c.Create(ctx, gateway); client.IgnoreAlreadyExists(err) != nil {
			return err
		}
	}
	return s.say(ctx, hook, desired.HTTPRouteKind, func(route *unstructured.Unstructured) map[string]any {
		var parents []any
		for _, ref := range refs {
			parents = append(parents, map[string]any{
				"controllerName": "example.com/gateway", "parentRef": ref,
				"conditions": []any{good("Accepted", route.GetGeneration()), good("ResolvedRefs", route.GetGeneration())},
			})
		}
		return map[string]any{"parents": parents}
	})
}

// takeScaling plays KEDA.
func (s *Stage) takeScaling(ctx context.Context, hook client.ObjectKey) error {
	return s.say(ctx, hook, desired.ScaledObjectKind, func(obj *unstructured.Unstructured) map[string]any {
		return map[string]any{"conditions": []any{good("Ready", obj.GetGeneration())}}
	})
}

func good(condition string, generation int64) map[string]any {
	return map[string]any{
		"type": condition, "status": "True", "reason": condition, "message": "Good.", "observedGeneration": generation,
		"lastTransitionTime": "2026-01-01T00:00:00Z",
	}
}

// say sets the status of a child of another project's kind.
func (s *Stage) say(ctx context.Context, hook client.ObjectKey, kind schema.GroupVersionKind, status func(*unstructured.Unstructured) map[string]any) error {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(kind)
	if err := s.c.Get(ctx, receiver(hook), obj); err != nil {
		return err
	}
	before, now := obj.Object["status"], status(obj)
	if equality.Semantic.DeepEqual(before, any(now)) {
		return nil
	}
	obj.Object["status"] = now
	return s.c.Status().Update(ctx, obj)
}

// Collect plays the garbage collector for objects: it deletes those whose owners are all gone.
func (s *Stage) Collect(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, obj := range objects {
		gone := len(obj.GetOwnerReferences()) > 0
		for _, o := range obj.GetOwnerReferences() {
			owner := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: o.APIVersion, Kind: o.Kind}}
			err := s.c.Get(ctx, client.ObjectKey{Namespace: obj.GetNamespace(), Name: o.Name}, owner)
			if client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("collect garbage: %w", err)
			}
			gone = gone && (err != nil || owner.UID != o.UID)
		}
		if !gone {
			continue
		}
		if err := s.c.Delete(ctx, obj); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("collect garbage: %w", err)
		}
	}
	return nil
}
