package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// resolveHost climbs the ladder: the resource, the operator's template, then what the cluster says.
func (r *Reconciler) resolveHost(now *round) {
	in, hook := &now.input, now.hook
	host, err := r.Settings.host(hook)
	if err != nil {
		now.refuse(v1alpha1.ReasonInvalidConfiguration,
			"The operator's --host-template makes no valid host for this resource (%s): set spec.exposure.host.", err)
	}
	if !r.Settings.allowsHost(hook) {
		now.refuse(v1alpha1.ReasonHostNotAllowed,
			"Host %q of spec.exposure.host is not one that namespace %q may claim: choose another, remove it, or have the operator's --allowed-hosts permit it.",
			hook.Spec.Exposure.Host, hook.Namespace)
	}
	if in.Host, in.HostRequested = host, host != ""; in.HostRequested {
		return
	}
	switch hook.Spec.Exposure.Type {
	case v1alpha1.ExposureHTTPRoute:
		return
	case v1alpha1.ExposureNone:
		in.Host = desired.ServiceHost(hook.Namespace, hook.Name)
		return
	}
	in.Host = ingressAddress(desired.Ingress.In(now.children))
}

// resolveAddress keeps the segment that is in use. A new one is made up only when everything else is good, and only after
// the API server itself has said what there is (see readChild for one that does not exist).
func (r *Reconciler) resolveAddress(ctx context.Context, now *round) error {
	at, told := time.Now(), now.hook.Status.URLRevision
	configData := data(desired.ConfigSecret.In(now.children))
	address := desired.FindAddress(data(desired.URLSecret.In(now.children)), configData, at)
	now.input.Address = address
	if !now.accepted() {
		return nil
	}
	served := desired.ServedPaths(configData)
	renewed := address.Revision < max(told, now.hook.Spec.Exposure.URLRevision)
	if s := desired.URLSecret.In(now.children); s != nil && (renewed || address.Misses(now.hook, served)) {
		// The cache may not have seen yet that the URL is another one, and what it was before is kept nowhere else.
		fresh := &corev1.Secret{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s), fresh); err != nil {
			return fmt.Errorf("read Secret %s: %w", s.Name, err)
		}
		now.children[desired.URLSecret.Child] = fresh
		address = desired.FindAddress(fresh.Data, configData, at)
	}
	address.Revision = max(address.Revision, told) // The Secret may have lost it.
	latest := ""
	if len(served) > 0 {
		latest = served[0]
	}
	address, err := address.Follow(now.hook, latest, at)
	if err != nil {
		now.refuse(v1alpha1.ReasonInvalidConfiguration, "%s", err)
		return nil
	}
	now.input.Address = address
	return nil
}

func data(s *corev1.Secret) map[string][]byte {
	if s == nil {
		return nil
	}
	return s.Data
}

// ingressAddress is what the ingress controller has published, or "".
func ingressAddress(i *networkingv1.Ingress) string {
	if i == nil {
		return ""
	}
	for _, a := range i.Status.LoadBalancer.Ingress {
		if a.Hostname != "" {
			return a.Hostname
		}
		if a.IP != "" {
			return a.IP
		}
	}
	return ""
}
