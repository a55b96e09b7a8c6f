package controller

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
)

func TestStatusWritesOfOneResourceArePaced(t *testing.T) {
	t.Parallel()
	var p statusPace
	start := time.Unix(1_700_000_000, 0)
	writes := 0
	const seconds = 600
	for i := range seconds * 100 {
		if p.take("flipping", start.Add(time.Duration(i)*10*time.Millisecond)) == 0 {
			writes++
		}
	}
	if most := statusBurst + seconds/int(statusInterval/time.Second); writes > most || writes < most-1 {
		t.Errorf("%d writes in %d s, want %d", writes, seconds, most)
	}
	p.take("flipping", start.Add(seconds*time.Second))
	if wait := p.take("flipping", start.Add(seconds*time.Second)); wait <= 0 || wait > statusInterval {
		t.Errorf("wait = %s, want no more than %s", wait, statusInterval)
	}
	if wait := p.take("other", start.Add(seconds*time.Second)); wait != 0 {
		t.Errorf("another resource waits for %s", wait)
	}
	for i := range 3 * statusPaces {
		p.take(types.UID(rune(i)), start.Add(seconds*time.Second+time.Duration(i)*time.Minute))
	}
	if len(p.full) > statusPaces+1 {
		t.Errorf("%d resources are remembered, want at most %d", len(p.full), statusPaces+1)
	}
}

func TestPodsThatChangeTheirMindCauseFewStatusWrites(t *testing.T) {
	w := settled(t)
	w.rollOut(1)
	w.serve("10.0.0.1")
	w.writes.take()
	const rounds = 60
	for i := range rounds {
		w.says("10.0.0.1", func(s *contract.Status) {
			s.Durable = i%2 == 0
			s.Redis = []string{contract.RedisOK, "\x1b[31munreachable"}[i%2]
		})
		if _, err := w.tryReconcile(); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(w.writes.take()); got > statusBurst {
		t.Errorf("%d rounds write the status %d times, want at most %d", rounds, got, statusBurst)
	}
}

func TestADeletionThatChangesItsReasonCausesFewStatusWrites(t *testing.T) {
	w := settled(t)
	w.writes.take()
	const rounds = 60
	for i := range rounds {
		why := condition.Condition{Reason: v1alpha1.ReasonReceiverEnding, Message: []string{"One thing.", "Another."}[i%2]}
		if err := w.r.reportDeletion(t.Context(), w.hook(), why); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(w.writes.take()); got > statusBurst {
		t.Errorf("%d rounds write the status %d times, want at most %d", rounds, got, statusBurst)
	}
}
