// Package snapshot reads what has become of a HeymarketWebhook, the resource and its children, in a form in which those
// of two resources, or of two runs, can be compared.
package snapshot

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/testenv"
)

// State is a resource and its children.
type State struct {
	// Webhook is the normalised resource: finalizers, status, and nothing of the spec. It is nil if there is none.
	Webhook map[string]any
	// Children are normalised, by kind and name, such as "Service/support-receiver".
	Children map[string]map[string]any
	// Objects are the children as they were read.
	Objects []*unstructured.Unstructured
	// Paths are those at which events are accepted, the present one first, with their secret segments. In the normalised
	// objects the segments are called SEGMENT, PREVIOUS1 and so on.
	Paths []string
}

// Kinds are those that the operator may create, by config/rbac, and that the API server knows: a kind of child that is
// added tomorrow is among them, because the operator could not create it otherwise.
func Kinds(mapper meta.RESTMapper) ([]schema.GroupVersionKind, error) {
	root, err := testenv.Root()
	if err != nil {
		return nil, err
	}
	file, err := os.ReadFile(filepath.Join(root, "config", "rbac", "role.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read the operator's rights: %w", err)
	}
	var kinds []schema.GroupVersionKind
	for doc := range bytes.SplitSeq(file, []byte("---\n")) {
		var role rbacv1.ClusterRole
		if err := yaml.Unmarshal(doc, &role); err != nil {
			return nil, fmt.Errorf("read the operator's rights: %w", err)
		}
		if role.Kind != "ClusterRole" {
			continue
		}
		for _, rule := range role.Rules {
			// What is only created, and never applied again, is an Event.
			if !slices.Contains(rule.Verbs, "create") || !slices.Contains(rule.Verbs, "patch") {
				continue
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					kind, err := mapper.KindFor(schema.GroupVersionResource{Group: group, Resource: resource})
					switch {
					case meta.IsNoMatchError(err):
					case err != nil:
						return nil, fmt.Errorf("find the kind of %s: %w", resource, err)
					default:
						kinds = append(kinds, kind)
					}
				}
			}
		}
	}
	return kinds, nil
}

// Read reads the state of the HeymarketWebhook with this key. A child is any object that the resource owns, or that the operator
// labels as the resource's.
func Read(ctx context.Context, c client.Reader, kinds []schema.GroupVersionKind, key client.ObjectKey) (State, error) {
	s := State{Children: map[string]map[string]any{}}
	hook := &unstructured.Unstructured{}
	hook.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("HeymarketWebhook"))
	err := c.Get(ctx, key, hook)
	if client.IgnoreNotFound(err) != nil {
		return State{}, fmt.Errorf("read HeymarketWebhook %s: %w", key, err)
	}
	exists := err == nil
	for _, kind := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := c.List(ctx, list, client.InNamespace(key.Namespace)); err != nil {
			return State{}, fmt.Errorf("list %s: %w", kind.Kind, err)
		}
		for i := range list.Items {
			if isChild(&list.Items[i], key.Name) {
				s.Objects = append(s.Objects, &list.Items[i])
			}
		}
	}
	for _, obj := range s.Objects {
		if obj.GetKind() == "Secret" && obj.GetName() == contract.ReceiverName(key.Name) {
			s.Paths = desired.ServedPaths(secretData(obj))
		}
	}
	names := strings.NewReplacer(s.replacements(key.Namespace)...)
	for _, obj := range s.Objects {
		if s.Children[obj.GetKind()+"/"+obj.GetName()], err = normalised(obj, names); err != nil {
			return State{}, err
		}
	}
	if exists {
		unstructured.RemoveNestedField(hook.Object, "spec")
		if s.Webhook, err = normalised(hook, names); err != nil {
			return State{}, err
		}
	}
	return s, nil
}

func (s State) replacements(namespace string) []string {
	out := []string{namespace, "NAMESPACE"}
	for i, path := range s.Paths {
		name := "SEGMENT"
		if i > 0 {
			name = fmt.Sprintf("PREVIOUS%d", i)
		}
		out = append(out, path[strings.LastIndexByte(path, '/')+1:], name)
	}
	return out
}

func secretData(obj *unstructured.Unstructured) map[string][]byte {
	out := map[string][]byte{}
	encoded, _, _ := unstructured.NestedStringMap(obj.Object, "data")
	for k, v := range encoded {
		if b, err := base64.StdEncoding.DecodeString(v); err == nil {
			out[k] = b
		}
	}
	return out
}

// isChild does not ask for the UID: what an earlier resource of this name has left behind is a leftover of this one.
func isChild(obj *unstructured.Unstructured, hook string) bool {
	for _, o := range obj.GetOwnerReferences() {
		if o.Kind == "HeymarketWebhook" && o.Name == hook {
			return true
		}
	}
	l := obj.GetLabels()
	return l[contract.LabelManagedBy] == contract.ManagedByValue && l[contract.LabelInstance] == hook
}

// decoded converts the data of a Secret to text, and parses JSON in it, so that differences are readable.
func decoded(obj *unstructured.Unstructured) *unstructured.Unstructured {
	obj = obj.DeepCopy()
	if obj.GetKind() != "Secret" {
		return obj
	}
	data := map[string]any{}
	for k, v := range secretData(obj) {
		data[k] = string(v)
		var says any
		if bytes.ContainsAny(v[:min(1, len(v))], "{[") && json.Unmarshal(v, &says) == nil {
			data[k] = says
		}
	}
	obj.Object["data"] = data
	return obj
}

// normalised removes differences between equivalent objects, and names the rest consistently.
func normalised(obj *unstructured.Unstructured, names *strings.Replacer) (map[string]any, error) {
	owned, generation := ownedFields(obj), obj.GetGeneration()
	obj = decoded(obj)
	// Digests of what was asked for hold the owner's UID, which no two histories share.
	unstructured.RemoveNestedField(obj.Object, "metadata", "annotations", "heymarket.dev/applied")
	for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"} {
		unstructured.RemoveNestedField(obj.Object, "metadata", field)
	}
	if owners := obj.GetOwnerReferences(); len(owners) > 0 {
		for i := range owners {
			owners[i].UID = "UID"
		}
		obj.SetOwnerReferences(owners)
	}
	if obj.GetKind() == "Service" {
		for _, field := range []string{"clusterIP", "clusterIPs"} {
			unstructured.RemoveNestedField(obj.Object, "spec", field)
		}
	}
	if obj.GetKind() != "HeymarketWebhook" {
		unstructured.RemoveNestedField(obj.Object, "status") // set by others
	}
	out := timeless(obj.Object, generation).(map[string]any)
	if owned != nil {
		out["owned by "+controller.FieldOwner] = owned
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	out = nil
	return out, json.Unmarshal([]byte(names.Replace(string(text))), &out)
}

// ownedFields are those that the operator has applied: a field that it once set and cannot take back shows here first.
func ownedFields(obj *unstructured.Unstructured) any {
	for _, m := range obj.GetManagedFields() {
		if m.Manager == controller.FieldOwner && m.Operation == metav1.ManagedFieldsOperationApply && m.Subresource == "" && m.FieldsV1 != nil {
			var fields map[string]any
			if err := json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields); err == nil {
				return withoutUID(fields)
			}
		}
	}
	return nil
}

// withoutUID makes the keys of owner references, k:{"uid":"…"}, the same.
func withoutUID(v any) any {
	fields, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for k, v := range fields {
		if strings.HasPrefix(k, `k:{"uid":`) {
			k = "k:uid"
		}
		out[k] = withoutUID(v)
	}
	return out
}

// timeless replaces every time, and a generation that is the present one.
func timeless(v any, generation int64) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = timeless(v[k], generation)
			if k == "observedGeneration" && v[k] == generation {
				v[k] = "PRESENT"
			}
		}
	case []any:
		for i := range v {
			v[i] = timeless(v[i], generation)
		}
	case string:
		if _, err := time.Parse(time.RFC3339, v); err == nil {
			return "TIME"
		}
	}
	return v
}
