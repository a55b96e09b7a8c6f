package desired

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// optionalObject returns a child of a kind that not every cluster has.
func optionalObject(in Input, kind schema.GroupVersionKind, spec map[string]any) *unstructured.Unstructured {
	own := map[string]any{}
	for k, v := range labels(in) {
		own[k] = v
	}
	out := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{
			"name":      contract.ReceiverName(in.Webhook.Name),
			"namespace": in.Webhook.Namespace,
			"labels":    own,
			"ownerReferences": []any{map[string]any{
				"apiVersion": v1alpha1.GroupVersion.String(),
				"kind":       "HeymarketWebhook",
				"name":       in.Webhook.Name,
				"uid":        string(in.Webhook.UID),
				"controller": true,
			}},
		},
		"spec": spec,
	}}
	out.SetGroupVersionKind(kind)
	return out
}
