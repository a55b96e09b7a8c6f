package controller

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/reach"
)

// fakeProber returns a preset result, and records its calls.
type fakeProber struct {
	outcome reach.Outcome
	asked   []string
}

func (p *fakeProber) Probe(_ context.Context, webhook string, segments []string) reach.Result {
	p.asked = append(p.asked, webhook+" "+strings.Join(segments, ","))
	return reach.Result{Outcome: p.outcome, NotBefore: time.Now(), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
}

// A URL is probed once per interval, once its route exists, and a reconcile follows only if the condition changes.
func TestURLsAreProbedOnceAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		current, previous := strings.Repeat("c", 26), strings.Repeat("p", 26)
		hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "support", UID: "1"}}
		hook.Status.Host = "hooks.example.com"
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: contract.URLSecretName("support")},
			Data: map[string][]byte{
				desired.KeyURL: []byte("https://hooks.example.com/a/support/" + current), desired.KeySegment: []byte(current),
				desired.KeyPrevious: []byte(`[{"path": "/a/support/` + previous + `", "replaced": "2026-11-21T12:30:00Z"}]`),
			},
		}
		prober := &fakeProber{outcome: reach.Reached}
		p := &probes{interval: 5 * time.Minute, prober: prober}
		needs := func() bool {
			t.Helper()
			caches := fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(hook, secret).Build()
			return p.needsReconcile(t.Context(), caches, client.ObjectKeyFromObject(hook))
		}
		expect := func(what string, want bool, asked int) {
			t.Helper()
			if got := needs(); got != want || len(prober.asked) != asked {
				t.Errorf("%s: needs a reconcile: %t, want %t; %d probes, want %d", what, got, want, len(prober.asked), asked)
			}
		}
		set := func(name string, status metav1.ConditionStatus, reason, message string) {
			meta.SetStatusCondition(&hook.Status.Conditions, metav1.Condition{Type: name, Status: status, Reason: reason, Message: message})
		}

		set(v1alpha1.ConditionExposed, metav1.ConditionFalse, v1alpha1.ReasonAddressPending, "")
		expect("without a route", false, 0)
		set(v1alpha1.ConditionExposed, metav1.ConditionTrue, v1alpha1.ReasonAdmitted, "")
		expect("the first time", true, 1)
		if want := "https://hooks.example.com/a/support/" + current + " " + current + "," + previous; !slices.Equal(prober.asked, []string{want}) {
			t.Errorf("asked %q, want %q", prober.asked, want)
		}
		expect("within the interval", false, 1)
		set(v1alpha1.ConditionReachable, metav1.ConditionTrue, v1alpha1.ReasonReachable, "The receiver answers at its public URL, and the certificate is valid.")
		time.Sleep(5 * time.Minute)
		expect("with the same result", false, 2)
		prober.outcome = reach.AnsweredByOther
		expect("within the next interval", false, 2)
		time.Sleep(5 * time.Minute)
		expect("with another result", true, 3)
		secret.Data[desired.KeyURL] = []byte("https://new.example.com/a/support/" + current)
		hook.Status.Host = "new.example.com"
		expect("at another URL", true, 4)

		time.Sleep(time.Hour)
		p.keep("2", probe{at: time.Now()})
		if len(p.last) != 1 {
			t.Errorf("%d probes are remembered, want those of the last intervals", len(p.last))
		}
	})
}

// The condition exists if the operator probes, does not affect Ready, and costs no write while nothing changes.
func TestReachableIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	w.reconcile()
	status := func(name string) *metav1.Condition { return meta.FindStatusCondition(w.hook().Status.Conditions, name) }
	if c := status(v1alpha1.ConditionReachable); c != nil {
		t.Errorf("without probes there is the condition %+v", c)
	}
	ready := status(v1alpha1.ConditionReady).Reason
	w.r.Probes = &probes{interval: time.Minute}
	secret := &corev1.Secret{}
	w.do(w.person.Get(t.Context(), w.key(contract.URLSecretName("support")), secret))
	w.r.Probes.keep(w.hook().UID, probe{string(secret.Data[desired.KeyURL]), time.Now(), reach.Result{Outcome: reach.CertificateOfOther}})
	w.reconcile()
	if c := status(v1alpha1.ConditionReachable); c == nil || c.Reason != v1alpha1.ReasonCertificateInvalid || c.Status != metav1.ConditionFalse {
		t.Errorf("condition %+v", c)
	}
	if got := status(v1alpha1.ConditionReady).Reason; got != ready {
		t.Errorf("Ready has the reason %s, and had %s", got, ready)
	}
	w.writes.take()
	w.reconcile()
	w.r.Probes = &probes{interval: time.Minute} // another operator, that has not probed yet
	w.reconcile()
	if writes := w.writes.take(); len(writes) != 0 {
		t.Errorf("writes at rest: %v", writes)
	}
	if c := status(v1alpha1.ConditionReachable); c == nil || c.Reason != v1alpha1.ReasonCertificateInvalid {
		t.Errorf("condition after a restart: %+v", c)
	}
	w.r.Probes = nil
	w.reconcile()
	if c := status(v1alpha1.ConditionReachable); c != nil {
		t.Errorf("probes were switched off, and there is the condition %+v", c)
	}
}
