//go:build neighbours

package e2e

import (
	"strings"
	"testing"

	"heymarket.dev/operator/test/support/quickstart"
)

// A drain of the only node evicts one receiver, whose replacement has no node to run on; the PodDisruptionBudget keeps the other,
// which serves.
func TestADrainLeavesAReceiver(t *testing.T) {
	s := newScene(t)
	if err := s.bothAvailable(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t.Context(), s.heymarket)
	defer l.end()
	l.more(t, 100)
	t.Cleanup(func() { kubectl(t, "", "uncordon", "node") })
	_, err := cluster.RunKubectl(t.Context(), "", "drain", "node", "--pod-selector=app.kubernetes.io/instance="+quickstart.WebhookName,
		"--ignore-daemonsets", "--delete-emptydir-data", "--timeout=20s")
	if err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Errorf("the drain ended with %v, want the refusal of the disruption budget", err)
	}
	l.more(t, 200)
	pods, err := s.receivers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := 0
	for _, pod := range pods {
		if pod.Spec.NodeName != "" {
			running++
		}
	}
	if running != 1 {
		t.Errorf("%d receivers run on the drained node, want 1", running)
	}
	kubectl(t, "", "uncordon", "node")
	if err := s.bothAvailable(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if refused := l.refusals(); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	l.allDelivered(t, s.target)
}
