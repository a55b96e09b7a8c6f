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
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
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

// stored puts keys of the world's webhook, and one of a neighbour, into a Redis.
func (w *world) stored(redis *redistest.Server) {
	w.t.Helper()
	for _, key := range []string{"q:crm:general", "dead:crm", "targets"} {
		redis.MustDo("SET", stream.Prefix(w.namespace, "support")+key, "x")
	}
	redis.MustDo("SET", stream.Prefix(w.namespace, "support-2")+"targets", "x")
}

// deleting is a world whose webhook has the policy Delete and keys in a Redis of its own, and is being deleted.
func deleting(t *testing.T, spec string) (*world, *redistest.Server) {
	t.Helper()
	redis := redistest.Start(t)
	w := newWorld(t)
	w.redis = redis.URL()
	w.secret("heymarket", map[string]string{"token": canary, "redis": redis.URL() + "\n"})
	w.webhook(smallest + "deletionPolicy: Delete\n" + spec)
	w.reconcile()
	w.stored(redis)
	w.recorded()
	w.do(w.person.Delete(t.Context(), w.hook()))
	return w, redis
}

func TestDeletionTakesTheKeysAlong(t *testing.T) {
	t.Parallel()
	w, redis := deleting(t, "")
	pod := w.pod()
	w.writes.take()

	// First nothing comes in any more, and the receiver ends; meanwhile nothing else is written.
	w.reconcile()
	if diff := cmp.Diff([]string{"DELETE ingresses/support-receiver", "DELETE deployments/support-receiver", "PATCH heymarketwebhooks/support/status"}, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonReceiverEnding)
	w.quiet()
	w.collectGarbage()
	w.quiet() // A Pod is still there.
	if n := redis.MustDo("DBSIZE"); n != "4" {
		t.Errorf("%s keys while a receiver may write some, want 4", n)
	}
	w.do(w.person.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))

	w.reconcile()
	if n := redis.MustDo("DBSIZE"); n != "1" {
		t.Errorf("%s keys are left, want that of the neighbour", n)
	}
	if !w.gone("support") {
		t.Error("the resource is still there")
	}
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Normal RedisKeysRemoved ") || !strings.Contains(got[0], stream.Prefix(w.namespace, "support")) {
		t.Errorf("events: %v", got)
	}
}

func TestDeletionFromItsOwnRedis(t *testing.T) {
	t.Parallel()
	w, redis := deleting(t, "redis: {secretKeyRef: {name: heymarket, key: redis}}")
	w.redis = "redis://nobody.invalid:1"
	w.reconcile()
	w.collectGarbage()
	// The Secret went first, as it may with its namespace.
	secret := get(w, "heymarket", &corev1.Secret{})
	w.do(w.person.Delete(t.Context(), secret))
	if res := w.reconcile(); res.RequeueAfter != keysAgain {
		t.Errorf("looked at again after %s, want %s", res.RequeueAfter, keysAgain)
	}
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonRedisKeysLeft, `Secret "heymarket" of spec.redis.secretKeyRef`, "Retain")
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning RedisKeysLeft ") {
		t.Errorf("events: %v", got)
	}
	w.quiet()
	w.secret("heymarket", map[string]string{"redis": redis.URL()})
	w.reconcile()
	if n := redis.MustDo("DBSIZE"); n != "1" || !w.gone("support") {
		t.Errorf("%s keys are left, want that of the neighbour, and the resource gone", n)
	}
}

// Whatever goes wrong, the resource goes in the end, and an event says what stays.
func TestDeletionDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spec    string
		trouble func(*world, *redistest.Server)
		want    string
	}{
		"Redis is away": {"", func(_ *world, redis *redistest.Server) { redis.Kill() }, "check that it runs"},
		"the Secret is gone": {"redis: {secretKeyRef: {name: heymarket, key: redis}}", func(w *world, _ *redistest.Server) {
			w.do(w.person.Delete(w.t.Context(), get(w, "heymarket", &corev1.Secret{})))
		}, `Secret "heymarket"`},
		"the Pods do not end": {"", func(w *world, _ *redistest.Server) { w.pod() }, "Pods have to end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, redis := deleting(t, tc.spec)
			w.reconcile()
			tc.trouble(w, redis)
			w.collectGarbage()
			w.reconcile()
			if w.gone("support") {
				t.Fatal("the resource is gone before its time")
			}
			w.recorded()
			w.r.Settings.removalDeadline = time.Nanosecond
			w.reconcile()
			if !w.gone("support") {
				t.Error("the resource is still there")
			}
			prefix := stream.Prefix(w.namespace, "support")
			got := w.recorded()
			if len(got) != 1 || !strings.HasPrefix(got[0], "Warning RedisKeysKept ") || !strings.Contains(got[0], tc.want) ||
				!strings.Contains(got[0], fmt.Sprintf("--pattern '%s*'", prefix)) {
				t.Errorf("events: %v", got)
			}
		})
	}
}

// The finalizer follows the policy, also while the resource is refused, and others' finalizers stay.
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

func TestKeyPrefixIsTheReceivers(t *testing.T) {
	t.Parallel()
	hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: "staging", Name: "support"}}
	if got, want := keyPrefix(hook), stream.Prefix("staging", "support"); got != want {
		t.Errorf("keyPrefix = %s, want %s", got, want)
	}
}
