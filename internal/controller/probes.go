package controller

import (
	"context"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/reach"
)

// Prober probes a webhook's public URL, see reach.Prober.
type Prober interface {
	Probe(ctx context.Context, webhook string, segments []string) reach.Result
}

// probes holds the last probe of each resource.
type probes struct {
	interval time.Duration
	prober   Prober

	mu   sync.Mutex
	last map[types.UID]probe
}

// probe is a completed probe.
type probe struct {
	url    string
	at     time.Time
	result reach.Result
}

// result returns the result of the last probe of a URL, nil if there is none.
func (p *probes) result(uid types.UID, url string) *reach.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, ok := p.last[uid]; ok && last.url == url {
		return &last.result
	}
	return nil
}

// keep stores a probe, and drops those of deleted resources.
func (p *probes) keep(uid types.UID, made probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.last, func(_ types.UID, other probe) bool { return made.at.Sub(other.at) > 3*p.interval })
	if p.last == nil {
		p.last = map[types.UID]probe{}
	}
	p.last[uid] = made
}

// due reports whether an interval has passed since the last probe of a URL.
func (p *probes) due(uid types.UID, url string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.last[uid]
	return last.url != url || now.Sub(last.at) >= p.interval
}

// needsReconcile probes the URL of a resource if that is due, and reports whether its condition Reachable changes.
func (p *probes) needsReconcile(ctx context.Context, caches client.Reader, key client.ObjectKey) bool {
	hook, secret := &v1alpha1.HeymarketWebhook{}, &corev1.Secret{}
	if caches.Get(ctx, key, hook) != nil || !hook.DeletionTimestamp.IsZero() || !meta.IsStatusConditionTrue(hook.Status.Conditions, v1alpha1.ConditionExposed) {
		return false // Deleted in the meantime, or there is nothing to probe yet.
	}
	if caches.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: contract.URLSecretName(key.Name)}, secret) != nil {
		return false
	}
	url := string(secret.Data[desired.KeyURL])
	if !p.due(hook.UID, url, time.Now()) {
		return false
	}
	result := p.prober.Probe(ctx, url, desired.Segments(secret.Data))
	if ctx.Err() != nil {
		return false
	}
	p.keep(hook.UID, probe{url, time.Now(), result})
	wanted := condition.Reachable(condition.Facts{
		Now: time.Now(), Webhook: hook, Input: desired.Input{Host: hook.Status.Host}, Probes: true, Probe: &result,
	}, condition.Writes{})
	is := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionReachable)
	if wanted == nil || is == nil {
		return (wanted == nil) != (is == nil)
	}
	return is.Reason != wanted.Reason || is.Message != wanted.Message
}
