package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/controller/source"
)

const (
	earlier = "heymarket.dev/operator:v1"
	present = "heymarket.dev/operator:v2"
)

// upgraded is a settled and Ready world whose operator is a new version, with one place for roll-outs, which another
// Deployment has taken.
func upgraded(t *testing.T) (w *world, other *appsv1.Deployment) {
	t.Helper()
	w = settled(t)
	w.rollOut(2)
	w.serve("10.1.0.1", "10.1.0.2")
	w.admit("203.0.113.7")
	w.reconcile()
	w.condition(v1alpha1.ConditionReady, true, v1alpha1.ReasonReady)

	other = deploymentOf("other", present)
	other.Namespace, other.Generation = w.namespace, 0
	other.OwnerReferences = []metav1.OwnerReference{ownedBy("other")}
	other.Spec.Template.Spec = w.deployment().Spec.Template.Spec
	other.Spec.Template.Spec.Containers[0].Image = present
	w.do(w.person.Create(t.Context(), other))
	w.r.Settings.ReceiverImage = present
	w.r.Rollouts = source.NewRollouts(1, present, client.NewNamespacedClient(w.person, w.namespace))
	w.r.Rollouts.Period = 0
	w.recorded()
	return w, other
}

func (w *world) image() string { return w.deployment().Spec.Template.Spec.Containers[0].Image }

func TestUpgradeWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	w, other := upgraded(t)
	before, status := w.configSecret().Data[desired.KeyConfig], w.hook().Status
	w.quiet()
	if w.image() != earlier {
		t.Fatal("rolled although another one has the place")
	}
	if diff := cmp.Diff(status, w.hook().Status); diff != "" {
		t.Errorf("the status tells of it (-before +after):\n%s", diff)
	}
	if got := w.recorded(); len(got) != 0 {
		t.Errorf("events: %v", got)
	}

	// What does not touch the version goes on: a new URL of Redis, a child that was deleted.
	w.redis = "redis://another.example.com:6379/0"
	w.do(w.person.Delete(t.Context(), w.service()))
	w.reconcile()
	if got := w.configSecret().Data; string(got[desired.KeyRedisURL]) != w.redis || string(got[desired.KeyConfig]) != string(before) {
		t.Error("want the new URL of Redis, and the configuration as it was")
	}
	if got := w.exist(); got != allChildren {
		t.Errorf("children: %s", got)
	}
	// A configuration that someone has changed is restored.
	change(w, w.configSecret(), func(s *corev1.Secret) { s.Data[desired.KeyConfig] = []byte("{}") })
	w.reconcile()
	if got := len(w.config().Targets); got != 1 || w.image() != earlier {
		t.Errorf("%d targets and image %s, want the configuration mended and the version as it was", got, w.image())
	}
	w.quiet()

	complete(other)
	w.do(w.person.Status().Update(t.Context(), other))
	w.reconcile()
	if w.image() != present {
		t.Error("not rolled although the place is free")
	}
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonRolloutInProgress)
	w.quiet()
}

// A person's change, the correction of a mistake, and data that a receiver needs to reach Redis are never held back.
func TestUpgradeHoldsNoPersonUp(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(*world){
		"a change of the spec": func(w *world) {
			change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.WebhookID = new(int64(7)) })
		},
		"certificates for Redis": func(w *world) {
			w.redis, w.redisCA = "rediss://redis.example.com:6379/0", []byte(certificate(w.t))
		},
		"a mended mistake": func(w *world) {
			w.do(w.person.Delete(w.t.Context(), get(w, "heymarket", &corev1.Secret{})))
			w.reconcile()
			w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonTokenSecretNotFound)
			w.secret("heymarket", map[string]string{"token": canary})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := upgraded(t)
			act(w)
			w.reconcile()
			if w.image() != present {
				t.Error("held up")
			}
		})
	}
}

// A manager wakes waiting receivers as soon as a slot is free.
func TestManagerGivesPlacesAway(t *testing.T) {
	t.Parallel()
	w, other := upgraded(t)
	w.r.Settings.MaxConcurrentRollouts = 1
	w.manage(operator(t, "rollouts-test"), w.namespace)
	w.settle()
	if w.image() != earlier {
		t.Fatal("rolled although another one has the place")
	}
	w.do(w.person.Delete(t.Context(), other))
	w.eventually("the roll-out", func() bool { return w.image() == present })
}

func deploymentOf(webhook, image string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "staging", Name: contract.ReceiverName(webhook), Generation: 1, Labels: map[string]string{contract.LabelManagedBy: contract.ManagedByValue},
		},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: desired.ContainerName, Image: image}}},
			},
		},
	}
}

// complete plays the Deployment controller: all Pods are of the present template, and ready.
func complete(d *appsv1.Deployment) {
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2,
		Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"}},
	}
}
