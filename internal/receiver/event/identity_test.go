package event

import (
	"crypto/rand"
	"strings"
	"testing"
)

func keyOf(t testing.TB, body string) Key {
	t.Helper()
	d, err := Decode([]byte(body))
	if err != nil {
		t.Fatalf("Decode(%q): %v", body, err)
	}
	return d.Key("staging", "support")
}

func TestKey(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, a, b string
		same       bool
	}{
		// The profile of messages: id, and status when present.
		{"a message again", `{"type":"message_sent","event_data":{"id":1,"status":"sent"}}`, `{"type":"message_sent","event_data":{"id":1,"status":"sent"}}`, true},
		{"a message again, other fields changed", `{"type":"message_sent","event_data":{"id":1,"status":"sent","text":"a","updated":"x"}}`, `{"type":"message_sent","event_data":{"id":1,"status":"sent","text":"b","updated":"y"}}`, true},
		{"another message", `{"type":"message_sent","event_data":{"id":1,"status":"sent"}}`, `{"type":"message_sent","event_data":{"id":2,"status":"sent"}}`, false},
		{"a status that moves on", `{"type":"message_sent","event_data":{"id":1,"status":"sent"}}`, `{"type":"message_sent","event_data":{"id":1,"status":"delivered"}}`, false},
		{"a status that appears", `{"type":"message_sent","event_data":{"id":1}}`, `{"type":"message_sent","event_data":{"id":1,"status":"sent"}}`, false},
		{"no status and a null one", `{"type":"message_sent","event_data":{"id":1}}`, `{"type":"message_sent","event_data":{"id":1,"status":null}}`, true},
		{"a status by an escape", `{"type":"message_sent","event_data":{"id":1,"status":"sent"}}`, `{"type":"message_sent","event_data":{"id":1,"status":"s\u0065nt"}}`, true},
		{"a status that is an object, reordered", `{"type":"message_sent","event_data":{"id":1,"status":{"a":1,"b":2}}}`, `{"type":"message_sent","event_data":{"id":1,"status":{ "b":2, "a":1}}}`, true},
		{"message ids beyond 2^53", `{"type":"message_sent","event_data":{"id":9007199254740992}}`, `{"type":"message_sent","event_data":{"id":9007199254740993}}`, false},
		{"a negative id", `{"type":"message_sent","event_data":{"id":1}}`, `{"type":"message_sent","event_data":{"id":-1}}`, false},
		{"a name in other letters identifies nothing", `{"type":"message_sent","event_data":{"Id":1,"text":"a"}}`, `{"type":"message_sent","event_data":{"Id":1,"text":"b"}}`, false},
		{"an id of zero and none", `{"type":"message_sent","event_data":{"id":0}}`, `{"type":"message_sent","event_data":{}}`, false},
		{"an id that is a number and one that is a string", `{"type":"message_sent","event_data":{"id":1}}`, `{"type":"message_sent","event_data":{"id":"1"}}`, false},

		// The profile of conversations: id and updated.
		{"a chat's event again", `{"type":"chat_closed","event_data":{"id":1,"updated":"m"}}`, `{"type":"chat_closed","event_data":{"id":1,"updated":"m"}}`, true},
		{"closed on Monday and on Friday", `{"type":"chat_closed","event_data":{"id":1,"updated":"2026-01-05T10:00:00Z"}}`, `{"type":"chat_closed","event_data":{"id":1,"updated":"2026-01-09T10:00:00Z"}}`, false},
		{"a chat again, other fields changed", `{"type":"chat_closed","event_data":{"id":1,"updated":"m","status":"a","read":1}}`, `{"type":"chat_closed","event_data":{"id":1,"updated":"m","status":"b","read":2}}`, true},
		{"another chat", `{"type":"chat_closed","event_data":{"id":1,"updated":"m"}}`, `{"type":"chat_closed","event_data":{"id":2,"updated":"m"}}`, false},
		{"updated by an escape", `{"type":"chat_closed","event_data":{"id":1,"updated":"m"}}`, `{"type":"chat_closed","event_data":{"id":1,"updated":"\u006d"}}`, true},
		{"updated as a number", `{"type":"chat_closed","event_data":{"id":1,"updated":1767607200001}}`, `{"type":"chat_closed","event_data":{"id":1,"updated":1767607200002}}`, false},
		{"no updated: the whole decides", `{"type":"chat_closed","event_data":{"id":1,"read":1}}`, `{"type":"chat_closed","event_data":{"id":1,"read":2}}`, false},
		{"no updated, reordered", `{"type":"chat_closed","event_data":{"id":1,"read":1}}`, `{"type":"chat_closed","event_data":{"read":1, "id":1}}`, true},
		{"updated is null: the whole decides", `{"type":"chat_closed","event_data":{"id":1,"updated":null,"read":1}}`, `{"type":"chat_closed","event_data":{"id":1,"updated":null,"read":2}}`, false},
		{"updated is empty: the whole decides", `{"type":"chat_closed","event_data":{"id":1,"updated":"","read":1}}`, `{"type":"chat_closed","event_data":{"id":1,"updated":"","read":2}}`, false},

		// No id, or an undocumented type: the whole of event_data.
		{"an opt-out again, reordered", `{"type":"target_opt_out","event_data":{"id":1,"phone":"1","list":[1,2]}}`, `{"type":"target_opt_out", "event_data":{"list":[1, 2],"phone":"\u0031","id":1}}`, true},
		{"an opt-out with one id and another phone", `{"type":"target_opt_out","event_data":{"id":1,"phone":"1"}}`, `{"type":"target_opt_out","event_data":{"id":1,"phone":"2"}}`, false},
		{"an array's order is meant", `{"type":"target_opt_out","event_data":{"list":[1,2]}}`, `{"type":"target_opt_out","event_data":{"list":[2,1]}}`, false},
		{"an unknown type", `{"type":"fax","event_data":{"id":1,"status":"a","x":1}}`, `{"type":"fax","event_data":{"id":1,"status":"a","x":2}}`, false},
		{"an unknown type again", `{"type":"fax","event_data":{"id":1,"status":"a"}}`, `{"type":"fax","event_data":{"status":"a","id":1}}`, true},
		{"a message without id", `{"type":"message_sent","event_data":{"text":"a"}}`, `{"type":"message_sent","event_data":{"text":"b"}}`, false},
		{"a message whose id is null", `{"type":"message_sent","event_data":{"id":null,"text":"a"}}`, `{"type":"message_sent","event_data":{"id":null,"text":"b"}}`, false},
		{"digests of ids beyond 2^53", `{"type":"incoming_call","event_data":{"call":9007199254740992}}`, `{"type":"incoming_call","event_data":{"call":9007199254740993}}`, false},
		{"digests of ids beyond 2^64", `{"type":"incoming_call","event_data":{"call":18446744073709551617}}`, `{"type":"incoming_call","event_data":{"call":18446744073709551618}}`, false},
		{"one number in two spellings", `{"type":"incoming_call","event_data":{"x":1.50}}`, `{"type":"incoming_call","event_data":{"x":15e-1}}`, true},
		{"a number and its text", `{"type":"incoming_call","event_data":{"x":1}}`, `{"type":"incoming_call","event_data":{"x":"1"}}`, false},

		{"lone surrogates in the text of two events", `{"type":"incoming_call","event_data":{"x":"a\ud83d"}}`, `{"type":"incoming_call","event_data":{"x":"b\ud83d"}}`, false},
		{"lone surrogates in two spellings of one event", `{"type":"incoming_call","event_data":{"x":"a\ud83d","y":1}}`, `{"type":"incoming_call","event_data":{"y":1, "x":"\u0061\uD83D"}}`, true},
		{"ids that a double rounds to one", `{"type":"message_sent","event_data":{"id":9223372036854775808}}`, `{"type":"message_sent","event_data":{"id":9223372036854775809}}`, false},

		// The envelope takes no part, the type does.
		{"the envelope's id, the token and unknown members", `{"type":"message_sent","id":1,"token":"a","event_data":{"id":1}}`, `{"x":[1],"event_data":{"id":1},"id":2,"token":"b","type":"message_sent"}`, true},
		{"two events with one envelope id", `{"type":"message_sent","id":9,"event_data":{"id":1}}`, `{"type":"message_sent","id":9,"event_data":{"id":2}}`, false},
		{"another type", `{"type":"chat_closed","event_data":{"id":1,"updated":"m"}}`, `{"type":"chat_opened","event_data":{"id":1,"updated":"m"}}`, false},
		{"sent and received", `{"type":"message_sent","event_data":{"id":1}}`, `{"type":"message_recieved","event_data":{"id":1}}`, false},
		{"both spellings of received", `{"type":"message_received","event_data":{"id":1,"status":"a"}}`, `{"type":"message_recieved","event_data":{"id":1,"status":"a"}}`, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := keyOf(t, tc.a) == keyOf(t, tc.b); got != tc.same {
				t.Errorf("one key: %t, want %t\n%s\n%s", got, tc.same, tc.a, tc.b)
			}
		})
	}
}

// TestKeyOfEveryPart checks that no two parts of a key can be shifted into each other.
func TestKeyOfEveryPart(t *testing.T) {
	t.Parallel()
	decode := func(body string) *Delivery {
		d, err := Decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return &d
	}
	d := decode(`{"type":"message_sent","event_data":{"id":1}}`)
	seen := map[Key]string{}
	for _, id := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}, {"a", "b"}, {"b", "a"}, {"a\x01", "b"}} {
		k := d.Key(id[0], id[1])
		if other, ok := seen[k]; ok {
			t.Errorf("webhooks %q and %q share a key", id, other)
		}
		seen[k] = id[0] + "/" + id[1]
		if again := d.Key(id[0], id[1]); again != k {
			t.Errorf("the key of %q differs from call to call", id)
		}
	}
	// A name of a type that would be read as the beginning of a profile.
	a := decode(`{"type":"message_sent","event_data":{"id":1}}`).Key("n", "s")
	b := decode(`{"type":"message_sentmessage","event_data":{"id":1}}`).Key("n", "s")
	if a == b {
		t.Error("a type runs into the profile")
	}
}

// TestKeyIsStable pins IDs. They are in Redis, in targets' databases and in their logs: a release that changes them
// turns every repeat into a new event.
func TestKeyIsStable(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		guideSample: "evt_3qigpgiqwccxtldlw2kaeyj2pu",
		`{"type":"chat_closed","event_data":{"id":42,"updated":"2026-01-02T03:04:05Z"}}`:               "evt_agn7jizcrungtqd5k5t7skudia",
		`{"type":"target_opt_out","event_data":{"phone":"15550100","at":1.50,"id":1}}`:                 "evt_lnom2etmhf4gvmszwpoi3qx5tq",
		`{"type":"message_sent","event_data":{"id":9223372036854775807,"status":"d\u00e9livr\u00e9"}}`: "evt_32tdi4l2lm3clpy7y4zlquxurq",
	} {
		if got := keyOf(t, body).ID(); got != want {
			t.Errorf("id %s, want %s, of\n%s", got, want, body)
		}
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	for range 2000 {
		var k Key
		_, _ = rand.Read(k[:])
		id := k.ID()
		if len(id) != 30 || strings.ToLower(id) != id {
			t.Fatalf("id %q, want 30 lower-case characters", id)
		}
		if got, ok := ParseID(id); !ok || got != k {
			t.Fatalf("ParseID(%q) = %x, %t; want %x", id, got, ok, k)
		}
	}
	good := Key{0xff}.ID()
	for _, id := range []string{
		"", "evt_", good[4:], "EVT_" + good[4:], "evt-" + good[4:], good + "a", good[:29], " " + good, good + " ", good + "\n",
		strings.ToUpper(good), "evt_" + strings.ToUpper(good[4:]), good[:29] + "=", good[:29] + "1", good[:29] + "é",
		good[:29] + "b", // bits beyond the 128th
		"evt_" + strings.Repeat("\n", 26), good[:10] + "\n" + good[10:29], good[:10] + "\n" + good[10:],
		good + good[4:],
	} {
		if k, ok := ParseID(id); ok {
			t.Errorf("ParseID(%q) = %x, want a refusal", id, k)
		}
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, in, want string }{
		{"white space", " { \"a\" : [ 1 , 2 ] } ", `{"a":[1,2]}`},
		{"order of members", `{"b":1,"a":{"d":1,"c":2}}`, `{"a":{"c":2,"d":1},"b":1}`},
		{"order by UTF-16", `{"\ue000":1,"😀":2}`, `{"😀":2,"` + "\ue000" + `":1}`},
		{"escapes", `"\u0041\/\u00e9\ud83d\ude00\u000a\u001f\u007f"`, `"A/é😀\n\u001f` + "\x7f\""},
		{"floats", `[1.0,1.50,15e-1,1E3,-0.0,1e21,1e-7,0.1]`, `[1,1.5,1.5,1000,0,1e+21,1e-7,0.1]`},
		{"integers keep their digits", `[9007199254740993,18446744073709551617,-9223372036854775808]`, `[9007199254740993,18446744073709551617,-9223372036854775808]`},
		{"literals", `[true, false, null]`, `[true,false,null]`},
		{"what HTML would escape", `"<>&\u2028"`, "\"<>&\u2028\""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in := []byte(tc.in)
			if got := string(canonical(in)); got != tc.want {
				t.Errorf("canonical(%s) = %s, want %s", tc.in, got, tc.want)
			}
			if string(in) != tc.in {
				t.Error("canonical changed its input")
			}
		})
	}
}

func BenchmarkKey(b *testing.B) {
	for name, body := range map[string]string{
		"message": guideSample,
		"digest":  strings.Replace(guideSample, "message_recieved", "target_opt_out", 1),
	} {
		b.Run(name, func(b *testing.B) {
			d, err := Decode([]byte(body))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = d.Key("staging", "support")
			}
		})
	}
}
