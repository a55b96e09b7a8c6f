package controller

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// The series of a webhook follow its status and its Deployment, and end with it.
func TestWebhookMetrics(t *testing.T) {
	t.Parallel()
	hook := func(name string, conditions ...metav1.Condition) *v1alpha1.HeymarketWebhook {
		return &v1alpha1.HeymarketWebhook{
			ObjectMeta: metav1.ObjectMeta{Namespace: "staging", Name: name},
			Status:     v1alpha1.HeymarketWebhookStatus{Conditions: conditions},
		}
	}
	condition := func(kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: "not a label"}
	}
	support := hook("support",
		condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRolloutStuck),
		condition(v1alpha1.ConditionDurable, metav1.ConditionTrue, strings.Repeat("x", 1000)),
		condition("example.com/Other", metav1.ConditionTrue, "Other"))
	support.Status.Image = "operator:1"
	gone := hook("gone") // its Deployment has been deleted
	gone.Status.Image = "operator:1"
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "staging", Name: contract.ReceiverName("support")},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(3))},
		Status:     appsv1.DeploymentStatus{ReadyReplicas: 1},
	}
	objects := fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(support, gone, hook("new"), deployment).Build()
	registry := prometheus.NewRegistry()
	if err := RegisterMetrics(registry, objects, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	want := func(lines ...string) {
		t.Helper()
		slices.Sort(lines)
		if diff := cmp.Diff(lines, series(t, registry)); diff != "" {
			t.Errorf("series (-want +got):\n%s", diff)
		}
	}
	rest := []string{
		`heymarket_operator_build_info{goversion="` + runtime.Version() + `",version="v1.2.3"} 1`,
		`heymarket_webhook_receivers_ready{name="gone",namespace="staging"} 0`,
		`heymarket_webhook_receivers_wanted{name="gone",namespace="staging"} 2`,
	}
	want(append([]string{
		`heymarket_webhook_receivers_ready{name="support",namespace="staging"} 1`,
		`heymarket_webhook_receivers_wanted{name="support",namespace="staging"} 3`,
		`heymarket_webhook_condition{name="support",namespace="staging",reason="RolloutStuck",status="False",type="Ready"} 1`,
		`heymarket_webhook_condition{name="support",namespace="staging",reason="` + strings.Repeat("x", reasonBytes) + `",status="True",type="Durable"} 1`,
	}, rest...)...)
	for _, object := range []client.Object{support, deployment} {
		if err := objects.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	want(rest...)
}

// series returns the series of a registry and their values, sorted.
func series(t *testing.T, registry prometheus.Gatherer) (lines []string) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			lines = append(lines, fmt.Sprintf("%s{%s} %v", f.GetName(), strings.Join(labels, ","), m.GetGauge().GetValue()))
		}
	}
	slices.Sort(lines)
	return lines
}
