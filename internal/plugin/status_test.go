package plugin

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

func TestDescribe(t *testing.T) {
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
			Targets: []v1alpha1.TargetStatus{{
				Name: "crm", Pending: 4000, DeadLetters: 3, Circuit: v1alpha1.CircuitOpen, LastDelivered: before(time.Minute),
				OldestPending: before(2 * time.Hour), LastError: &v1alpha1.TargetError{Class: "Timeout", Since: *before(30 * time.Minute)}, NextAttempt: before(-5 * time.Minute),
			}},
			Token: &v1alpha1.TokenStatus{
				SecretKeyRef: v1alpha1.TokenReference{Name: "new", Key: "token"}, LastUsed: before(time.Hour),
				PreviousSecretKeyRef: &v1alpha1.TokenReference{Name: "old", Key: "token"}, PreviousLastUsed: before(2 * time.Hour),
			},
		},
	}
	var out strings.Builder
	describe(&out, hook, "--namespace staging", origin{true, "No receiver Pod answered."}, now)
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

TARGET  PENDING     OLDEST  DEAD LETTERS  CIRCUIT  LAST DELIVERED                    ERROR            NEXT ATTEMPT
crm     about 4000  120m    3             Open     60s ago, at 2026-11-21T11:59:00Z  Timeout for 30m  in 5m
audit   not reported yet
Why they were given up: kubectl heymarket dead list support --target crm --namespace staging

TOKEN     SECRET  KEY    LAST USED
current   new     token  60m ago, at 2026-11-21T11:00:00Z
previous  old     token  120m ago, at 2026-11-21T10:00:00Z
Heymarket uses the current token. Once the previous one has been unused for long enough, remove spec.token.previousSecretKeyRef.

No receiver Pod answered.
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
		"an event now":   {func(h *v1alpha1.HeymarketWebhook) { h.Status.LastEventTime = before(59 * time.Second) }, "Last event  less than a minute ago, at 2026-11-21T11:59:01Z"},
		"no event yet":   {func(h *v1alpha1.HeymarketWebhook) { h.Status.LastEventTime = nil }, "Last event  none yet"},
		"overdue":        {func(h *v1alpha1.HeymarketWebhook) { h.Status.Targets[0].NextAttempt = before(time.Minute) }, "Timeout for 30m  in 0s\n"},
		"nothing at all": {func(h *v1alpha1.HeymarketWebhook) { h.Status = v1alpha1.HeymarketWebhookStatus{} }, "has no status yet"},
	} {
		changed := hook.DeepCopy()
		tc.change(changed)
		var out strings.Builder
		describe(&out, changed, "--namespace staging", origin{}, now)
		if !strings.Contains(out.String(), tc.says) {
			t.Errorf("%s: does not say %q:\n%s", name, tc.says, &out)
		}
	}
}

// A receiver's Pod can answer anything, such as a line that looks like another target's.
func TestACircuitIsOneWord(t *testing.T) {
	t.Parallel()
	hook := &v1alpha1.HeymarketWebhook{}
	hook.Spec.Targets = []v1alpha1.Target{{Name: "crm"}}
	merge(&hook.Status, contract.Status{Targets: []contract.TargetStatus{{Name: "crm", Circuit: "Closed\naudit\t0"}}})
	var out strings.Builder
	showTargets(&out, hook, "", false, time.Now())
	if got := strings.Count(out.String(), "\n"); got != 3 {
		t.Errorf("a heading and a row are %d lines:\n%s", got, &out)
	}
}

// The figures are exact as soon as one receiver answers, and a silent one is named.
func TestUpdate(t *testing.T) {
	t.Parallel()
	silent := answer[contract.Status]{receiver: "b", err: errors.New("ask receiver b: it is silent")}
	says := func(name string, circuit contract.Circuit) answer[contract.Status] {
		return answer[contract.Status]{receiver: name, value: contract.Status{Targets: []contract.TargetStatus{{Name: "crm", Pending: 123, Circuit: circuit}}}}
	}
	closed, opened := says("a", contract.CircuitClosed), says("c", contract.CircuitOpen)
	for name, tc := range map[string]struct {
		answers []answer[contract.Status]
		err     error
		rounded bool
		note    string
		pending int64
		circuit v1alpha1.Circuit
	}{
		"all answer":    {answers: []answer[contract.Status]{closed, opened}, pending: 123, circuit: v1alpha1.CircuitOpen},
		"one is silent": {answers: []answer[contract.Status]{closed, silent, opened}, pending: 123, circuit: v1alpha1.CircuitOpen, note: "may be incomplete, because a receiver Pod did not answer: ask receiver b: it is silent"},
		"none answers":  {answers: []answer[contract.Status]{silent}, rounded: true, pending: 100, circuit: v1alpha1.CircuitClosed, note: "because no receiver Pod answered: ask receiver b: it is silent"},
		"there is none": {err: errors.New("no receiver Pod runs"), rounded: true, pending: 100, circuit: v1alpha1.CircuitClosed, note: "because no receiver Pod answered: no receiver Pod runs"},
	} {
		status := v1alpha1.HeymarketWebhookStatus{Targets: []v1alpha1.TargetStatus{{Name: "crm", Pending: 100, Circuit: v1alpha1.CircuitClosed}}}
		got := update(&status, tc.answers, tc.err)
		if got.rounded != tc.rounded || !strings.HasSuffix(got.note, tc.note) || tc.note == "" && got.note != "" {
			t.Errorf("%s: %+v", name, got)
		}
		if len(status.Targets) != 1 || status.Targets[0].Pending != tc.pending || status.Targets[0].Circuit != tc.circuit {
			t.Errorf("%s: %+v", name, status.Targets)
		}
	}
}

// A receiver's current report replaces counts, and moves times forward only: another receiver may have seen later ones.
func TestMerge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *metav1.Time { return new(metav1.NewTime(now.Add(-d))) }
	status := v1alpha1.HeymarketWebhookStatus{
		LastEventTime: at(time.Minute),
		Targets: []v1alpha1.TargetStatus{
			{Name: "crm", Pending: 4000, DeadLetters: 20, Circuit: v1alpha1.CircuitOpen, LastDelivered: at(time.Minute), LastError: &v1alpha1.TargetError{Class: "Timeout"}},
			{Name: "audit", LastDelivered: at(time.Hour)},
			{Name: "gone"},
		},
		Token: &v1alpha1.TokenStatus{LastUsed: at(time.Hour), PreviousLastUsed: at(time.Minute)},
	}
	merge(&status, contract.Status{
		Tokens: []contract.TokenStatus{{Name: contract.TokenCurrent, LastUsed: now}, {Name: contract.TokenPrevious, LastUsed: now.Add(-time.Hour)}},
		Targets: []contract.TargetStatus{
			{Name: "crm", Pending: 4321, DeadLetters: 21, Circuit: contract.CircuitClosed, LastDelivered: now.Add(-time.Hour), OldestPending: now.Add(-time.Hour), NextAttempt: now},
			{Name: "audit", Circuit: contract.CircuitOpen, LastDelivered: now.Add(-time.Hour / 2), LastError: &contract.TargetError{Class: contract.ErrorTLS, Since: now}},
		},
	})
	want := v1alpha1.HeymarketWebhookStatus{
		LastEventTime: at(0),
		Targets: []v1alpha1.TargetStatus{
			{Name: "crm", Pending: 4321, DeadLetters: 21, Circuit: v1alpha1.CircuitClosed, LastDelivered: at(time.Minute), OldestPending: at(time.Hour), NextAttempt: at(0)},
			{Name: "audit", Circuit: v1alpha1.CircuitOpen, LastDelivered: at(time.Hour / 2), LastError: &v1alpha1.TargetError{Class: "TLS", Since: *at(0)}},
		},
		Token: &v1alpha1.TokenStatus{LastUsed: at(0), PreviousLastUsed: at(time.Minute)},
	}
	if diff := cmp.Diff(want, status); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
