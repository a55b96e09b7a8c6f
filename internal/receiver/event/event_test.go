package event

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWhichJudgementsAreStored(t *testing.T) {
	t.Parallel()
	for j, want := range map[Judgement]bool{New: true, Returned: true, Repeat: false, LateRepeat: false, OptInWithheld: false} {
		if j.Stored() != want {
			t.Errorf("%s is stored: %t", j, j.Stored())
		}
	}
}

func TestAnEventIsQueuedWhenItIsAcceptedOrReplayed(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000)
	for replayed, want := range map[time.Time]time.Time{{}: at, at.Add(time.Hour): at.Add(time.Hour), at.Add(-time.Hour): at} {
		if got := (Event{AcceptedAt: at, ReplayedAt: replayed}).QueuedAt(); !got.Equal(want) {
			t.Errorf("replayed at %s, it was queued at %s, want %s", replayed, got, want)
		}
	}
}

func TestWhatATypeIs(t *testing.T) {
	t.Parallel()
	for name, consents := range map[string]bool{TargetOptOut: true, TargetDoubleOptIn: true, MessageReceived: false, "fax": false} {
		if IsConsent(name) != consents {
			t.Errorf("%s is consent: %t", name, !consents)
		}
	}
	for name, wire := range map[string]string{"message_received": "message_recieved", "message_recieved": "message_recieved", "message_sent": "message_sent"} {
		if got := WireType(name); got != wire {
			t.Errorf("%s is %s on the wire, want %s", name, got, wire)
		}
	}
}

func TestTypeNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"azAZ09_-.": true, "": false, "@": false, "[": false, "`": false, "{": false, "/": false, ":": false, "a b": false, "é": false,
		strings.Repeat("a", 64): true, strings.Repeat("a", 65): false,
	} {
		if IsTypeName(name) != want {
			t.Errorf("%q can be a type: %t", name, !want)
		}
	}
}

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
