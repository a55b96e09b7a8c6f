package console

import (
	"testing"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
)

// The figures of a target have what waits for it, and the circuit and the error of the receiver that reports one.
func TestFiguresOfWhatWaits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	failure := &contract.TargetError{Class: contract.ErrorTimeout, Since: now.Add(-7 * time.Minute)}
	crm := contract.TargetStatus{Name: "crm", Pending: 1234, DeadLetters: 5, Circuit: contract.CircuitClosed, OldestPending: now.Add(-20 * time.Minute), NextAttempt: now.Add(3 * time.Minute)}
	fails, opens := crm, crm
	fails.LastError, opens.Circuit = failure, contract.CircuitOpen
	erp := contract.TargetStatus{Name: "erp", Circuit: contract.CircuitClosed}
	for name, reports := range map[string][]contract.TargetStatus{"the first reports": {opens, fails, crm}, "the last reports": {crm, fails, opens}} {
		w := newWatcher(nil, "support")
		var stats []admin.Stats
		for _, report := range reports {
			stats = append(stats, admin.Stats{Waiting: []contract.TargetStatus{report, erp}})
		}
		w.sample(stats, now)
		f := w.figures(now)
		for figure, want := range map[string]string{
			"crm.pending": "1,234", "crm.dead": "5", "crm.circuit": "Open", "crm.oldest": "20 min", "crm.next": crm.NextAttempt.Local().Format("15:04"), "crm.lastError": "Timeout for 7 min",
			"erp.pending": "0", "erp.dead": "0", "erp.circuit": "Closed", "erp.oldest": "–", "erp.next": "–", "erp.lastError": "none",
		} {
			if f[figure] != want {
				t.Errorf("%s: %s is %q, want %q", name, figure, f[figure], want)
			}
		}
	}
}
