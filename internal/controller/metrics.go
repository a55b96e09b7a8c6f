package controller

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// scrapeTimeout bounds how long a scrape waits for the caches.
const scrapeTimeout = 5 * time.Second

// reasonBytes bounds a reason in a label, because anyone who can write a status can set it.
const reasonBytes = 64

// RegisterMetrics registers the operator's own metrics, see docs/reference/metrics.md. They are read from the caches at each scrape,
// so that the series of a HeymarketWebhook end with it, and no request reaches the API server.
func RegisterMetrics(registry prometheus.Registerer, caches client.Reader, version string) error {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "heymarket_operator_build_info", Help: "1, labelled by the version of the operator and of Go.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	if err := registry.Register(build); err != nil {
		return err
	}
	return registry.Register(newWebhookMetrics(caches))
}

// webhookMetrics describe every HeymarketWebhook: its conditions, and its receivers.
type webhookMetrics struct {
	caches                   client.Reader
	condition, wanted, ready *prometheus.Desc
}

func newWebhookMetrics(caches client.Reader) *webhookMetrics {
	return &webhookMetrics{
		caches: caches,
		condition: prometheus.NewDesc("heymarket_webhook_condition",
			"1 for the present status and reason of each condition of a HeymarketWebhook.", []string{"namespace", "name", "type", "status", "reason"}, nil),
		wanted: prometheus.NewDesc("heymarket_webhook_receivers_wanted",
			"Receiver Pods that a HeymarketWebhook should have.", []string{"namespace", "name"}, nil),
		ready: prometheus.NewDesc("heymarket_webhook_receivers_ready",
			"Receiver Pods of a HeymarketWebhook that are ready.", []string{"namespace", "name"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *webhookMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.condition
	ch <- m.wanted
	ch <- m.ready
}

// Collect implements prometheus.Collector. Without filled caches there is nothing to report.
func (m *webhookMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var hooks v1alpha1.HeymarketWebhookList
	if err := m.caches.List(ctx, &hooks, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	var deployments appsv1.DeploymentList
	if err := m.caches.List(ctx, &deployments, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	receivers := make(map[client.ObjectKey]*appsv1.Deployment, len(deployments.Items))
	for i := range deployments.Items {
		receivers[client.ObjectKeyFromObject(&deployments.Items[i])] = &deployments.Items[i]
	}
	for i := range hooks.Items {
		hook := &hooks.Items[i]
		m.conditions(ch, hook)
		if hook.DeletionTimestamp.IsZero() {
			m.receivers(ch, hook, receivers[client.ObjectKey{Namespace: hook.Namespace, Name: contract.ReceiverName(hook.Name)}])
		}
	}
}

func (m *webhookMetrics) conditions(ch chan<- prometheus.Metric, hook *v1alpha1.HeymarketWebhook) {
	for _, c := range hook.Status.Conditions {
		if !condition.Known(c.Type) {
			continue // written by others
		}
		reason := c.Reason[:min(len(c.Reason), reasonBytes)]
		ch <- prometheus.MustNewConstMetric(m.condition, prometheus.GaugeValue, 1, hook.Namespace, hook.Name, c.Type, string(c.Status), reason)
	}
}

// receivers omits a webhook that has never had any receivers: its condition Accepted has the reason.
func (m *webhookMetrics) receivers(ch chan<- prometheus.Metric, hook *v1alpha1.HeymarketWebhook, d *appsv1.Deployment) {
	wanted, ready := desired.MinReplicas(hook), int32(0)
	switch {
	case d == nil && hook.Status.Image == "":
		return
	case d != nil && isHollow(d):
		return // an object of this name that is not the operator's
	case d != nil:
		wanted, ready = max(wanted, ptr.Deref(d.Spec.Replicas, 1)), d.Status.ReadyReplicas
	}
	ch <- prometheus.MustNewConstMetric(m.wanted, prometheus.GaugeValue, float64(wanted), hook.Namespace, hook.Name)
	ch <- prometheus.MustNewConstMetric(m.ready, prometheus.GaugeValue, float64(ready), hook.Namespace, hook.Name)
}
