package controller

import (
	"testing"

	kstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// What kubectl wait, Flux and Argo CD make of a resource is what its Ready says.
func TestKstatusAgrees(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.webhook(smallest)
	is := func(want kstatus.Status, when string) {
		t.Helper()
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("HeymarketWebhook"))
		got, err := kstatus.Compute(get(w, "support", u))
		w.do(err)
		if got.Status != want {
			t.Errorf("%s: %s (%s), want %s", when, got.Status, got.Message, want)
		}
	}
	w.reconcile()
	is(kstatus.InProgressStatus, "a token is missing")
	w.secret("heymarket", map[string]string{"token": canary})
	w.reconcile()
	is(kstatus.InProgressStatus, "Pods are on their way")
	w.rollOut(2)
	w.admit("203.0.113.7")
	w.reconcile()
	is(kstatus.InProgressStatus, "nobody knows what the Pods serve")
	w.serve("10.1.0.1", "10.1.0.2")
	w.reconcile()
	is(kstatus.CurrentStatus, "all is well")

	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Paused = true })
	is(kstatus.InProgressStatus, "nobody has looked at the new generation")
	w.reconcile()
	is(kstatus.InProgressStatus, "the Pods serve the earlier configuration")
	w.serve("10.1.0.1", "10.1.0.2")
	w.reconcile()
	is(kstatus.CurrentStatus, "the Pods serve the new configuration")

	w.says("10.1.0.1", troubled(contract.RedisEvicts))
	w.reconcile()
	is(kstatus.InProgressStatus, "Redis may forget")
	w.serve("10.1.0.1", "10.1.0.2")
	w.do(w.person.Delete(t.Context(), get(w, "heymarket", &corev1.Secret{})))
	w.reconcile()
	is(kstatus.InProgressStatus, "the token is gone")

	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Finalizers = []string{"example.com/wait"} })
	w.do(w.person.Delete(t.Context(), w.hook()))
	is(kstatus.TerminatingStatus, "it is being deleted")
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Finalizers = nil })
}
