package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// collectGarbage plays the garbage collector: a Deployment that is deleted in the foreground goes.
func (w *world) collectGarbage() {
	w.t.Helper()
	d := &appsv1.Deployment{}
	w.eventually("the deletion of the Deployment", func() bool {
		d = w.deployment()
		return !d.DeletionTimestamp.IsZero() && slices.Contains(d.Finalizers, metav1.FinalizerDeleteDependents)
	})
	change(w, d, func(d *appsv1.Deployment) { d.Finalizers = nil })
}

// pod plays the ReplicaSet controller: there is a Pod of the receiver.
func (w *world) pod() *corev1.Pod {
	w.t.Helper()
	template := w.deployment().Spec.Template
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "receiver", Labels: template.Labels}, Spec: template.Spec}
	w.do(w.person.Create(w.t.Context(), pod))
	return pod
}

func (w *world) gone(name string) bool {
	w.t.Helper()
	err := w.person.Get(w.t.Context(), w.key(name), &v1alpha1.HeymarketWebhook{})
	w.do(client.IgnoreNotFound(err))
	return apierrors.IsNotFound(err)
}

// deleting is a world whose webhook has the policy Delete and is being deleted.
func deleting(t *testing.T, spec string) *world {
	t.Helper()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary, "redis": "redis://own.example.com:6379"})
	w.webhook(smallest + "deletionPolicy: Delete\n" + spec)
	w.reconcile()
	w.recorded()
	w.do(w.person.Delete(t.Context(), w.hook()))
	return w
}

// removing is one whose receivers have ended, so that the Pod that removes the keys is wanted.
func removing(t *testing.T, spec string) *world {
	t.Helper()
	w := deleting(t, spec)
	w.reconcile()
	w.collectGarbage()
	return w
}

// removalStarted reports that the Deployment is the one whose Pod removes the keys.
func (w *world) removalStarted() bool {
	w.t.Helper()
	d := &appsv1.Deployment{}
	err := w.person.Get(w.t.Context(), w.key("support-receiver"), d)
	w.do(client.IgnoreNotFound(err))
	return err == nil && desired.RemovesKeys(d)
}

// removes lets the Pod that removes the keys report.
func (w *world) removes(report contract.Status) {
	w.t.Helper()
	w.rollOut(1)
	w.pods.mu.Lock()
	defer w.pods.mu.Unlock()
	report.ConfigDigest = "sha256:00"
	w.pods.serves = map[string]contract.Status{"10.1.0.1": report}
}

func TestDeletionTakesTheKeysAlong(t *testing.T) {
	t.Parallel()
	w := deleting(t, "")
	pod := w.pod()
	stranger := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "of-another", Labels: contract.PodLabels("other")}, Spec: pod.Spec}
	stranger.Spec.NodeName = ""
	w.do(w.person.Create(t.Context(), stranger)) // which stays, and holds nothing up
	w.writes.take()

	// First nothing comes in any more, and the receivers end; meanwhile nothing else is written.
	w.reconcile()
	if diff := cmp.Diff([]string{"DELETE ingresses/support-receiver", "DELETE deployments/support-receiver", "PATCH heymarketwebhooks/support/status"}, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonReceiverEnding)
	w.quiet()
	w.collectGarbage()
	w.quiet() // A Pod is still there, and may write keys.
	w.do(w.person.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))

	// Then one Pod removes the keys, and nothing but what it needs is mounted.
	w.reconcile()
	d := w.deployment()
	if !desired.RemovesKeys(d) || *d.Spec.Replicas != 1 {
		t.Errorf("the Deployment is that of %d receivers", *d.Spec.Replicas)
	}
	if volumes := d.Spec.Template.Spec.Volumes; len(volumes) != 1 || volumes[0].Name != "config" {
		t.Errorf("volumes: %v", volumes)
	}
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonReceiverEnding)
	w.quiet()
	w.removes(contract.Status{Redis: "ok", Removal: &contract.Removal{Keys: 2}})
	w.quiet()
	w.removes(contract.Status{Redis: "ok", Removal: &contract.Removal{Done: true, Keys: 3}})
	w.reconcile()
	if !w.gone("support") {
		t.Error("the resource is still there")
	}
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Normal RedisKeysRemoved ") || !strings.Contains(got[0], contract.RedisPrefix(w.namespace, "support")) {
		t.Errorf("events: %v", got)
	}
}

func TestDeletionFromItsOwnRedis(t *testing.T) {
	t.Parallel()
	w := removing(t, "redis: {secretKeyRef: {name: heymarket, key: redis}}")
	// The Secret went first, as it may with its namespace. A Pod could not start without it.
	w.do(w.person.Delete(t.Context(), get(w, "heymarket", &corev1.Secret{})))
	w.reconcile()
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonRedisKeysLeft, `Secret "heymarket" of spec.redis.secretKeyRef`, "Retain")
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning RedisKeysLeft ") {
		t.Errorf("events: %v", got)
	}
	w.quiet()
	w.secret("heymarket", map[string]string{"redis": "redis://own.example.com:6379"})
	w.reconcile()
	var mounted []string
	for _, v := range w.deployment().Spec.Template.Spec.Volumes {
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				for _, item := range s.Secret.Items {
					mounted = append(mounted, item.Path)
				}
			}
		}
	}
	if diff := cmp.Diff([]string{"heymarket/redis"}, mounted); diff != "" {
		t.Errorf("mounted of the user's Secrets (-want +got):\n%s", diff)
	}
	w.removes(contract.Status{Problems: []contract.Problem{contract.RedisNoRights}, Removal: &contract.Removal{}})
	w.reconcile()
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonRedisKeysLeft, contract.RedisNoRights.Message(), "SCAN")
	w.removes(contract.Status{Removal: &contract.Removal{Done: true}})
	w.reconcile()
	if !w.gone("support") {
		t.Error("the resource is still there")
	}
}

// Whatever fails, the resource is deleted in the end, and an event reports what stays.
func TestDeletionDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spec    string
		trouble func(*world)
		want    string
	}{
		"Redis is away": {"", func(w *world) {
			w.reconcile()
			w.removes(contract.Status{Problems: []contract.Problem{contract.RedisUnreachable}, Removal: &contract.Removal{}})
		}, "check that it runs"},
		"what answers is no receiver of ours": {"", func(w *world) {
			w.reconcile()
			w.removes(contract.Status{Problems: []contract.Problem{"\x1b[31m"}, Removal: &contract.Removal{}})
		}, "has not started yet"},
		"the Pod does not start": {"", func(w *world) { w.reconcile() }, "has not started yet"},
		"the Secret is gone": {"redis: {secretKeyRef: {name: heymarket, key: redis}}", func(w *world) {
			w.do(w.person.Delete(w.t.Context(), get(w, "heymarket", &corev1.Secret{})))
		}, `Secret "heymarket"`},
		"the Pods do not end": {"", nil, "Pods have not stopped yet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := deleting(t, tc.spec)
			if tc.trouble == nil {
				w.pod()
			}
			w.reconcile()
			w.collectGarbage()
			if tc.trouble != nil {
				tc.trouble(w)
			}
			w.reconcile()
			if w.gone("support") {
				t.Fatal("the resource is gone before its time")
			}
			w.recorded()
			w.r.Settings.removalDeadline = time.Nanosecond
			w.pods.asked = 0
			w.reconcile()
			if !w.gone("support") {
				t.Error("the resource is still there")
			}
			if w.pods.asked > 0 {
				t.Error("Pods were asked before the deadline was looked at")
			}
			prefix := contract.RedisPrefix(w.namespace, "support")
			got := w.recorded()
			if len(got) != 1 || !strings.HasPrefix(got[0], "Warning RedisKeysKept ") || !strings.Contains(got[0], tc.want) ||
				!strings.Contains(got[0], fmt.Sprintf("--pattern '%s*'", prefix)) {
				t.Errorf("events: %v", got)
			}
		})
	}
}

// The deadline counts from when the operator first saw the deletion, not from a deletion while it was not running.
func TestDeletionDeadlineBeginsWithTheOperator(t *testing.T) {
	t.Parallel()
	w := deleting(t, "")
	w.r.Settings.removalDeadline = time.Hour
	change := w.hook()
	change.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRolloutInProgress,
		LastTransitionTime: metav1.NewTime(time.Now().Add(-2 * time.Hour)),
	}}
	w.do(w.person.Status().Update(t.Context(), change))
	w.reconcile()
	w.reconcile()
	if w.gone("support") {
		t.Fatal("the resource is gone before its time")
	}
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonReceiverEnding)
}

// The five minutes count from when the status reports that the deletion waits, and why; not from the deletion, nor from an older
// condition.
func TestSinceWhenADeletionWaits(t *testing.T) {
	t.Parallel()
	deleted := metav1.NewTime(time.Now().Add(-2 * time.Hour).Truncate(time.Second))
	before, after := metav1.NewTime(deleted.Add(-time.Hour)), metav1.NewTime(deleted.Add(time.Hour))
	for name, tc := range map[string]struct {
		reason string
		at     metav1.Time
		known  bool
		waits  string
	}{
		"receivers end":                      {v1alpha1.ReasonReceiverEnding, after, true, "why"},
		"receivers do not end":               {v1alpha1.ReasonReceiverNotEnded, after, true, "why"},
		"keys are left":                      {v1alpha1.ReasonRedisKeysLeft, after, true, "why"},
		"a rollout":                          {v1alpha1.ReasonRolloutInProgress, after, false, ""},
		"the finalizer is refused since":     {v1alpha1.ReasonFinalizerRefused, after, true, ""},
		"the finalizer was refused before":   {v1alpha1.ReasonFinalizerRefused, before, false, ""},
		"the finalizer is refused just then": {v1alpha1.ReasonFinalizerRefused, deleted, true, ""},
	} {
		hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &deleted}}
		hook.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: tc.reason, Message: "why", LastTransitionTime: tc.at}}
		begun, waits, known := removalBegun(hook)
		if known != tc.known || waits != tc.waits || known && !begun.Equal(tc.at.Time) {
			t.Errorf("%s: since %v, waits for %q, known %t; want %v, %q, %t", name, begun, waits, known, tc.at, tc.waits, tc.known)
		}
	}
}

// In a namespace that is being deleted no Pod can start any more.
func TestDeletionWithItsNamespace(t *testing.T) {
	t.Parallel()
	w := deleting(t, "redis: {secretKeyRef: {name: heymarket, key: redis}}")
	w.do(w.person.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}))
	w.reconcile()
	if !w.gone("support") {
		t.Error("the resource is still there")
	}
	got := w.recorded()
	if len(got) != 1 || !strings.HasPrefix(got[0], "Warning RedisKeysKept ") || !strings.Contains(got[0], "the namespace is being deleted") {
		t.Errorf("events: %v", got)
	}
}

// The finalizer follows the policy, even while the resource is rejected, and others' finalizers stay.
func TestFinalizerFollowsThePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.webhook(smallest) // Its Secret is missing.
	w.reconcile()
	finalizers := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, w.hook().Finalizers); diff != "" {
			t.Errorf("finalizers (-want +got):\n%s", diff)
		}
		w.quiet()
	}
	finalizers()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.DeletionPolicy, h.Finalizers = v1alpha1.DeletionDelete, []string{"example.com/wait"}
	})
	w.writes.take()
	w.reconcile()
	if diff := cmp.Diff([]string{"PATCH heymarketwebhooks/support", "PATCH heymarketwebhooks/support/status"}, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	finalizers("example.com/wait", v1alpha1.FinalizerRedisKeys)
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.DeletionPolicy = v1alpha1.DeletionRetain })
	w.reconcile()
	finalizers("example.com/wait")

	// Second thoughts count while it is being deleted.
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.DeletionPolicy, h.Finalizers = v1alpha1.DeletionDelete, []string{v1alpha1.FinalizerRedisKeys}
	})
	w.do(w.person.Delete(t.Context(), w.hook()))
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.DeletionPolicy = v1alpha1.DeletionRetain })
	w.reconcile()
	if !w.gone("support") {
		t.Error("the resource is still there")
	}
}
