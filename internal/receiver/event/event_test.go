package event

import (
	"errors"
	"slices"
	"testing"
)

func TestTypes(t *testing.T) {
	t.Parallel()
	subjects := map[string]subject{
		"message_sent": message, "message_recieved": message,
		"chat_reassigned": conversation, "chat_closed": conversation, "chat_opened": conversation,
		"chat_pending": conversation, "chat_transferred": conversation,
		"target_opt_out": consent, "target_opt_in": consent, "target_double_opt_in": consent,
		"target_double_opt_restricted": consent, "incoming_call": undocumented,
	}
	types := Types()
	if len(types) != 12 || len(slices.Compact(slices.Sorted(slices.Values(types)))) != 12 {
		t.Fatalf("Types() = %q, want the twelve documented ones", types)
	}
	for _, name := range types {
		want, documented := subjects[name]
		if !documented {
			t.Errorf("Types() holds %q, which the provider does not document", name)
		}
		if got := subjectOf(name); got != want {
			t.Errorf("subjectOf(%q) = %v, want %v", name, got, want)
		}
		if !isTypeName([]byte(name)) {
			t.Errorf("isTypeName(%q) = false for a documented type", name)
		}
	}
	if got := subjectOf("fax_received"); got != undocumented {
		t.Errorf("subjectOf an unknown type = %v, want undocumented", got)
	}
	types[0] = "changed"
	if Types()[0] != MessageSent {
		t.Error("a caller's change to the result of Types shows in the next call")
	}
}

func TestLanes(t *testing.T) {
	t.Parallel()
	if got := Lanes(); !slices.Equal(got, []Lane{Consent, General}) {
		t.Errorf("Lanes() = %q, want consent first", got)
	}
	for _, name := range append(Types(), "unknown", "", "target_opt_out_v2") {
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
