package controller

import (
	"reflect"
	"slices"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
)

// What the caches keep of an object. Most of the operator's memory would be the same strings a thousand times: labels, owners,
// the template of the receiver's Pods, the messages of conditions.

// slim removes other managers' managed fields from a child; the operator's own show what it has applied. Strings are shared with
// other objects. Any object that does not look like a child becomes hollow.
func slim(in any) (any, error) {
	obj, err := meta.Accessor(in)
	if err != nil {
		return in, nil //nolint:nilerr // A tombstone, which is about to be dropped.
	}
	fields := slices.DeleteFunc(obj.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool { return f.Manager != FieldOwner })
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
	if d, ok := in.(*appsv1.Deployment); ok {
		internStrings(reflect.ValueOf(&d.Spec.Template))
	}
	return in, nil
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
