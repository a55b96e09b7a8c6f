package source

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Namespaces is a source that wakes the HeymarketWebhooks of namespaces whose Redis user has changed.
type Namespaces struct {
	// OnChange registers a function that is called with the namespaces.
	OnChange func(func(namespaces []string))
	// Webhooks is a cache.
	Webhooks client.Reader
}

var _ source.Source = Namespaces{}

// Start implements source.Source.
func (n Namespaces) Start(ctx context.Context, q queue) error {
	n.OnChange(func(namespaces []string) {
		for _, ns := range namespaces {
			if err := enqueueAll(ctx, n.Webhooks, q, client.InNamespace(ns)); err != nil && ctx.Err() == nil {
				log.FromContext(ctx).Error(err, "Cannot give the receivers of a namespace their Redis user", "namespace", ns)
			}
		}
	})
	return nil
}

func (n Namespaces) String() string { return "Redis users of namespaces" }
