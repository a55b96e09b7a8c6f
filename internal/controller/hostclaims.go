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

// indexClaim finds the HeymarketWebhooks by what they claim, see Settings.claims.
const indexClaim = "claim"

// claim is the host and path that an Ingress or HTTPRoute takes. A path begins and ends with "/" and is in lower case, since
// some ingress controllers match without regard to case. An empty host is every host.
type claim struct{ host, path string }

// anyHost stands for every host in the keys of the index.
const anyHost = "*"

// overlaps says whether a request could match both.
func (c claim) overlaps(d claim) bool {
	return (c.host == d.host || c.host == "" || d.host == "") && (strings.HasPrefix(c.path, d.path) || strings.HasPrefix(d.path, c.path))
}

// Keys of the index indexClaim: a claim is found by its exact path, by each path that it lies below, and by its namespace if its
// path is the namespace's own.
func exactKey(host, path string) string    { return host + "=" + path }
func belowKey(host, path string) string    { return host + "<" + path }
func namespaceKey(namespace string) string { return "namespace " + namespace }

// keys are those by which a claim is found.
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

// rivalKeys find every claim that overlaps c.
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

// above are the paths that c lies below, such as /a/ for /a/b/.
func (c claim) above() []string {
	var out []string
	for i := 1; i < len(c.path)-1; i++ {
		if c.path[i] == '/' {
			out = append(out, c.path[:i+1])
		}
	}
	return out
}

// host is the one that hook asks for, by itself or by the operator's template, or "".
func (s Settings) host(hook *v1alpha1.HeymarketWebhook) (string, error) {
	if h := hook.Spec.Exposure.Host; h != "" || s.HostTemplate == nil {
		return h, nil
	}
	return s.HostTemplate.Host(hook.Namespace, hook.Name)
}

// allowsHost says whether hook may name the host that it names. Without --allowed-hosts that is every host but those which the
// template makes for other namespaces.
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

// claim is what hook takes for itself, if anything: only what a route is made for is claimed, and only by those who may.
func (s Settings) claim(hook *v1alpha1.HeymarketWebhook) (claim, bool) {
	host, err := s.host(hook)
	if err != nil || hook.Spec.Exposure.Type == v1alpha1.ExposureNone || !hook.DeletionTimestamp.IsZero() || !s.allowsHost(hook) {
		return claim{}, false
	}
	return claim{host, strings.ToLower(desired.PathPrefix(hook))}, true
}

// claims are the keys by which hook is found by those who claim the same, or by those who claim a path of its namespace.
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

// claimants asks a cache with the index indexClaim.
func claimants(ctx context.Context, webhooks client.Reader, key string) ([]*v1alpha1.HeymarketWebhook, error) {
	return find(ctx, webhooks, "claim a host and path", client.MatchingFields{indexClaim: key})
}

// find returns the HeymarketWebhooks that an index of a cache has for what they do. They are shared and must not be changed.
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

// rivals are the other HeymarketWebhooks whose claims overlap c, in the order of precedence, each once. claimants is like
// Reconciler.Claimants.
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
// with its default path comes first, then the older one; creation in the same second is ordered by namespace and name.
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

// resolveConflict looks for a resource that keeps what this one claims, or whose namespace it names. A resource that is not
// accepted keeps the route that it has, so that one counts instead.
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

// claimOf is what the Ingress or HTTPRoute that exists takes.
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

// slashed is a path in the form that a claim has.
func slashed(path string) string { return strings.ToLower(strings.TrimSuffix(path, "/")) + "/" }

// wakeRivals wakes those who may have to give up what a HeymarketWebhook claims now, or may take what it has claimed before. Of
// those who all wait for one claim that is only the first: the others would go on waiting.
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
				continue // Only a cache that is shut down fails.
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
