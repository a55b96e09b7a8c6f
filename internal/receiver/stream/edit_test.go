package stream_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// An edited letter is the same event with another body: its ID, time, conversation and trace stay, and other letters are not
// affected.
func TestAnEditedLetterIsReplayed(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--appendonly", "no")
	s := connect(t, r, "a")
	key, e := newEvent(7)
	e.Conversation, e.Trace = "7", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if _, err := s.Append(t.Context(), key, e, []string{target}, limits); err != nil {
		t.Fatal(err)
	}
	q := s.Queue(target, delivery.General, unordered)
	if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], delivery.Outcome{Status: 422, Excerpt: "why"}, "refused"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	bury(t, s, 2)
	letter := letters(t, s, "", 1)[0]
	edited := "{\"edited\":\"\x01\u00fc\"}"
	if n, err := s.ReplayEdited(t.Context(), target, letter.Entry, []byte(edited), 0); err != nil || n != (delivery.DeadLetterCount{Taken: 1}) {
		t.Fatalf("ReplayEdited = %+v, %v", n, err)
	}
	back := take(t, q, 10, 0)
	if len(back) != 1 || back[0].ReplayedAt.IsZero() {
		t.Fatalf("the queue has %+v", back)
	}
	e.Body, e.ReplayedAt = []byte(edited), back[0].ReplayedAt
	if diff := cmp.Diff(e, back[0].Event); diff != "" {
		t.Errorf("the event (-want +got):\n%s", diff)
	}
	if left := letters(t, s, "", 10); len(left) != 2 {
		t.Errorf("%d letters are left, want 2", len(left))
	}
	wantCounted(t, r, "one letter is replayed with another body")
	if got, want := account(t, s, target), (stream.Account{Stored: 3, Replayed: 1, Dead: 3, Pending: 1, DeadLetters: 2}); !cmp.Equal(got, want) {
		t.Errorf("the account is %+v, want %+v", got, want)
	}
	if n, err := s.ReplayEdited(t.Context(), target, letter.Entry, []byte(edited), 0); err != nil || n != (delivery.DeadLetterCount{}) {
		t.Errorf("the same again: %+v, %v", n, err)
	}
}

// An edited opt-out stays in its lane.
func TestAnEditedLetterStaysInItsLane(t *testing.T) {
	t.Parallel()
	s := connect(t, redistest.Start(t, "--appendonly", "no"), "a")
	key, e := newEvent(1)
	e.Type = event.TargetOptOut
	if _, err := s.Append(t.Context(), key, e, []string{target}, limits); err != nil {
		t.Fatal(err)
	}
	q := s.Queue(target, delivery.Consent, unordered)
	if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], delivery.Outcome{}, "refused"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := s.ReplayEdited(t.Context(), target, letters(t, s, "", 1)[0].Entry, []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	if back := take(t, q, 1, 0); len(back) != 1 || string(back[0].Body) != "{}" {
		t.Errorf("the lane of consent has %+v", back)
	}
}

// A larger body needs memory, counted to the byte without its letter. A smaller one needs none.
func TestAnEditedLetterRespectsTheBound(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--appendonly", "no")
	s := connect(t, r, "a")
	bury(t, s, 1)
	entry, before := letters(t, s, "", 1)[0].Entry, stateOf(t, r)
	longer := []byte(`{"n":0,"text":"` + strings.Repeat("x", 500) + `"}`)
	// What the event will have: its fields without those of the end, with the time of the replay, of 13 digits.
	_, e := newEvent(0)
	bytes := int64(len("id"+e.ID+"type"+e.Type+"at1700000000000"+"body"+"replayed1700000000000") + len(longer))
	if _, err := s.ReplayEdited(t.Context(), target, entry, longer, bytes-1); !errors.Is(err, stream.ErrQuota) {
		t.Errorf("one byte more than the bound: %v", err)
	}
	if diff := cmp.Diff(before, stateOf(t, r)); diff != "" {
		t.Errorf("something has changed:\n%s", diff)
	}
	if n, err := s.ReplayEdited(t.Context(), target, entry, longer, bytes); err != nil || n.Taken != 1 {
		t.Errorf("exactly the bound: %+v, %v", n, err)
	}
	wantCounted(t, r, "it is replayed")

	q := s.Queue(target, delivery.General, unordered)
	if ok, err := q.Dead(t.Context(), take(t, q, 1, 0)[0], delivery.Outcome{}, "again"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if n, err := s.ReplayEdited(t.Context(), target, letters(t, s, "", 1)[0].Entry, []byte("{}"), 1); err != nil || n.Taken != 1 {
		t.Errorf("a smaller body in a webhook that is over its bound: %+v, %v", n, err)
	}
}
