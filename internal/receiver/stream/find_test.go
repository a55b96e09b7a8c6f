package stream_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// An event is found while it waits, while an attempt is in flight, and among the dead letters, and not once it is delivered.
func TestAnEventIsFoundWhileItIsStored(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t), "a")
	const other = "billing"
	targets := []string{other, target}
	most := limits
	most.Backlog = 5000
	for n := range 1500 { // more than a page
		id, e := newEvent(n)
		if _, err := s.Append(t.Context(), id, e, []string{other}, most); err != nil {
			t.Fatal(err)
		}
	}
	_, e := newEvent(2000)
	found := func(want bool) {
		t.Helper()
		got, ok, err := s.FindEvent(t.Context(), targets, e.ID)
		if err != nil || ok != want {
			t.Fatalf("found %t, %v; want %t", ok, err, want)
		}
		if diff := cmp.Diff(event.Event{ID: e.ID, Type: e.Type, Body: e.Body}, got); want && diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	found(false)
	appendTo(t, s, 2000, target)
	found(true)
	q := s.Queue(target, delivery.General, stream.QueueOptions{DeadLetterLimit: 10})
	lease := take(t, q, 1, 0)[0]
	found(true)
	if ok, err := q.Dead(t.Context(), lease, delivery.Outcome{Status: 422}, "no"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	found(true)
	if _, err := s.DiscardDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil); err != nil {
		t.Fatal(err)
	}
	found(false)
	if _, last := newEvent(1499); last.ID == e.ID {
		t.Fatal("the events are not told apart")
	} else if got, ok, err := s.FindEvent(t.Context(), targets, last.ID); err != nil || !ok || got.ID != last.ID {
		t.Errorf("the last of another queue: %+v, %t, %v", got, ok, err)
	}
}
