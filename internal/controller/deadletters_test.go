package controller

import (
	"strings"
	"testing"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

// At the limit of dead letters a target's queue waits, which a person has to know before it is full.
func TestATargetAtItsLimitOfDeadLettersIsReported(t *testing.T) {
	t.Parallel()
	hook := &v1alpha1.HeymarketWebhook{Spec: v1alpha1.HeymarketWebhookSpec{
		Targets:   []v1alpha1.Target{{Name: "crm"}, {Name: "erp"}},
		Retention: v1alpha1.Retention{DeadLetterLimit: new(int64(10))},
	}}
	report := func(crm, erp int64) []contract.Status {
		return []contract.Status{{Redis: contract.RedisOK, Durable: true, Targets: []contract.TargetStatus{{Name: "crm", DeadLetters: crm}, {Name: "erp", DeadLetters: erp}}}}
	}
	if v := observeDurability(hook, report(9, 0)); !v.ok {
		t.Errorf("below the limit: %+v", v)
	}
	for _, n := range []int64{10, 11} {
		v := observeDurability(hook, report(n, 9))
		if v.ok || v.reason != v1alpha1.ReasonDeadLettersFull || !strings.Contains(v.message, "crm") || strings.Contains(v.message, "erp") {
			t.Errorf("%d of 10 dead letters: %+v", n, v)
		}
	}
}
