package delivery

import (
	"errors"
	"slices"
	"testing"

	"heymarket.dev/operator/internal/receiver/event"
)

func TestLanes(t *testing.T) {
	t.Parallel()
	if got := Lanes(); !slices.Equal(got, []Lane{Consent, General}) {
		t.Errorf("Lanes() = %q, want consent first", got)
	}
	for _, name := range append(event.Types(), "unknown", "", "target_opt_out_v2") {
		want := General
		switch name {
		case "target_opt_out", "target_opt_in", "target_double_opt_in", "target_double_opt_restricted":
			want = Consent
		}
		if got := LaneOf(name); got != want {
			t.Errorf("LaneOf(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestDelivered(t *testing.T) {
	t.Parallel()
	for status := range 600 {
		if got, want := (Outcome{Status: status}).Delivered(), status/100 == 2; got != want {
			t.Errorf("Outcome{Status: %d}.Delivered() = %t, want %t", status, got, want)
		}
	}
	if (Outcome{Status: 200, Err: errors.New("cut")}).Delivered() {
		t.Error("an outcome with an error counts as delivered")
	}
}
