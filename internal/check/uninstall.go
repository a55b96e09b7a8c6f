package check

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
)

// NoWebhookLeft returns an error with the remedy if a HeymarketWebhook exists in the given namespaces; none means all.
func NoWebhookLeft(ctx context.Context, c client.Reader, namespaces []string) error {
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	for _, ns := range namespaces {
		var hooks v1alpha1.HeymarketWebhookList
		err := c.List(ctx, &hooks, client.InNamespace(ns), client.Limit(1))
		switch {
		case meta.IsNoMatchError(err): // The CustomResourceDefinition no longer exists.
			return nil
		case err != nil:
			return fmt.Errorf("list HeymarketWebhooks: %w", err)
		case len(hooks.Items) > 0:
			return fmt.Errorf("HeymarketWebhook %s/%s exists, and the release would remove it with the CustomResourceDefinition, because crds.keep is false. "+
				"Delete all while the operator runs, with kubectl delete heymarketwebhooks --all --all-namespaces, and uninstall again; "+
				"or keep them with helm upgrade --reset-then-reuse-values --set crds.keep=true", hooks.Items[0].Namespace, hooks.Items[0].Name)
		}
	}
	return nil
}
