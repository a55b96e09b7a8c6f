package plugin

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
)

func TestTell(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	before := func(d time.Duration) *metav1.Time { return new(metav1.NewTime(now.Add(-d))) }
	hook := &v1alpha1.HeymarketWebhook{
		ObjectMeta: metav1.ObjectMeta{Namespace: "staging", Name: "support", Generation: 2},
		Spec:       v1alpha1.HeymarketWebhookSpec{Paused: true, Targets: []v1alpha1.Target{{Name: "crm"}, {Name: "audit"}}},
		Status: v1alpha1.HeymarketWebhookStatus{
			URL: "https://hooks.example.com/staging/support/****", LastEventTime: before(3 * time.Minute), PreviousURLUntil: before(-time.Hour),
			Conditions: []metav1.Condition{
				{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, ObservedGeneration: 2},
				{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: "Good."},
				{Type: v1alpha1.ConditionExposed, Status: metav1.ConditionFalse, Reason: "AddressPending", Message: "No address."},
				{Type: v1alpha1.ConditionScaled, Status: metav1.ConditionFalse, Reason: "KEDAMissing", Message: "No KEDA."},
			},
			Targets: []v1alpha1.TargetStatus{{Name: "crm", Pending: 4000, DeadLetters: 3, Circuit: v1alpha1.CircuitOpen, LastDelivered: before(time.Minute)}},
			Token: &v1alpha1.TokenStatus{
				SecretKeyRef: v1alpha1.TokenReference{Name: "new", Key: "token"}, LastUsed: before(time.Hour),
				PreviousSecretKeyRef: &v1alpha1.TokenReference{Name: "old", Key: "token"}, PreviousLastUsed: before(2 * time.Hour),
			},
		},
	}
	var out strings.Builder
	tell(&out, hook, "--namespace staging", now)
	want := `support in staging is not Ready.
It is paused: events are stored, and delivered once spec.paused is false.

URL         https://hooks.example.com/staging/support/****
            (in full: kubectl heymarket url support --namespace staging)
            (the one before is accepted until 2026-11-21T13:00:00Z)
Last event  3m ago, at 2026-11-21T11:57:00Z

CONDITION          REASON          MESSAGE
Accepted   ok      Accepted        Good.
Exposed    NOT OK  AddressPending  No address.
Scaled     NOT OK  KEDAMissing     No KEDA.

TARGET  PENDING     DEAD LETTERS  CIRCUIT  LAST DELIVERED
crm     about 4000  3             Open     60s ago, at 2026-11-21T11:59:00Z
audit   not reported yet
Why they were given up: kubectl heymarket dead list support --target crm --namespace staging

TOKEN     SECRET  KEY    LAST USED
current   new     token  60m ago, at 2026-11-21T11:00:00Z
previous  old     token  120m ago, at 2026-11-21T10:00:00Z
Heymarket uses the current token. Once the previous one has not been used for as long as you care, remove spec.token.previousSecretKeyRef.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	for name, tc := range map[string]struct {
		change func(*v1alpha1.HeymarketWebhook)
		says   string
	}{
		"ready":   {func(h *v1alpha1.HeymarketWebhook) { h.Status.Conditions[0].Status = metav1.ConditionTrue }, "support in staging is Ready.\n"},
		"changed": {func(h *v1alpha1.HeymarketWebhook) { h.Generation++ }, "the operator has not looked at it since"},
		"deleted": {func(h *v1alpha1.HeymarketWebhook) {
			h.DeletionTimestamp, h.Status.Conditions[0].Message = before(time.Minute), "The keys cannot be removed."
		}, "support in staging is being deleted. The keys cannot be removed.\n"},
		"no token yet":   {func(h *v1alpha1.HeymarketWebhook) { h.Status.Token.LastUsed = nil }, "keep spec.token.previousSecretKeyRef"},
		"no event yet":   {func(h *v1alpha1.HeymarketWebhook) { h.Status.LastEventTime = nil }, "Last event  never seen"},
		"nothing at all": {func(h *v1alpha1.HeymarketWebhook) { h.Status = v1alpha1.HeymarketWebhookStatus{} }, "has no status yet"},
	} {
		changed := hook.DeepCopy()
		tc.change(changed)
		var out strings.Builder
		tell(&out, changed, "--namespace staging", now)
		if !strings.Contains(out.String(), tc.says) {
			t.Errorf("%s: does not say %q:\n%s", name, tc.says, &out)
		}
	}
}
