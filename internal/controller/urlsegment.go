package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// resolveHost uses the host of the resource, then the operator's template, then the address that the cluster reports.
func (r *Reconciler) resolveHost(_ context.Context, f *condition.Facts) error {
	in := &f.Input
	in.Host, f.HostError = r.Settings.host(f.Webhook)
	in.HostRequested = in.Host != ""
	f.HostNotAllowed = !r.Settings.allowsHost(f.Webhook)
	switch t := f.Webhook.Spec.Exposure.Type; {
	case in.HostRequested, t == v1alpha1.ExposureHTTPRoute:
	case t == v1alpha1.ExposureNone:
		in.Host = desired.ServiceHost(f.Webhook.Namespace, f.Webhook.Name)
	default:
		in.Host = condition.IngressAddress(desired.Ingress.In(f.Children))
	}
	return nil
}

// resolveURL keeps the secret segment in use. A new one is generated only if there is no other mistake. It replaces one that exists
// only after the API server itself has confirmed which that is; if the caches lack its Secret, creating one fails, see marked.
func (r *Reconciler) resolveURL(ctx context.Context, f *condition.Facts) error {
	told, secret, configData := f.Webhook.Status.URLRevision, desired.URLSecret.In(f.Children), condition.Data(desired.ConfigSecret.In(f.Children))
	address := desired.FindAddress(condition.Data(secret), configData, f.Now)
	f.Input.Address = address
	if f.Mistake != nil {
		return nil
	}
	served := desired.ServedPaths(configData)
	renewed := address.Revision < max(told, f.Webhook.Spec.Exposure.URLRevision)
	if secret != nil && (renewed || address.Misses(f.Webhook, served)) {
		// The cache may not contain the latest URL yet, and its predecessor is stored nowhere else.
		fresh := &corev1.Secret{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(secret), fresh); err != nil {
			return fmt.Errorf("read Secret %s: %w", secret.Name, err)
		}
		f.Children[desired.URLSecret.Child] = fresh
		address = desired.FindAddress(fresh.Data, configData, f.Now)
	}
	address.Revision = max(address.Revision, told) // The Secret may have lost it.
	latest := ""
	if len(served) > 0 {
		latest = served[0]
	}
	address, err := address.Follow(f.Webhook, latest, f.Now)
	if err != nil {
		f.Mistake = condition.Invalid(err)
		return nil
	}
	f.Input.Address = address
	return nil
}
