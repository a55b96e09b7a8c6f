package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// workers of every client here.
	workers = 16
	// perNamespace is how many resources share one namespace.
	perNamespace = 25
)

// childKinds are those of the smallest resource's children, of which there are two Secrets.
var childKinds = []schema.GroupVersionResource{
	{Version: "v1", Resource: "secrets"},
	{Version: "v1", Resource: "services"},
	{Group: "apps", Version: "v1", Resource: "deployments"},
	{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
}

// childrenEach is the number of children of one resource.
const childrenEach = 6

// each calls f for 0 to n-1 from a number of workers, and returns the first error.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

func namespaces(n int) int { return (n + perNamespace - 1) / perNamespace }

// apply creates n small HeymarketWebhooks over many namespaces, each with its token's Secret.
func apply(ctx context.Context, c *cluster, n int) ([]*v1alpha1.HeymarketWebhook, error) {
	err := each(ctx, namespaces(n), func(ctx context.Context, i int) error {
		name := fmt.Sprintf("team-%d", i)
		if err := c.namespace(ctx, name); err != nil {
			return err
		}
		return c.admin.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "heymarket"},
			StringData: map[string]string{"token": "0123456789abcdef0123456789abcdef"},
		})
	})
	if err != nil {
		return nil, err
	}
	hooks := make([]*v1alpha1.HeymarketWebhook, n)
	return hooks, each(ctx, n, func(ctx context.Context, i int) error {
		hooks[i] = &v1alpha1.HeymarketWebhook{
			ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("team-%d", i/perNamespace), Name: fmt.Sprintf("support-%d", i%perNamespace)},
			Spec: v1alpha1.HeymarketWebhookSpec{
				Token:   v1alpha1.Token{SecretKeyRef: v1alpha1.TokenReference{Name: "heymarket", Key: "token"}},
				Targets: []v1alpha1.Target{{Name: "crm", URL: new("http://crm.example.com/heymarket")}},
			},
		}
		return c.admin.Create(ctx, hooks[i])
	})
}

// creation is one object to be created by a POST of ready bytes.
type creation struct {
	kind      schema.GroupVersionResource
	namespace string
	body      []byte
}

// controls are the children of the resources without owners, in namespaces of their own.
func controls(hooks []*v1alpha1.HeymarketWebhook) ([]creation, error) {
	template, err := parseHostTemplate()
	if err != nil {
		return nil, err
	}
	var out []creation
	for _, h := range hooks {
		h = h.DeepCopy()
		h.Namespace = "raw-" + h.Namespace
		host, err := template.Host(h.Namespace, h.Name)
		if err != nil {
			return nil, err
		}
		o, err := desired.Build(desired.Input{
			Webhook: h, Address: desired.Address{Segment: desired.NewSegment()}, Host: host, HostRequested: true, SharedRedis: desired.SharedRedis{URL: redisURL}, Image: image,
		})
		if err != nil {
			return nil, err
		}
		for _, child := range o.Children {
			if child.Object == nil {
				continue
			}
			body, err := json.Marshal(child.Object)
			if err != nil {
				return nil, err
			}
			resource, _ := meta.UnsafeGuessKindToResource(child.GroupVersionKind)
			// The operator must not take them for its own.
			body = bytes.ReplaceAll(body, []byte(`"`+contract.ManagedByValue+`"`), []byte(`"somebody-else-here"`))
			out = append(out, creation{kind: resource, namespace: h.Namespace, body: body})
		}
	}
	return out, nil
}

// create creates one of them.
func (c *cluster) create(ctx context.Context, o creation) error {
	path := "/apis/" + o.kind.Group + "/" + o.kind.Version
	if o.kind.Group == "" {
		path = "/api/" + o.kind.Version
	}
	return c.raw.Post().AbsPath(path, "namespaces", o.namespace, o.kind.Resource).
		SetHeader("Content-Type", "application/json").Body(o.body).Do(ctx).Error()
}

// crowd creates Secrets that are none of the operator's business.
func crowd(ctx context.Context, c *cluster, n, size int) error {
	const spread = 100
	if err := each(ctx, spread, func(ctx context.Context, i int) error { return c.namespace(ctx, fmt.Sprintf("crowd-%d", i)) }); err != nil {
		return err
	}
	data := map[string][]byte{"data": bytes.Repeat([]byte("0123456789abcdef"), size/16)}
	return each(ctx, n, func(ctx context.Context, i int) error {
		return c.admin.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("crowd-%d", i%spread), Name: fmt.Sprintf("secret-%d", i)},
			Data:       data,
		})
	})
}

// ready reports how many resources are Ready.
func ready(ctx context.Context, c *cluster) (n int, err error) {
	var list v1alpha1.HeymarketWebhookList
	if err := c.admin.List(ctx, &list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}}); err != nil {
		return 0, err
	}
	for _, h := range list.Items {
		for _, cond := range h.Status.Conditions {
			if cond.Type == v1alpha1.ConditionReady && cond.Status == metav1.ConditionTrue {
				n++
			}
		}
	}
	return n, nil
}
