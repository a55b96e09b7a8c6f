package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// indexClaim indexes the HeymarketWebhooks by their claims, see Settings.claims.
const indexClaim = "claim"

// claim is the host and path of an Ingress or HTTPRoute. A path begins and ends with "/" and is in lower case, since some
// ingress controllers match case-insensitively. An empty host means every host.
type claim struct{ host, path string }

// anyHost stands for every host in the keys of the index.
const anyHost = "*"

// overlaps reports whether a request could match both.
func (c claim) overlaps(d claim) bool {
	return (c.host == d.host || c.host == "" || d.host == "") && (strings.HasPrefix(c.path, d.path) || strings.HasPrefix(d.path, c.path))
}

// Keys of the index indexClaim: a claim is found by its exact path, by each path above it, and by its namespace if its path is
// the namespace's own.
func exactKey(host, path string) string    { return host + "=" + path }
func belowKey(host, path string) string    { return host + "<" + path }
func namespaceKey(namespace string) string { return "namespace " + namespace }

// keys returns the index keys of a claim.
func (c claim) keys() []string {
	var out []string
	for _, host := range []string{c.host, anyHost} {
		out = append(out, exactKey(host, c.path), belowKey(host, c.path))
		for _, above := range c.above() {
			out = append(out, belowKey(host, above))
		}
	}
	return out
}

// rivalKeys returns the keys of every claim that overlaps c.
func (c claim) rivalKeys() []string {
	hosts := []string{c.host, ""}
	if c.host == "" {
		hosts = []string{anyHost}
	}
	var out []string
	for _, host := range hosts {
		out = append(out, belowKey(host, c.path))
		for _, above := range c.above() {
			out = append(out, exactKey(host, above))
		}
	}
	return out
}

// above returns the paths above c, such as /a/ for /a/b/.
func (c claim) above() []string {
	var out []string
	for i := 1; i < len(c.path)-1; i++ {
		if c.path[i] == '/' {
			out = append(out, c.path[:i+1])
		}
	}
	return out
}

// host returns the host that hook requests, by itself or by the operator's template, or "".
func (s Settings) host(hook *v1alpha1.HeymarketWebhook) (string, error) {
	if h := hook.Spec.Exposure.Host; h != "" || s.HostTemplate == nil {
		return h, nil
	}
	return s.HostTemplate.Host(hook.Namespace, hook.Name)
}

// allowsHost reports whether hook may set its host. Without --allowed-hosts it may set any host except those that the template
// yields for other namespaces.
func (s Settings) allowsHost(hook *v1alpha1.HeymarketWebhook) bool {
	host := hook.Spec.Exposure.Host
	if host == "" {
		return true
	}
	if len(s.AllowedHosts) > 0 {
		return s.AllowedHosts.Allow(hook.Namespace, hook.Name, host)
	}
	return s.HostTemplate == nil || !s.HostTemplate.makesFor(hook.Namespace, host)
}

// claim returns what hook claims, if anything: only a resource that gets a route and may use the host claims it.
func (s Settings) claim(hook *v1alpha1.HeymarketWebhook) (claim, bool) {
	host, err := s.host(hook)
	if err != nil || hook.Spec.Exposure.Type == v1alpha1.ExposureNone || !hook.DeletionTimestamp.IsZero() || !s.allowsHost(hook) {
		return claim{}, false
	}
	return claim{host, strings.ToLower(desired.PathPrefix(hook))}, true
}

// claims returns the keys by which hook is found by resources that claim the same, or a path of its namespace.
func (s Settings) claims(hook *v1alpha1.HeymarketWebhook) []string {
	c, found := s.claim(hook)
	if !found {
		return nil
	}
	out := c.keys()
	if condition.OwnPath(hook) {
		out = append(out, namespaceKey(hook.Namespace))
	}
	return out
}

// claimants queries a cache with the index indexClaim.
func claimants(ctx context.Context, webhooks client.Reader, key string) ([]*v1alpha1.HeymarketWebhook, error) {
	return find(ctx, webhooks, "claim a host and path", client.MatchingFields{indexClaim: key})
}

// find returns the HeymarketWebhooks in an index of a cache. what is the purpose, for errors. The results are shared and must
// not be changed.
func find(ctx context.Context, webhooks client.Reader, what string, by ...client.ListOption) ([]*v1alpha1.HeymarketWebhook, error) {
	var hooks v1alpha1.HeymarketWebhookList
	if err := webhooks.List(ctx, &hooks, append(by, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil, fmt.Errorf("find the HeymarketWebhooks that %s: %w", what, err)
	}
	out := make([]*v1alpha1.HeymarketWebhook, len(hooks.Items))
	for i := range hooks.Items {
		out[i] = &hooks.Items[i]
	}
	return out, nil
}

// rivals returns the other HeymarketWebhooks whose claims overlap c, in the order of precedence, without duplicates. claimants
// is like Reconciler.Claimants.
func (s Settings) rivals(ctx context.Context, c claim, of *v1alpha1.HeymarketWebhook,
	claimants func(context.Context, string) ([]*v1alpha1.HeymarketWebhook, error),
) ([]*v1alpha1.HeymarketWebhook, error) {
	found := map[client.ObjectKey]*v1alpha1.HeymarketWebhook{}
	for _, key := range c.rivalKeys() {
		hooks, err := claimants(ctx, key)
		if err != nil {
			return nil, err
		}
		for _, h := range hooks {
			if theirs, claims := s.claim(h); claims && theirs.overlaps(c) {
				found[client.ObjectKeyFromObject(h)] = h
			}
		}
	}
	delete(found, client.ObjectKeyFromObject(of))
	out := make([]*v1alpha1.HeymarketWebhook, 0, len(found))
	for _, h := range found {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b *v1alpha1.HeymarketWebhook) int {
		if precedes(a, b) {
			return -1
		}
		return 1
	})
	return out, nil
}

// precedes orders resources whose claims overlap, so that all reconciles agree on which one keeps a host and path: a resource
// with its default path precedes others, then the older one precedes; creation in the same second is ordered by namespace and
// name.
func precedes(a, b *v1alpha1.HeymarketWebhook) bool {
	if own := condition.OwnPath(a); own != condition.OwnPath(b) {
		return own
	}
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	if a.Namespace != b.Namespace {
		return a.Namespace < b.Namespace
	}
	return a.Name < b.Name
}

// resolveConflict looks for a resource that keeps the claim of this one, or whose namespace its path names. A resource that is
// not accepted keeps its existing route, so its claim is that route's.
func (r *Reconciler) resolveConflict(ctx context.Context, f *condition.Facts) error {
	c, claims := r.Settings.claim(f.Webhook)
	if f.Mistake != nil {
		c, claims = claimOf(f.Children)
	}
	if !claims {
		return nil
	}
	rivals, err := r.Settings.rivals(ctx, c, f.Webhook, r.Claimants)
	if err != nil {
		return err
	}
	if len(rivals) > 0 && precedes(rivals[0], f.Webhook) {
		f.Rival = rivals[0]
	}
	first, _, _ := strings.Cut(c.path[1:], "/")
	if first != f.Webhook.Namespace {
		namesakes, err := r.Claimants(ctx, namespaceKey(first))
		if err != nil {
			return err
		}
		if len(namesakes) > 0 {
			f.ForeignNamespace = first
		}
	}
	f.Input.Conflict = f.Conflicts()
	return nil
}

// claimOf returns the claim of the existing Ingress or HTTPRoute.
func claimOf(c desired.Children) (claim, bool) {
	ingress, route := desired.Ingress.In(c), desired.HTTPRoute.In(c)
	switch {
	case ingress != nil:
		for _, rule := range ingress.Spec.Rules {
			if rule.HTTP != nil && len(rule.HTTP.Paths) > 0 {
				return claim{rule.Host, slashed(rule.HTTP.Paths[0].Path)}, true
			}
		}
	case route != nil:
		rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
		for _, rule := range rules {
			fields, _ := rule.(map[string]any)
			matches, _, _ := unstructured.NestedSlice(fields, "matches")
			for _, match := range matches {
				fields, _ := match.(map[string]any)
				if path, found, _ := unstructured.NestedString(fields, "path", "value"); found {
					return claim{strings.Join(routeHosts(route), ","), slashed(path)}, true
				}
			}
		}
	}
	return claim{}, false
}

func routeHosts(route *unstructured.Unstructured) []string {
	hosts, _, _ := unstructured.NestedStringSlice(route.Object, "spec", "hostnames")
	return hosts
}

// slashed returns a path in the form of a claim.
func slashed(path string) string { return strings.ToLower(strings.TrimSuffix(path, "/")) + "/" }

// wakeRivals wakes the resources that may have to give up what a HeymarketWebhook claims now, or may take over what it claimed
// before. Of several that wait for one claim it wakes only the first: the others would keep waiting.
func wakeRivals(webhooks client.Reader, settings Settings) handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	claiming := func(ctx context.Context, key string) ([]*v1alpha1.HeymarketWebhook, error) {
		return claimants(ctx, webhooks, key)
	}
	wake := func(ctx context.Context, q queue, changed ...client.Object) {
		for _, obj := range changed {
			hook := obj.(*v1alpha1.HeymarketWebhook).DeepCopy()
			hook.DeletionTimestamp = nil
			c, claims := settings.claim(hook)
			if !claims {
				continue
			}
			rivals, err := settings.rivals(ctx, c, hook, claiming)
			if err != nil {
				continue // Fails only if the cache is shut down.
			}
			var heirs []claim
			for _, rival := range rivals {
				theirs, _ := settings.claim(rival)
				if !slices.ContainsFunc(heirs, theirs.overlaps) {
					heirs = append(heirs, theirs)
					q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(rival)})
				}
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { wake(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { wake(ctx, q, e.ObjectOld, e.ObjectNew) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { wake(ctx, q, e.Object) },
	}
}
