package event

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// guideSample has the shape of the example in the provider's guide, with the fields of a Message and its Conversation.
const guideSample = `{
  "type": "message_recieved",
  "id": 1187,
  "token": "not-a-real-token",
  "event_data": {
    "id": 9007199254740993,
    "local_id": "c0ffee",
    "conversation": {"id": 42, "inbox": 7, "channel": "sms", "target": "15550100", "updated": "2026-01-02T03:04:05Z",
      "members": [{"id": 1, "name": "Ada"}], "blocked": false, "super": 0},
    "author": "Ada", "user": 11, "broadcast_id": 0, "type": "text", "status": "received", "text": "Hello, \u00e9t\u00e9",
    "media": "", "phone": "15550100", "target": "15550199", "date": "2026-01-02T03:04:05Z", "flagged": false,
    "custom": {"type": "data", "data": [1, 2, 255]}
  }
}`

func TestDecode(t *testing.T) {
	t.Parallel()
	type fields struct {
		Type      string
		Respelled bool
		WebhookID int64
		HasID     bool
		Odd       bool
		Token     string
		Body      string
	}
	for _, tc := range []struct {
		name, body string
		want       fields
	}{
		{"the guide's sample", guideSample, fields{
			Type: MessageReceived, WebhookID: 1187, HasID: true, Token: "not-a-real-token",
			Body: strings.Replace(guideSample, ",\n  \"token\": \"not-a-real-token\"", "", 1),
		}},
		{"the least that is an event", `{"type":"chat_closed","event_data":{}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","event_data":{}}`,
		}},
		{"white space around and within", " \t\r\n{ \"type\" : \"incoming_call\" , \"event_data\" : { } } \r\n\t ", fields{
			Type: IncomingCall, Body: " \t\r\n{ \"type\" : \"incoming_call\" , \"event_data\" : { } } \r\n\t ",
		}},
		{"the misspelling corrected", `{"type":"message_received","event_data":{}}`, fields{
			Type: MessageReceived, Respelled: true, Body: `{"type":"message_received","event_data":{}}`,
		}},
		{"a documented type with escapes", `{"type":"chat\u005fclosed","event_data":{}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat\u005fclosed","event_data":{}}`,
		}},
		{"a corrected type with escapes", `{"type":"\u006dessage_received","event_data":{}}`, fields{
			Type: MessageReceived, Respelled: true, Body: `{"type":"\u006dessage_received","event_data":{}}`,
		}},
		{"an unknown type", `{"type":"Fax.v2-sent_9","event_data":{}}`, fields{
			Type: "Fax.v2-sent_9", Body: `{"type":"Fax.v2-sent_9","event_data":{}}`,
		}},
		{"a type of 64 characters", `{"type":"` + strings.Repeat("a", 64) + `","event_data":{}}`, fields{
			Type: strings.Repeat("a", 64), Body: `{"type":"` + strings.Repeat("a", 64) + `","event_data":{}}`,
		}},
		{"names with escapes", `{"\u0074ype":"chat_closed","\u0069d":7,"\u0074oken":"x","event\u005fdata":{"\u0069d":1}}`, fields{
			Type: ChatClosed, WebhookID: 7, HasID: true, Token: "x",
			Body: `{"\u0074ype":"chat_closed","\u0069d":7,"event\u005fdata":{"\u0069d":1}}`,
		}},
		{"a token with escapes", `{"type":"chat_closed","token":"a\"\\\u00e9\ud83d\ude00\n","event_data":{}}`, fields{
			Type: ChatClosed, Token: "a\"\\é😀\n", Body: `{"type":"chat_closed","event_data":{}}`,
		}},
		{"an empty token", `{"type":"chat_closed","token":"","event_data":{}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","event_data":{}}`,
		}},
		{"a token that is a number", `{"type":"chat_closed","token":123,"event_data":{}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","event_data":{}}`,
		}},
		{"a token that is an object", `{"type":"chat_closed","token":{"token":"x"},"event_data":{}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","event_data":{}}`,
		}},
		{"a token that is null", `{"token":null,"type":"chat_closed","event_data":{}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","event_data":{}}`,
		}},
		{"the greatest id", `{"type":"chat_closed","id":9223372036854775807,"event_data":{"id":-9223372036854775808}}`, fields{
			Type: ChatClosed, WebhookID: 9223372036854775807, HasID: true,
			Body: `{"type":"chat_closed","id":9223372036854775807,"event_data":{"id":-9223372036854775808}}`,
		}},
		{"the least id", `{"type":"chat_closed","id":-9223372036854775808,"event_data":{}}`, fields{
			Type: ChatClosed, WebhookID: -9223372036854775808, HasID: true,
			Body: `{"type":"chat_closed","id":-9223372036854775808,"event_data":{}}`,
		}},
		{"an id of zero", `{"type":"chat_closed","id":0,"event_data":{}}`, fields{
			Type: ChatClosed, HasID: true, Body: `{"type":"chat_closed","id":0,"event_data":{}}`,
		}},
		{"an id that is null", `{"type":"chat_closed","id":null,"event_data":{}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","id":null,"event_data":{}}`,
		}},
		{
			"unknown members, their order, their digits, their escapes", `{"z":1e400,"type":"chat_closed","a":[18446744073709551616,0.10,"\u002F\/"],"token":"x","event_data":{"b":-0,"a":{"token":"kept"}},"":null}`,
			fields{
				Type: ChatClosed, Token: "x",
				Body: `{"z":1e400,"type":"chat_closed","a":[18446744073709551616,0.10,"\u002F\/"],"event_data":{"b":-0,"a":{"token":"kept"}},"":null}`,
			},
		},
		{"a byte order mark", "\ufeff" + `{"token":"x","type":"chat_closed","event_data":{}}`, fields{
			Type: ChatClosed, Token: "x", Body: `{"type":"chat_closed","event_data":{}}`,
		}},
		{
			"lone surrogates in values", `{"type":"chat_closed","token":"x","event_data":{"text":"cut emoji \ud83d","a":["\uDE00","\ude00\ud83d \"\\"]},"x":"\ud800"}`, fields{
				Type: ChatClosed, Token: "x",
				Body: `{"type":"chat_closed","event_data":{"text":"cut emoji \ud83d","a":["\uDE00","\ude00\ud83d \"\\"]},"x":"\ud800"}`,
			},
		},
		{"U+0000 in values, and what resembles it in names", `{"type":"chat_closed","event_data":{"x":"\u0000","\\u0000":"\\","\ud83d\ude00":1}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","event_data":{"x":"\u0000","\\u0000":"\\","\ud83d\ude00":1}}`,
		}},
		{"an id that is a string", `{"type":"chat_closed","id":"7","event_data":{}}`, fields{
			Type: ChatClosed, Odd: true, Body: `{"type":"chat_closed","id":"7","event_data":{}}`,
		}},
		{"an id with a zero for a fraction", `{"type":"chat_closed","id":7.0,"event_data":{}}`, fields{
			Type: ChatClosed, Odd: true, Body: `{"type":"chat_closed","id":7.0,"event_data":{}}`,
		}},
		{"an id with an exponent", `{"type":"chat_closed","id":1e3,"event_data":{}}`, fields{
			Type: ChatClosed, Odd: true, Body: `{"type":"chat_closed","id":1e3,"event_data":{}}`,
		}},
		{"ids within that are no 64-bit integers", `{"type":"chat_closed","event_data":{"id":9223372036854775808}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","event_data":{"id":9223372036854775808}}`,
		}},
		{"an event_data.id that is a string", `{"type":"chat_closed","event_data":{"id":"7"}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","event_data":{"id":"7"}}`,
		}},
		{"a foreign spelling within event_data alone", `{"type":"target_opt_out","event_data":{"ID":7,"Status":"out"}}`, fields{
			Type: TargetOptOut, Body: `{"type":"target_opt_out","event_data":{"ID":7,"Status":"out"}}`,
		}},
		{"members of event_data that resemble each other and identify nothing", `{"type":"chat_closed","event_data":{"id":1,"Text":1,"text":2}}`, fields{
			Type: ChatClosed, Body: `{"type":"chat_closed","event_data":{"id":1,"Text":1,"text":2}}`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			body := []byte(tc.body)
			d, err := Decode(body)
			if err != nil {
				t.Fatalf("Decode: %v", err)
			}
			got := fields{d.Type, d.Respelled, d.WebhookID, d.HasWebhookID, d.OddWebhookID, string(d.Token), string(d.Body)}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Decode (-want +got):\n%s", diff)
			}
			if string(body) != tc.body {
				t.Error("Decode changed the body that it was given")
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	nested := func(depth int) string {
		return `{"type":"chat_closed","event_data":{"a":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}}`
	}
	for _, tc := range []struct {
		name, body string
		want       Malformed
	}{
		{"nothing", "", NotJSON},
		{"white space", " \n", NotJSON},
		{"an array", `[{"type":"chat_closed","event_data":{}}]`, NotJSON},
		{"a string", `"chat_closed"`, NotJSON},
		{"null", `null`, NotJSON},
		{"a form", `type=chat_closed&token=x`, NotJSON},
		{"XML", `<event/>`, NotJSON},
		{"gzip", "\x1f\x8b\x08\x00", NotJSON},
		{"two byte order marks", "\ufeff\ufeff" + `{"type":"chat_closed","event_data":{}}`, NotJSON},
		{"a byte order mark behind white space", " \ufeff" + `{"type":"chat_closed","event_data":{}}`, NotJSON},
		{"a byte order mark behind the document", `{"type":"chat_closed","event_data":{}}` + "\ufeff", NotJSON},
		{"UTF-16", "{\x00\"\x00t\x00", NotJSON},
		{"no colon", `{"type" "chat_closed"}`, NotJSON},
		{"a trailing comma", `{"type":"chat_closed","event_data":{},}`, NotJSON},
		{"a trailing comma within", `{"type":"chat_closed","event_data":{"id":1,}}`, NotJSON},
		{"a missing comma", `{"type":"chat_closed" "event_data":{}}`, NotJSON},
		{"single quotes", `{'type':'chat_closed','event_data':{}}`, NotJSON},
		{"a comment", `{"type":"chat_closed",/* */"event_data":{}}`, NotJSON},
		{"NaN", `{"type":"chat_closed","event_data":{"x":NaN}}`, NotJSON},
		{"a leading zero", `{"type":"chat_closed","id":01,"event_data":{}}`, NotJSON},
		{"a leading plus", `{"type":"chat_closed","id":+1,"event_data":{}}`, NotJSON},
		{"a raw control character", "{\"type\":\"chat_closed\",\"event_data\":{\"x\":\"a\nb\"}}", NotJSON},
		{"a wrong escape", `{"type":"chat_closed","event_data":{"x":"\x41"}}`, NotJSON},
		{"a lone surrogate in the type", `{"type":"chat_closed\ud800","event_data":{}}`, NoType},
		{"a lone surrogate in the id", `{"type":"chat_closed","id":"7\ud800","event_data":{}}`, BadID},
		{"U+0000 in the id", `{"type":"chat_closed","id":"7\u0000","event_data":{}}`, BadID},
		{"a lone surrogate in the token", `{"type":"chat_closed","token":"\udc00","event_data":{}}`, NotJSON},
		{"invalid UTF-8 in a value", "{\"type\":\"chat_closed\",\"event_data\":{\"x\":\"\xff\"}}", NotJSON},
		{"invalid UTF-8 in a name", "{\"type\":\"chat_closed\",\"event_data\":{},\"\xc3\":1}", NotJSON},
		{"invalid UTF-8 in the token", "{\"type\":\"chat_closed\",\"token\":\"\xed\xa0\x80\",\"event_data\":{}}", NotJSON},
		{"an overlong encoding", "{\"type\":\"chat_closed\",\"event_data\":{\"x\":\"\xc0\xaf\"}}", NotJSON},
		{"trailing data", `{"type":"chat_closed","event_data":{}}x`, NotJSON},
		{"a second value", `{"type":"chat_closed","event_data":{}}{}`, NotJSON},
		{"a second value behind white space", `{"type":"chat_closed","event_data":{}}` + "\n1", NotJSON},
		{"a trailing NUL", `{"type":"chat_closed","event_data":{}}` + "\x00", NotJSON},
		{"white space that is none of JSON's", `{"type":"chat_closed","event_data":{}}` + "\u00a0", NotJSON},
		{"nesting without end", nested(10_001), NotJSON},
		{"unclosed nesting", `{"type":"chat_closed","event_data":` + strings.Repeat(`{"a":`, 100_000), NotJSON},
		{"unclosed arrays", strings.Repeat("[", 100_000), NotJSON},

		{"type twice", `{"type":"chat_closed","type":"chat_opened","event_data":{}}`, NotJSON},
		{"token twice", `{"type":"chat_closed","token":"a","token":"b","event_data":{}}`, NotJSON},
		{"id twice", `{"type":"chat_closed","id":1,"event_data":{},"id":1}`, NotJSON},
		{"event_data twice", `{"type":"chat_closed","event_data":{},"event_data":{}}`, NotJSON},
		{"an unknown member twice", `{"type":"chat_closed","event_data":{},"x":1,"x":1}`, NotJSON},
		{"token twice by an escape", `{"type":"chat_closed","token":"a","\u0074oken":"b","event_data":{}}`, NotJSON},
		{"an id within twice", `{"type":"chat_closed","event_data":{"id":1,"id":2}}`, NotJSON},
		{"an id within twice by an escape", `{"type":"chat_closed","event_data":{"id":1,"\u0069d":2}}`, NotJSON},
		{"a deep member twice", `{"type":"chat_closed","event_data":{"conversation":{"members":[{"id":1,"id":2}]}}}`, NotJSON},
		{"a member of an unknown object twice", `{"type":"chat_closed","event_data":{},"x":{"a":1,"a":1}}`, NotJSON},

		{"Type", `{"Type":"chat_opened","type":"chat_closed","event_data":{}}`, AmbiguousMembers},
		{"TOKEN", `{"type":"chat_closed","token":"a","TOKEN":"b","event_data":{}}`, AmbiguousMembers},
		{"Token alone", `{"type":"chat_closed","Token":"b","event_data":{}}`, AmbiguousMembers},
		{"ID", `{"type":"chat_closed","ID":5,"event_data":{}}`, AmbiguousMembers},
		{"Event_Data", `{"type":"chat_closed","Event_Data":{},"event_data":{}}`, AmbiguousMembers},
		{"eventData", `{"type":"chat_closed","eventData":{},"event_data":{}}`, AmbiguousMembers},
		{"Event-Data", `{"type":"chat_closed","Event-Data":{},"event_data":{}}`, AmbiguousMembers},
		{"a Kelvin sign", `{"type":"chat_closed","to` + "\u212a" + `en":"b","event_data":{}}`, AmbiguousMembers},
		{"a Kelvin sign by an escape", `{"type":"chat_closed","to\u212aen":"b","event_data":{}}`, AmbiguousMembers},
		{"Token by an escape", `{"type":"chat_closed","\u0054oken":"b","event_data":{}}`, AmbiguousMembers},
		{"id and ID within", `{"type":"chat_closed","event_data":{"id":1,"ID":2}}`, AmbiguousEventData},
		{"ID and id within", `{"type":"chat_closed","event_data":{"ID":1,"id":2}}`, AmbiguousEventData},
		{"Id and ID within", `{"type":"chat_closed","event_data":{"ID":1,"Id":2}}`, AmbiguousEventData},
		{"status and Status within", `{"type":"message_sent","event_data":{"id":1,"status":"a","Status":"b"}}`, AmbiguousEventData},
		{"status with a long s within", `{"type":"message_sent","event_data":{"id":1,"status":"a","` + "\u017f" + `tatus":"b"}}`, AmbiguousEventData},
		{"updated and UPDATED within", `{"type":"chat_closed","event_data":{"id":1,"updated":"a","UPDATED":"b"}}`, AmbiguousEventData},

		{"an empty object", `{}`, NoType},
		{"only a token", `{"token":"x"}`, NoType},
		{"no type", `{"id":1,"token":"x","event_data":{}}`, NoType},
		{"the name of an older guide", `{"event":"message_received","event_data":{}}`, NoType},
		{"a type that is null", `{"type":null,"event_data":{}}`, NoType},
		{"a type that is a number", `{"type":1,"event_data":{}}`, NoType},
		{"a type that is an array", `{"type":["chat_closed"],"event_data":{}}`, NoType},
		{"an empty type", `{"type":"","event_data":{}}`, NoType},
		{"a type with a space", `{"type":"chat closed","event_data":{}}`, NoType},
		{"a type with a line break", `{"type":"chat_closed\r\nX: y","event_data":{}}`, NoType},
		{"a type beyond ASCII", `{"type":"chät","event_data":{}}`, NoType},
		{"a type of 65 characters", `{"type":"` + strings.Repeat("a", 65) + `","event_data":{}}`, NoType},

		{"no event_data", `{"type":"chat_closed"}`, NoEventData},
		{"event_data that is null", `{"type":"chat_closed","event_data":null}`, NoEventData},
		{"event_data that is an array", `{"type":"chat_closed","event_data":[]}`, NoEventData},
		{"event_data that is a string", `{"type":"chat_closed","event_data":"{}"}`, NoEventData},

		{"an id above 64 bits", `{"type":"chat_closed","id":9223372036854775808,"event_data":{}}`, BadID},
		{"an id below 64 bits", `{"type":"chat_closed","id":-9223372036854775809,"event_data":{}}`, BadID},
		{"an id with a fraction", `{"type":"chat_closed","id":1.5,"event_data":{}}`, BadID},
		{"an id that readers round", `{"type":"chat_closed","id":9007199254740993.0,"event_data":{}}`, BadID},
		{"an id beyond a double", `{"type":"chat_closed","id":1e400,"event_data":{}}`, BadID},
		{"an id that is false", `{"type":"chat_closed","id":false,"event_data":{}}`, BadID},
		{"an id that is an object", `{"type":"chat_closed","id":{},"event_data":{}}`, BadID},
		{"an id of a thousand digits", `{"type":"chat_closed","id":` + strings.Repeat("9", 1000) + `,"event_data":{}}`, BadID},

		{"U+0000 in a name", `{"type":"chat_closed","type\u0000":"chat_opened","event_data":{}}`, AmbiguousName},
		{"U+0000 before a name", `{"type":"chat_closed","\u0000token":"x","event_data":{}}`, AmbiguousName},
		{"U+0000 behind an escaped name", `{"type":"chat_closed","\u0074oken\u0000":"x","event_data":{}}`, AmbiguousName},
		{"U+0000 in a name before white space", `{"type":"chat_closed","event_data":{},"id\u0000` + "\" \t\r\n:1}", AmbiguousName},
		{"U+0000 in a name of event_data", `{"type":"chat_closed","event_data":{"id":1,"id\u0000":2}}`, AmbiguousName},
		{"U+0000 in a deep name", `{"type":"chat_closed","event_data":{"a":[{"b":{"c\u0000":2}}]}}`, AmbiguousName},
		{"U+0000 in a name of an unknown member", `{"type":"chat_closed","event_data":{},"x":{"\u0000":1}}`, AmbiguousName},
		{"a lone surrogate in a name", `{"type":"chat_closed","event_data":{},"x\ud83d":1}`, AmbiguousName},
		{"a lone surrogate in a name of event_data", `{"type":"chat_closed","event_data":{"id":1,"\uDC00":1}}`, AmbiguousName},
		{"two lone surrogates that readers replace by the same", `{"type":"chat_closed","event_data":{"\ud800":1,"\ud801":2}}`, NotJSON},
		{"surrogates in the wrong order in a deep name", `{"type":"chat_closed","event_data":{"a":[{"\ude00\ud83d":2}]}}`, AmbiguousName},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, err := Decode([]byte(tc.body))
			var got Malformed
			if !errors.As(err, &got) {
				t.Fatalf("Decode = %+v, %v; want the error %q", d, err, tc.want)
			}
			if got != tc.want {
				t.Errorf("Decode: %q, want %q", got, tc.want)
			}
		})
	}
	if _, err := Decode([]byte(nested(9_000))); err != nil {
		t.Errorf("Decode of 9,000 nested arrays: %v", err)
	}
}

// TestDecodeRefusesEveryPrefix cuts a good body at every byte.
func TestDecodeRefusesEveryPrefix(t *testing.T) {
	t.Parallel()
	for i := range len(guideSample) {
		if _, err := Decode([]byte(guideSample[:i])); err == nil {
			t.Errorf("Decode took the first %d bytes of %d", i, len(guideSample))
		}
	}
}

// TestTokenIsCutByteExact builds bodies of all member orders with unusual white space and escapes, and computes the
// expected cut independently.
func TestTokenIsCutByteExact(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	space := func() string {
		var b strings.Builder
		for rng.IntN(2) == 0 {
			b.WriteByte(" \t\r\n"[rng.IntN(4)])
		}
		return b.String()
	}
	for range 20_000 {
		members := []string{
			`"type"` + space() + `:` + space() + `"chat_closed"`,
			`"event_data"` + space() + `:` + space() + `{"token":"kept","id":9007199254740993}`,
			`"token"` + space() + `:` + space() + `"s3\"cr,et}\\"`,
		}
		if rng.IntN(4) == 0 {
			members[2] = `"\u0074ok\u0065n"` + space() + `:` + space() + `"s3\u0022cr\u002cet}\u005c"`
		}
		for i := range rng.IntN(4) {
			members = append(members, fmt.Sprintf(`"x%d"%s:%s[1,{"token":null}]`, i, space(), space()))
		}
		token := members[2]
		rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })

		var whole, want strings.Builder
		both := func(s string) { whole.WriteString(s); want.WriteString(s) }
		both(space() + "{" + space())
		for i, m := range members {
			switch {
			case m == token && i == 0: // the cut ends where the next name begins
				whole.WriteString(m + space() + "," + space())
				continue
			case m == token: // the cut begins where the previous value ended
				whole.WriteString(space() + "," + space() + m)
				continue
			case i > 1 || (i == 1 && members[0] != token):
				both(space() + "," + space())
			}
			both(m)
		}
		both(space() + "}" + space())

		d, err := Decode([]byte(whole.String()))
		if err != nil {
			t.Fatalf("Decode(%q): %v", whole.String(), err)
		}
		if string(d.Token) != `s3"cr,et}\` {
			t.Fatalf("token = %q of %q", d.Token, whole.String())
		}
		if string(d.Body) != want.String() {
			t.Fatalf("of  %q\ngot %q\nwant %q", whole.String(), d.Body, want.String())
		}
	}
}

func TestDecodeSharesNothingBetweenCalls(t *testing.T) {
	t.Parallel()
	var kept []Delivery
	var bodies [][]byte
	for i := range 200 {
		body := fmt.Appendf(nil, `{"token":"t%d","type":"type_%d","event_data":{"id":%d,"status":"s%d"}}`, i, i, i, i)
		d, err := Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if _, err := Decode(body[:len(body)/2]); err == nil {
				t.Fatal("half a body was taken")
			}
		}
		kept, bodies = append(kept, d), append(bodies, body)
	}
	for i, d := range kept {
		if string(d.Token) != fmt.Sprintf("t%d", i) || d.Type != fmt.Sprintf("type_%d", i) || d.identity.id != int64(i) ||
			string(d.identity.status) != fmt.Sprintf(`"s%d"`, i) || !bytes.HasSuffix(bodies[i], d.Body[1:]) {
			t.Errorf("delivery %d has been overwritten: %+v", i, d)
		}
	}
}

// TestDecodeAllocations bounds the allocations of the ingest path for an event of the usual size: its body without the
// token, and its ID. The minimum of many runs counts, because the race detector makes pools drop their items.
func TestDecodeAllocations(t *testing.T) {
	body := []byte(guideSample)
	least := 1000.0
	for range 50 {
		least = min(least, testing.AllocsPerRun(1, func() {
			d, err := Decode(body)
			if err != nil {
				t.Fatal(err)
			}
			_ = d.Key("staging", "support").ID()
		}))
	}
	if least > 2 {
		t.Errorf("Decode, Key and ID take %.0f allocations, want at most 2", least)
	}
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(guideSample)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := Decode(body); err != nil {
			b.Fatal(err)
		}
	}
}

// Some readers treat these names as event_data, so they would see other data than receivers do.
func TestNamesThatOthersTakeForEventData(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{
		"eventData": true, "EVENTDATA": true, "e-v-e-n-t-d-a-t-a": true, "E_v_e_n_t_D_a_t_a": true, "event-data": true,
		"e-v-e-n-t-d-a-t-a-": false, "eventDat": false, "eventdatas": false, "eventdataeventdataeventdata": false, "ev.entdata": false,
	} {
		_, err := Decode([]byte(`{"type":"message_sent","event_data":{},"` + name + `":{}}`))
		if (err != nil) != refused {
			t.Errorf("%s: %v, want it refused: %t", name, err, refused)
		}
	}
}
