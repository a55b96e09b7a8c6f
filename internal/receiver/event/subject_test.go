package event

import (
	"strings"
	"testing"
)

func identityOf(t *testing.T, body string) Identity {
	t.Helper()
	d, err := Decode([]byte(body))
	if err != nil {
		t.Fatalf("Decode(%q): %v", body, err)
	}
	return d.Identity("staging", "support")
}

// TestPlaceholdersIdentifyNothing: values that software writes for a missing id or time must not merge two events.
func TestPlaceholdersIdentifyNothing(t *testing.T) {
	t.Parallel()
	for _, id := range []string{`0`, `-1`, `-9223372036854775808`, `null`, `""`, `-0`} {
		for _, eventType := range Types() {
			a := identityOf(t, `{"type":"`+eventType+`","event_data":{"id":`+id+`,"updated":"2026-01-02T03:04:05Z","text":"one"}}`)
			b := identityOf(t, `{"type":"`+eventType+`","event_data":{"id":`+id+`,"updated":"2026-01-02T03:04:05Z","text":"two"}}`)
			if a.Key == b.Key {
				t.Errorf("%s: two events with the id %s share a key", eventType, id)
			}
		}
		d, err := Decode([]byte(`{"type":"chat_closed","event_data":{"id":` + id + `}}`))
		if err != nil || d.Conversation() != "" {
			t.Errorf("conversation %q of a chat with the id %s, %v", d.Conversation(), id, err)
		}
		d, err = Decode([]byte(`{"type":"message_sent","event_data":{"conversation":{"id":` + id + `}}}`))
		if err != nil || d.Conversation() != "" {
			t.Errorf("conversation %q of a message in one with the id %s, %v", d.Conversation(), id, err)
		}
	}
	for body, want := range map[string]string{
		`{"type":"chat_closed","event_data":{"id":77}}`:                                 "77",
		`{"type":"message_sent","event_data":{"id":1,"conversation":{"id":77}}}`:        "77",
		`{"type":"message_sent","event_data":{"id":1,"conversation":77}}`:               "",
		`{"type":"target_opt_out","event_data":{"id":77,"conversation":{"id":77}}}`:     "",
		`{"type":"incoming_call","event_data":{"id":77,"conversation":{"id":77}}}`:      "",
		`{"type":"message_recieved","event_data":{"conversation":{"id":77,"x":[1]}}}`:   "77",
		`{"type":"message_recieved","event_data":{"conversation":{"id":7.5,"x":[1]}}}`:  "",
		`{"type":"message_recieved","event_data":{"conversation":{"id":"77","x":[1]}}}`: "",
	} {
		d, err := Decode([]byte(body))
		if err != nil || d.Conversation() != want {
			t.Errorf("conversation %q of %s, %v; want %q", d.Conversation(), body, err, want)
		}
	}
	for _, updated := range []string{
		`null`, `""`, `" "`, `0`, `-1`, `0.0`, `false`, `"0"`, `"0001-01-01T00:00:00Z"`, `"0001-01-01T00:00:00.000Z"`, `"0001-01-01T00:00:00"`,
		`"0001-01-01 00:00:00"`, `"0001-01-01T00:00:00+00:00"`, `"0000-00-00 00:00:00"`, `"1970-01-01T00:00:00Z"`, `"1970-01-01"`,
		`"0001-01-01 00:00:00 +0000 UTC"`, `"1970-01-01T01:00:00+01:00"`, `{}`, `[]`,
	} {
		a := identityOf(t, `{"type":"chat_closed","event_data":{"id":77,"updated":`+updated+`,"assigned":1}}`)
		b := identityOf(t, `{"type":"chat_closed","event_data":{"id":77,"updated":`+updated+`,"assigned":2}}`)
		if a.Key == b.Key {
			t.Errorf("two events updated at %s share a key", updated)
		}
		if a.Subject != b.Subject || a.Subject == (Key{}) {
			t.Errorf("updated at %s: the subjects differ", updated)
		}
	}
	for _, updated := range []string{`"2026-01-02T03:04:05Z"`, `1767607200`, `1767607200001`, `"2026-01-02 03:04:05"`, `"yesterday"`} {
		if _, present := timeOf([]byte(updated)); !present {
			t.Errorf("%s is taken for no time", updated)
		}
	}
}

func TestSubject(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, a, b string
		same       bool
		rule       Rule
	}{
		{"the consent types of one recipient", `{"type":"target_opt_out","event_data":{"target":"+1","inbox":3}}`, `{"type":"target_double_opt_in","event_data":{"target":"+1","inbox":3,"x":1}}`, true, OptOut},
		{"another inbox", `{"type":"target_opt_in","event_data":{"target":"+1","inbox":3}}`, `{"type":"target_opt_in","event_data":{"target":"+1","inbox":4}}`, false, OptIn},
		{"another recipient", `{"type":"target_double_opt_restricted","event_data":{"target":"+1"}}`, `{"type":"target_opt_out","event_data":{"target":"+2"}}`, false, OptOut},
		{"a recipient by phone", `{"type":"target_opt_out","event_data":{"phone":"1","target":""}}`, `{"type":"target_opt_in","event_data":{"phone":"1"}}`, true, OptOut},
		{"recipients of no name that is known, by id", `{"type":"target_opt_out","event_data":{"id":1,"who":"1"}}`, `{"type":"target_opt_out","event_data":{"id":2,"who":"1"}}`, false, OptOut},
		{"one of no name that is known, by id", `{"type":"target_opt_out","event_data":{"id":1,"who":"1"}}`, `{"type":"target_opt_in","event_data":{"id":1,"who":"2"}}`, true, OptOut},
		{"recipients of no name that is known", `{"type":"target_opt_out","event_data":{"who":"1"}}`, `{"type":"target_opt_in","event_data":{"who":"2"}}`, true, OptOut},
		{"the statuses of a message", `{"type":"message_sent","event_data":{"id":1,"status":"sent"}}`, `{"type":"message_sent","event_data":{"id":1,"status":"failed"}}`, true, Last},
		{"a message sent and one received", `{"type":"message_sent","event_data":{"id":1}}`, `{"type":"message_recieved","event_data":{"id":1}}`, false, Last},
		{"another message", `{"type":"message_sent","event_data":{"id":1}}`, `{"type":"message_sent","event_data":{"id":2}}`, false, Last},
		{"a chat at one time", `{"type":"chat_closed","event_data":{"id":1,"updated":"2026-01-02T03:04:05Z"}}`, `{"type":"chat_opened","event_data":{"id":1,"updated":"2026-01-02T03:04:05Z"}}`, true, Last},
		{"a chat at two times", `{"type":"chat_closed","event_data":{"id":1,"updated":"2026-01-02T03:04:05Z"}}`, `{"type":"chat_closed","event_data":{"id":1,"updated":"2026-01-02T03:04:06Z"}}`, false, Last},
		{"a chat without a time", `{"type":"chat_closed","event_data":{"id":1}}`, `{"type":"chat_opened","event_data":{"id":1,"read":1}}`, true, Last},
		{"a type that is not documented", `{"type":"fax","event_data":{"id":1}}`, `{"type":"fax","event_data":{"id":2}}`, true, Any},
		{"a message without an id", `{"type":"message_sent","event_data":{"text":"a"}}`, `{"type":"message_sent","event_data":{"text":"b"}}`, true, Any},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a, b := identityOf(t, tc.a), identityOf(t, tc.b)
			if (a.Subject == b.Subject) != tc.same || a.Rule != tc.rule {
				t.Errorf("one subject: %t, want %t; rule %s, want %s", a.Subject == b.Subject, tc.same, a.Rule, tc.rule)
			}
			if message := strings.Contains(tc.a, "message_sent"); message && a.State != a.Key || a.State == (Key{}) {
				t.Errorf("the state of %s is %x, and its key %x", tc.a, a.State, a.Key)
			}
		})
	}
}

// Several changes of a conversation may have the same time: they share a key, and differ in their state.
func TestTheStateOfADatedConversationIsItsContent(t *testing.T) {
	t.Parallel()
	const body = `{"type":"chat_closed","event_data":{"id":1,"updated":"2026-01-02T03:04:05Z","read":1}}`
	first := identityOf(t, body)
	for other, same := range map[string]bool{
		strings.Replace(body, `"read":1`, `"read":2`, 1):   false,
		strings.Replace(body, `"id":1,`, "", 1):            false,
		strings.Replace(body, `{"id":1,`, `{ "id": 1,`, 1): true,
	} {
		if got := identityOf(t, other); (got.State == first.State) != same {
			t.Errorf("one state: %t, want %t: %s", !same, same, other)
		}
	}
}

func TestTimeOf(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int64{
		`1767607200`: 1767607200_000_000, `1767607200.5`: 1767607200_500_000, `1767607200001`: 1767607200_001_000,
		`1767607200000001`: 1767607200_000_001, `1767607200000000000`: 1767607200_000_000, `1e11`: 1e17, `100000000001`: 100_000_000_001_000,
		`"2026-01-05T10:00:00.000001Z"`: 1767607200_000_001, `"2026-01-05 10:00:00"`: 1767607200_000_000,
	} {
		if got, present := timeOf([]byte(raw)); !present || got != want {
			t.Errorf("%s is read as %d, %t; want %d", raw, got, present, want)
		}
	}
}

// Only the key counts if an expression computes it.
func TestAnExpressionHasNoSubject(t *testing.T) {
	t.Parallel()
	d, err := Decode([]byte(`{"type":"target_opt_out","event_data":{"target":"+1"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := d.IdentityBy("staging", "support", "k"); got != (Identity{Key: d.KeyBy("staging", "support", "k"), Rule: Any}) {
		t.Errorf("identity %+v", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{`"a"`: true, `""`: false, `" "`: false, `null`: false, `0`: false, `15`: true, `{}`: false, `true`: false} {
		if names([]byte(value)) != want {
			t.Errorf("%s names something: %t", value, !want)
		}
	}
}
