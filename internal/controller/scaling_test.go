package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// A Deployment that the API server rejects is retried with each change around it. The hand-over of replicas is written
// once.
func TestReplicasAreHandedOverOnce(t *testing.T) {
	t.Parallel()
	w := settled(t)
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Receiver.Autoscaling = &v1alpha1.Autoscaling{MaxReplicas: 3}
		h.Spec.Receiver.Tolerations = []corev1.Toleration{{Key: "no/valid/key"}}
	})
	w.writes.take()
	for range 3 {
		if _, err := w.tryReconcile(); err == nil {
			t.Fatal("the Deployment is not refused")
		}
	}
	// The first handed over and tried, the others tried; the status was written once.
	if n := count(w.writes.take(), "PATCH deployments/support-receiver"); n != 4 {
		t.Errorf("%d writes to the Deployment, want 4", n)
	}
	if n := *w.deployment().Spec.Replicas; n != 2 {
		t.Errorf("%d replicas, want 2", n)
	}
}

func TestScalingByBacklog(t *testing.T) {
	t.Parallel()
	installExtensions(t)
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + "receiver: {autoscaling: {minReplicas: 3, maxReplicas: 10, targetCPUUtilization: 70, backlogPerReplica: 100}}")
	replicas := func(want int32) {
		t.Helper()
		if got := *w.deployment().Spec.Replicas; got != want {
			t.Errorf("%d replicas, want %d", got, want)
		}
	}
	before := func(first, second string) {
		t.Helper()
		writes := w.writes.take()
		if a, b := slices.Index(writes, first), slices.Index(writes, second); a < 0 || b < 0 || a > b {
			t.Errorf("writes: %v, want %s and then %s", writes, first, second)
		}
	}
	withAutoscaler := strings.Replace(allChildren, ", Ingress", ", HorizontalPodAutoscaler support-receiver, Ingress", 1)

	// For want of KEDA, CPU alone decides.
	w.reconcile()
	w.reconcile() // The first number of Pods is handed over.
	if got := w.exist(); got != withAutoscaler {
		t.Errorf("children: %s, want %s", got, withAutoscaler)
	}
	w.condition(v1alpha1.ConditionScaled, false, v1alpha1.ReasonKEDAMissing, "install KEDA", "HorizontalPodAutoscaler")
	w.quiet()
	if events := w.recorded(); !slices.ContainsFunc(events, func(e string) bool { return strings.Contains(e, v1alpha1.ReasonKEDAMissing) }) {
		t.Errorf("events: %v", events)
	}
	w.scale(7)
	w.reconcile()
	replicas(7)

	// KEDA comes, and is handed a Deployment that has no other autoscaler, with the Pods that it has.
	w.serves[desired.ScaledObjectKind] = true
	w.writes.take()
	if res := w.reconcile(); res.RequeueAfter != 30*time.Second {
		t.Errorf("looks again after %s, want %s, for what KEDA says wakes nobody", res.RequeueAfter, 30*time.Second)
	}
	before("DELETE horizontalpodautoscalers/support-receiver", "PATCH scaledobjects/support-receiver")
	if got := w.exist(); got != allChildren {
		t.Errorf("children: %s, want %s", got, allChildren)
	}
	replicas(7)
	w.condition(v1alpha1.ConditionScaled, false, v1alpha1.ReasonScaledObjectPending, "kubectl describe scaledobject")
	w.quiet()
	w.kedaSays("False", "ScaledObjectCheckFailed")
	w.reconcile()
	w.condition(v1alpha1.ConditionScaled, false, v1alpha1.ReasonScaledObjectRefused, "ScaledObjectCheckFailed", "because")
	w.kedaSays("True", "ScaledObjectReady")
	w.admit("203.0.113.7")
	if res := w.reconcile(); res.RequeueAfter != 5*time.Minute {
		t.Errorf("looks again after %s, want %s: KEDA may change its mind, and wakes nobody", res.RequeueAfter, 5*time.Minute)
	}
	w.condition(v1alpha1.ConditionScaled, true, v1alpha1.ReasonScaling)
	w.quiet()
	ports := map[string]int32{}
	for _, p := range w.service().Spec.Ports {
		ports[p.Name] = p.Port
	}
	if len(ports) != 2 || ports["ops"] != contract.OperationsPort || ports["http"] != 80 {
		t.Errorf("ports of the Service: %v", ports)
	}

	// Drift is reverted, and an unwanted trigger is removed.
	triggers := func() []any {
		t.Helper()
		list, _, err := unstructured.NestedSlice(w.extension(desired.ScaledObjectKind).Object, "spec", "triggers")
		w.do(err)
		return list
	}
	wanted := triggers()
	change(w, w.extension(desired.ScaledObjectKind), func(u *unstructured.Unstructured) {
		_ = unstructured.SetNestedSlice(u.Object, wanted[1:], "spec", "triggers")
	})
	w.reconcile()
	if got := triggers(); len(got) != 2 {
		t.Errorf("triggers: %v", got)
	}
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.Autoscaling.TargetCPUUtilization = nil })
	w.reconcile()
	if got := triggers(); len(got) != 1 {
		t.Errorf("triggers: %v", got)
	}
	w.quiet()

	// Without KEDA and without CPU, the number is the least one.
	w.serves[desired.ScaledObjectKind] = false
	w.reconcile()
	w.condition(v1alpha1.ConditionScaled, false, v1alpha1.ReasonKEDAMissing, "minReplicas")
	replicas(3)
	w.quiet()
	w.serves[desired.ScaledObjectKind] = true
	w.reconcile()
	w.scale(9)
	w.reconcile()
	replicas(9)

	// No more by the backlog: KEDA's object goes first, and the Pods stay.
	w.writes.take()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.Autoscaling.BacklogPerReplica = nil })
	w.reconcile()
	before("DELETE scaledobjects/support-receiver", "PATCH horizontalpodautoscalers/support-receiver")
	if w.hasExtension(desired.ScaledObjectKind) || w.exist() != withAutoscaler {
		t.Errorf("children: %s, and a ScaledObject: %v", w.exist(), w.hasExtension(desired.ScaledObjectKind))
	}
	replicas(9)
	if w.reason(v1alpha1.ConditionScaled) != "" {
		t.Error("the condition Scaled is still there")
	}
	if n := len(w.service().Spec.Ports); n != 1 {
		t.Errorf("%d ports of the Service, want 1", n)
	}
	w.quiet()
}

// kedaSays plays KEDA.
func (w *world) kedaSays(status, reason string) {
	w.t.Helper()
	u := w.extension(desired.ScaledObjectKind)
	u.Object["status"] = map[string]any{"conditions": []any{
		map[string]any{"type": "Active", "status": "False", "reason": "ScalerNotActive"},
		map[string]any{"type": "Ready", "status": status, "reason": reason, "message": "because"},
	}}
	w.do(w.person.Status().Update(w.t.Context(), u))
}
