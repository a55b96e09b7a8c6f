package faults

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

const smallest = `
token: {secretKeyRef: {name: heymarket}}
targets: [{name: crm, url: 'http://crm.example.com/in'}]
`

// scenario is something that happens in the life of a resource.
type scenario struct {
	name string
	// before is the spec of a resource that is Ready when the scenario begins; "" means that there is none.
	before string
	// restarted means that the operator starts with the scenario, and does not run yet.
	restarted bool
	// act is the action of a person.
	act func(ctx context.Context, p *play) error
	// gone means that nothing is left in the end.
	gone bool
	// purged means that the keys have been removed from Redis.
	purged bool
	// renewed means that the URL is another one in the end. Otherwise not even a fault may change it.
	renewed bool
}

var scenarios = []scenario{
	{name: "create", restarted: true, act: func(ctx context.Context, p *play) error {
		return p.create(ctx, smallest)
	}},
	{name: "create before the Secret", act: func(ctx context.Context, p *play) error {
		if err := p.person.Delete(ctx, token(p)); err != nil {
			return err
		}
		if err := p.create(ctx, smallest); err != nil {
			return err
		}
		return p.secret(ctx, "heymarket", map[string]string{"token": "first"})
	}},
	{name: "update", before: smallest, act: withService(`
token: {secretKeyRef: {name: heymarket}}
targets:
- {name: crm, url: 'http://crm.example.com/other', filter: 'event.type == "message_sent"'}
- {name: erp, service: {name: erp, port: 80}, timeout: 2m}
receiver: {replicas: 1, podLabels: {team: crm}, logLevel: debug}
`)},
	{name: "a bad update, taken back", before: smallest, act: func(ctx context.Context, p *play) error {
		if err := p.update(ctx, smallest+"deduplication: {key: '('}"); err != nil {
			return err
		}
		return p.update(ctx, smallest+"deduplication: {key: event.type}")
	}},
	{name: "rotate", before: smallest, act: func(ctx context.Context, p *play) error {
		if err := p.secret(ctx, "next", map[string]string{"token": "second"}); err != nil {
			return err
		}
		return p.update(ctx, `
token: {secretKeyRef: {name: next}, previousSecretKeyRef: {name: heymarket}}
targets: [{name: crm, url: 'http://crm.example.com/in'}]
`)
	}},
	{name: "expose by HTTPRoute", before: smallest, act: updated(smallest +
		`exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public}]}}`)},
	{name: "expose no more", before: smallest + `exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public}]}}`, act: updated(smallest +
		`exposure: {type: None}`)},
	{name: "expose by Ingress", before: smallest + `exposure: {type: None}`, act: updated(smallest +
		`exposure: {host: hooks.example.com, path: /support}`)},
	{name: "another host", before: smallest, act: updated(smallest + `exposure: {host: hooks.example.com, path: /other}`)},
	{name: "autoscale", before: smallest, act: updated(smallest + `receiver: {autoscaling: {minReplicas: 3, maxReplicas: 9}}`)},
	{name: "autoscale by the backlog", before: smallest + `receiver: {autoscaling: {maxReplicas: 9}}`, act: updated(smallest + `receiver: {autoscaling: {maxReplicas: 9, backlogPerReplica: 100}}`)},
	{name: "renew the URL", before: smallest, renewed: true, act: updated(smallest + `exposure: {urlRevision: 1}`)},
	{name: "autoscale no more", before: smallest + `receiver: {autoscaling: {maxReplicas: 9}}`, act: updated(smallest + `receiver: {replicas: 1}`)},
	{name: "a Redis of its own", before: smallest, act: func(ctx context.Context, p *play) error {
		if err := p.secret(ctx, "redis", map[string]string{"url": "redis://own.example.com:6379"}); err != nil {
			return err
		}
		return p.update(ctx, smallest+`redis: {secretKeyRef: {name: redis, key: url}}`)
	}},
	{name: "children that people harm", before: smallest, act: func(ctx context.Context, p *play) error {
		name := contract.ReceiverName(p.hook.Name)
		if err := p.person.Delete(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: p.hook.Namespace, Name: name}}); err != nil {
			return err
		}
		return p.person.Patch(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: p.hook.Namespace, Name: name}},
			client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}},"spec":{"revisionHistoryLimit":7}}`)))
	}},
	{name: "restart", before: smallest, restarted: true, act: func(context.Context, *play) error { return nil }},
	{name: "delete", before: smallest, gone: true, act: deleted},
	{name: "delete with its keys", before: smallest + `deletionPolicy: Delete`, gone: true, purged: true, act: deleted},
	{name: "keep the keys after all", before: smallest + `deletionPolicy: Delete`, act: updated(smallest)},
	{name: "delete and create again", before: smallest, renewed: true, act: func(ctx context.Context, p *play) error {
		if err := deleted(ctx, p); err != nil {
			return err
		}
		return p.create(ctx, smallest)
	}},
}

func token(p *play) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.hook.Namespace, Name: "heymarket"}}
}

// withService creates the Service "erp", which the spec names.
func withService(spec string) func(context.Context, *play) error {
	return func(ctx context.Context, p *play) error {
		if err := p.person.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.hook.Namespace, Name: "erp"},
			Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone},
		}); err != nil {
			return err
		}
		return p.update(ctx, spec)
	}
}

func updated(spec string) func(context.Context, *play) error {
	return func(ctx context.Context, p *play) error { return p.update(ctx, spec) }
}

// deleted deletes the resource and waits until it is gone, as kubectl delete does.
func deleted(ctx context.Context, p *play) error {
	hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: p.hook.Namespace, Name: p.hook.Name}}
	if err := p.person.Delete(ctx, hook); err != nil {
		return err
	}
	return p.until(ctx, bound, func() (bool, error) {
		err := p.person.Get(ctx, p.hook, hook)
		return err != nil, client.IgnoreNotFound(err)
	})
}
