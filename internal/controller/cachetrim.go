package controller

import (
	"reflect"
	"slices"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// What the caches keep of an object: what the operator reads. Most of its memory would be the template of the receiver's Pods, and
// the same strings a thousand times: labels, owners, the messages of conditions.

// slim removes other managers' managed fields from a child, and the content that is not read; the operator's own managed fields show
// what it has applied. Strings are shared with other objects. Any object that does not look like a child becomes hollow.
func slim(in any) (any, error) {
	obj, err := meta.Accessor(in)
	if err != nil {
		return in, nil //nolint:nilerr // A tombstone, which is about to be dropped.
	}
	fields := slices.DeleteFunc(obj.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager != FieldOwner && f.Manager != replicasOwner // handOverReplicas reads both.
	})
	labels, owners := obj.GetLabels(), obj.GetOwnerReferences()
	internStrings(reflect.ValueOf(&fields))
	internStrings(reflect.ValueOf(&labels))
	internStrings(reflect.ValueOf(&owners))
	obj.SetManagedFields(fields)
	obj.SetLabels(labels)
	obj.SetOwnerReferences(owners)
	if child, ok := in.(client.Object); ok && !keepable(child) {
		return hollow(child), nil
	}
	slimContent(in)
	return in, nil
}

// slimContent removes the parts of a child that the operator does not read. Whether they are as it has applied them, the managed
// fields show.
func slimContent(child any) {
	switch c := child.(type) {
	case *appsv1.Deployment:
		kept := appsv1.DeploymentSpec{Replicas: c.Spec.Replicas, Paused: c.Spec.Paused, Template: c.Spec.Template}
		if c.Annotations[annotationAppliedTemplate] != "" { // Otherwise isUpgrade compares the template itself.
			kept.Template = corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: desired.ContainerName, Image: desired.ReceiverImage(c)}}}}
		}
		c.Spec = kept
		internStrings(reflect.ValueOf(&c.Spec.Template))
		internStrings(reflect.ValueOf(&c.Status.Conditions))
	case *corev1.Service:
		c.Spec, c.Status = corev1.ServiceSpec{}, corev1.ServiceStatus{}
	case *networkingv1.NetworkPolicy:
		c.Spec = networkingv1.NetworkPolicySpec{}
	case *policyv1.PodDisruptionBudget:
		c.Spec, c.Status = policyv1.PodDisruptionBudgetSpec{}, policyv1.PodDisruptionBudgetStatus{}
	case *autoscalingv2.HorizontalPodAutoscaler:
		c.Spec, c.Status = autoscalingv2.HorizontalPodAutoscalerSpec{}, autoscalingv2.HorizontalPodAutoscalerStatus{}
	}
}

// slimWebhook removes all managed fields of a HeymarketWebhook, since the operator writes no part of its spec, and its
// annotations, which belong to the user and can be large.
func slimWebhook(in any) (any, error) {
	if hook, ok := in.(*v1alpha1.HeymarketWebhook); ok {
		hook.ManagedFields = nil
		hook.Annotations = nil
		internStrings(reflect.ValueOf(&hook.Status.Conditions))
	}
	return in, nil
}

// internStrings replaces every string below v, a pointer, by an equal one seen since the last garbage collection: at startup,
// when the caches fill, that is nearly all of them. Strings that no object uses are not kept.
func internStrings(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(unique.Make(v.String()).Value())
		}
	case reflect.Pointer:
		if !v.IsNil() {
			internStrings(v.Elem())
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() { // Unexported fields may be shared, such as the zone of a time.
				internStrings(value)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			internStrings(v.Index(i))
		}
	case reflect.Map:
		if v.Len() == 0 || !v.CanSet() || v.Type().Key().Kind() != reflect.String {
			return
		}
		// Assigning to an existing key keeps the old key string, so the map is rebuilt.
		shared := reflect.MakeMapWithSize(v.Type(), v.Len())
		for entry := v.MapRange(); entry.Next(); {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.Set(entry.Key())
			value.Set(entry.Value())
			internStrings(key)
			internStrings(value)
			shared.SetMapIndex(key, value)
		}
		v.Set(shared)
	default: // Numbers, booleans, and types that Kubernetes objects do not contain.
	}
}
