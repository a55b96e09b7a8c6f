package controller

import (
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
)

// An admission webhook may deny with any code. Its denial is never mistaken for a transient conflict, or for a deleted
// resource.
func TestDenialsOfAnyCodeAreTold(t *testing.T) {
	t.Parallel()
	for _, code := range []int32{404, 409, 429, 500} {
		reason := map[int32]metav1.StatusReason{
			404: metav1.StatusReasonNotFound, 409: metav1.StatusReasonConflict, 429: metav1.StatusReasonTooManyRequests, 500: metav1.StatusReasonInternalError,
		}[code]
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			secret("heymarket", "token", canary)(w)
			denyIngresses(w, metav1.Status{Code: code, Reason: reason, Message: "no Ingress before noon"})
			w.webhook(smallest)
			if _, err := w.tryReconcile(); err == nil {
				t.Error("no error, so it is not tried again")
			}
			w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildRefused, `Ingress "support-receiver"`, "no Ingress before noon")
		})
	}
}

// An unwanted child that cannot be deleted is reported as well, blocks nothing else, and resolves automatically.
func TestChildThatMayNotBeRemoved(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.rollOut(2)
	w.admit("203.0.113.7")
	w.serve("10.1.0.1", "10.1.0.2")
	w.reconcile()
	w.condition(v1alpha1.ConditionReady, true, v1alpha1.ReasonReady)
	allow := deny(w, admissionregistrationv1.Delete, "ingresses", w.dryDeletion(w.ingress()), metav1.Status{Code: 403, Message: "no Ingress is removed on a Friday"})

	w.recorded()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Type = v1alpha1.ExposureNone })
	for range 2 {
		if _, err := w.tryReconcile(); err == nil {
			t.Error("no error, so it is not tried again")
		}
	}
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonChildFailed, `Ingress "support-receiver"`, "no longer wanted", "on a Friday", "change the policy")
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning ChildFailed ") {
		t.Errorf("events: %v", got)
	}
	allow()
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, true, v1alpha1.ReasonNotRequested)
	w.quiet()
}

// A rejected finalizer blocks the resource, and is reported.
func TestFinalizerThatMayNotBeWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	allow := deny(w, admissionregistrationv1.Update, "heymarketwebhooks", w.dryChange(w.hook()), metav1.Status{Code: 403, Message: "only robots write here"})
	w.do(w.person.Delete(t.Context(), w.hook()))
	w.webhook(smallest + "deletionPolicy: Delete")
	if _, err := w.tryReconcile(); err == nil {
		t.Error("no error, so it is not tried again")
	}
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonFinalizerRefused, "spec.deletionPolicy", "only robots write here", "change the policy")
	if got := w.exist(); got != "" {
		t.Errorf("children: %s", got)
	}
	allow()
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
}

// A blocked deletion is reported, and an event reports once what happened to the keys.
func TestDeletionThatMayNotGoOn(t *testing.T) {
	t.Parallel()
	t.Run("the receiver may not end", func(t *testing.T) {
		t.Parallel()
		w := deleting(t, "")
		deny(w, admissionregistrationv1.Delete, "deployments", w.dryDeletion(w.deployment()), metav1.Status{Code: 403, Message: "not during business hours"})
		_, _ = w.tryReconcile()
		w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonReceiverNotEnded, "not during business hours", "the policy that it names", "five minutes")
		w.writes.take()
		if _, err := w.tryReconcile(); err == nil {
			t.Error("no error, so it is not tried again")
		}
		if got := w.writes.take(); len(got) != 1 || got[0] != "DELETE deployments/support-receiver" {
			t.Errorf("writes: %v", got)
		}
		if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning ReceiverNotEnded ") {
			t.Errorf("events: %v", got)
		}
		w.r.Settings.removalDeadline = time.Nanosecond
		w.reconcile()
		if !w.gone("support") {
			t.Error("the resource is still there")
		}
		if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning RedisKeysKept ") || !strings.Contains(got[0], "not during business hours") {
			t.Errorf("events: %v", got)
		}
	})
	t.Run("the finalizer may not go", func(t *testing.T) {
		t.Parallel()
		w := removing(t, "")
		w.reconcile()
		w.removes(contract.Status{Removal: &contract.Removal{Done: true}})
		allow := deny(w, admissionregistrationv1.Update, "heymarketwebhooks", w.dryChange(w.hook()), metav1.Status{Code: 403, Message: "only robots write here"})
		for range 2 {
			if _, err := w.tryReconcile(); err == nil {
				t.Error("no error, so it is not tried again")
			}
		}
		w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonFinalizerRefused, v1alpha1.FinalizerRedisKeys, "only robots write here")
		if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning FinalizerRefused ") {
			t.Errorf("events: %v", got)
		}
		allow()
		w.reconcile()
		if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Normal RedisKeysRemoved ") || !w.gone("support") {
			t.Errorf("events: %v", got)
		}
	})
}

// dryDeletion asks to delete an object without deleting it.
func (w *world) dryDeletion(obj client.Object) func() error {
	return func() error { return w.person.Delete(w.t.Context(), obj, client.DryRunAll) }
}

// dryChange asks to annotate the webhook without doing it.
func (w *world) dryChange(hook *v1alpha1.HeymarketWebhook) func() error {
	return func() error {
		changed := hook.DeepCopy()
		changed.Annotations = map[string]string{"example.com/probe": "x"}
		return w.person.Patch(w.t.Context(), changed, client.MergeFrom(hook), client.DryRunAll)
	}
}

// A change of the operator's own status wakes it once more, but not if only the API server's message has changed: some
// admission webhooks answer differently each time, and would be called endlessly.
func TestWordsOfTheAPIServerWakeNobody(t *testing.T) {
	t.Parallel()
	said := func(reason, message string) *v1alpha1.HeymarketWebhook {
		h := &v1alpha1.HeymarketWebhook{}
		condition.Set(&h.Status, v1alpha1.ConditionAccepted, condition.Condition{Reason: reason, Message: message})
		h.Status.Conditions[0].LastTransitionTime = metav1.Unix(1, 0)
		return h
	}
	for _, tc := range []struct {
		reason string
		want   bool
	}{{v1alpha1.ReasonChildRefused, false}, {v1alpha1.ReasonChildFailed, false}, {v1alpha1.ReasonSecretValueInvalid, true}} {
		if got := conditionsChanged.Update(event.UpdateEvent{ObjectOld: said(tc.reason, "at 12:01"), ObjectNew: said(tc.reason, "at 12:02")}); got != tc.want {
			t.Errorf("%s: woken %v, want %v", tc.reason, got, tc.want)
		}
	}
	if !conditionsChanged.Update(event.UpdateEvent{ObjectOld: said(v1alpha1.ReasonChildRefused, "no"), ObjectNew: said(v1alpha1.ReasonChildFailed, "no")}) {
		t.Error("another reason wakes nobody")
	}
}

// A Service that cannot be stored is not reported under a later child's condition.
func TestWhatWaitsForAnotherChildSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deadWebhook(w)
	w.webhook(smallest)
	_, _ = w.tryReconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonChildFailed)
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonNotExposed, "could not be stored")
	w.condition(v1alpha1.ConditionDurable, false, v1alpha1.ReasonNotDeployed, "could not be stored")
}

// Pods that serve an earlier configuration because the new one is rejected are not reported as waiting for the kubelet.
func TestConfigurationThatIsNotHandedOut(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.admit("203.0.113.7")
	w.rollOut(2)
	w.serve("10.1.0.1", "10.1.0.2")
	w.reconcile()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Paused = true
		h.Spec.Token.PreviousSecretKeyRef = &v1alpha1.TokenReference{Name: "missing", Key: "token"}
	})
	if res := w.reconcile(); res.RequeueAfter != 0 {
		t.Errorf("looked at again after %s", res.RequeueAfter)
	}
	w.condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonConfigurationPending, "once the resource is accepted")
}
