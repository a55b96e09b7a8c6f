package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// corpus are seeds for all fuzz targets: bodies that are good and bodies that two readers could take for two events.
var corpus = []string{
	guideSample,
	`{"type":"chat_closed","id":1,"token":"x","event_data":{"id":1,"updated":"m"}}`,
	`{"token":"x","type":"message_received","event_data":{"id":9007199254740993,"status":"a"}}`,
	`{"type":"target_opt_out","event_data":{"b":[1.50,{"y":null,"x":"\u00e9\ud83d\ude00"}],"a":-0},"token":"\"}"}`,
	`{"type":"a","event_data":{},"\u0074oken":"x","Token":"y"}`,
	`{"type":"a","event_data":{"id":1,"ID":2}}`,
	`{"type":"a","type":"b","event_data":{}}`,
	`{"type":"a","event_data":{"x":1e400,"y":1E+2,"z":18446744073709551616}} `,
	"{\"type\":\"a\",\"event_data\":{\"\xff\":1}}",
	"\ufeff{}",
	"\ufeff" + `{"type":"a","id":"7","event_data":{"text":"cut \ud83d"}}`,
	`{"type":"a","id":7.0,"event_data":{"a\u0000":1}}`,
	`{"type":"a","id":1e2,"event_data":{"\ud800":1,"id":1.5}}`,
	`{"type":"a","event_data":{}}{}`,
	`{"to` + "\u212a" + `en":"x","type":"a","event_data":{"` + "\u017f" + `tatus":1}}`,
}

// FuzzDecode compares with two other readers of JSON: one with exact names, one that, like many, matches them in any
// case and lets the last duplicate win. Both must read everything that Decode accepts as the same event.
func FuzzDecode(f *testing.F) {
	for _, seed := range corpus {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		d, err := Decode(body)
		if !bytes.Equal(before, body) {
			t.Fatal("Decode changed its input")
		}
		if err != nil {
			if _, ok := err.(Malformed); !ok { //nolint:errorlint // the contract is the type itself
				t.Fatalf("error of type %T", err)
			}
			return
		}
		body = bytes.TrimPrefix(body, []byte(byteOrderMark))
		if !utf8.Valid(body) || !json.Valid(body) {
			t.Fatalf("taken, and encoding/json would not: %q", body)
		}
		var exact map[string]json.RawMessage
		if err := json.Unmarshal(body, &exact); err != nil {
			t.Fatalf("encoding/json: %v", err)
		}
		var folded struct {
			Type      json.RawMessage `json:"type"`
			ID        json.RawMessage `json:"id"`
			Token     json.RawMessage `json:"token"`
			EventData struct {
				ID      json.RawMessage `json:"id"`
				Status  json.RawMessage `json:"status"`
				Updated json.RawMessage `json:"updated"`
			} `json:"event_data"`
		}
		if err := json.Unmarshal(body, &folded); err != nil {
			t.Fatalf("encoding/json by struct: %v", err)
		}
		checkEnvelope(t, &d, exact["type"], exact["id"], exact["token"])
		checkEnvelope(t, &d, folded.Type, folded.ID, folded.Token)
		if d.identity.hasID && string(folded.EventData.ID) != fmt.Sprint(d.identity.id) && string(folded.EventData.ID) != "-0" {
			t.Fatalf("event_data.id %d, another reader sees %s", d.identity.id, folded.EventData.ID)
		}
		for _, read := range [][2]string{
			{string(d.identity.status), string(folded.EventData.Status)},
			{string(d.identity.updated), string(folded.EventData.Updated)},
		} {
			if read[0] != "" && read[0] != read[1] {
				t.Fatalf("%s in event_data, another reader sees %s", read[0], read[1])
			}
		}
		checkForwarded(t, body, d.Body)
		if again, err := Decode(d.Body); err != nil || again.Key("n", "s") != d.Key("n", "s") || again.Token != nil {
			t.Fatalf("the forwarded body reads as another event: %v\n%s", err, d.Body)
		}
	})
}

func checkEnvelope(t *testing.T, d *Delivery, rawType, rawID, rawToken json.RawMessage) {
	t.Helper()
	var eventType string
	if err := json.Unmarshal(rawType, &eventType); err != nil {
		t.Fatalf("type: %v", err)
	}
	if d.Respelled {
		if eventType != messageReceivedCorrected || d.Type != MessageReceived {
			t.Fatalf("%q respelled as %q", eventType, d.Type)
		}
	} else if eventType != d.Type {
		t.Fatalf("type %q, another reader sees %q", d.Type, eventType)
	}
	var id *int64
	if rawID != nil && !d.OddWebhookID {
		if err := json.Unmarshal(rawID, &id); err != nil {
			t.Fatalf("id: %v", err)
		}
	}
	if (id != nil) != d.HasWebhookID || (id != nil && *id != d.WebhookID) {
		t.Fatalf("id %d, %t; another reader sees %v", d.WebhookID, d.HasWebhookID, id)
	}
	var token string
	if len(rawToken) > 0 && rawToken[0] == '"' {
		if err := json.Unmarshal(rawToken, &token); err != nil {
			t.Fatalf("token: %v", err)
		}
	}
	if token != string(d.Token) {
		t.Fatalf("token %q, another reader sees %q", d.Token, token)
	}
}

// checkForwarded checks that forwarded is body without the member token: the same members in the same order, byte for byte.
func checkForwarded(t *testing.T, body, forwarded []byte) {
	t.Helper()
	want, got := membersOf(t, body), membersOf(t, forwarded)
	want = slices.DeleteFunc(want, func(m member) bool { return m.name == "token" })
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("forwarded members %q, want %q", got, want)
	}
}

type member struct{ name, value string }

func membersOf(t *testing.T, object []byte) []member {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(object))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		t.Fatalf("not an object: %v", err)
	}
	var out []member
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
		out = append(out, member{name.(string), string(value)})
	}
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("data behind the object: %v", err)
	}
	return out
}

// FuzzCanonical checks that the canonical form is a fixed point, has the input's meaning, and is the same for all spellings.
func FuzzCanonical(f *testing.F) {
	for i, seed := range corpus {
		f.Add([]byte(seed), uint64(i))
	}
	f.Add([]byte(`{"b":1.0,"a":"\u0061"}`), uint64(7))
	f.Add([]byte(`[1e21,123456789012345678901234567890,1e-7,-0,-0.0,0.1e1]`), uint64(7))
	f.Fuzz(func(t *testing.T, raw []byte, seed uint64) {
		d, err := Decode([]byte(`{"type":"x","event_data":{"v":` + string(raw) + `}}`))
		if err != nil || d.Type != "x" {
			return // not a value on its own
		}
		data := d.identity.data
		once := canonical(data)
		if !json.Valid(once) {
			t.Fatalf("canonical form is not JSON: %s", once)
		}
		if twice := canonical(once); !bytes.Equal(once, twice) {
			t.Fatalf("not idempotent:\n%s\n%s", once, twice)
		}
		other := reformat(t, data, rand.New(rand.NewPCG(seed, 1)))
		if got := canonical(other); !bytes.Equal(once, got) {
			t.Fatalf("two forms:\n%s of %s\n%s of %s", once, data, got, other)
		}
	})
}

// FuzzKey checks that a key does not depend on formatting or irrelevant members, and changes with every relevant one.
func FuzzKey(f *testing.F) {
	f.Add(uint8(0), int64(1), true, "sent", "2026-01-02T03:04:05Z", "hello", uint64(1))
	f.Add(uint8(4), int64(9007199254740993), true, "", "", "é\"\\", uint64(2))
	f.Add(uint8(8), int64(-1), false, "<&>", "\u2028", "\U0001F600", uint64(3))
	f.Fuzz(func(t *testing.T, pick uint8, id int64, hasID bool, status, updated, text string, seed uint64) {
		if !utf8.ValidString(status + updated + text) {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 2))
		eventType := append(Types(), "unknown_type")[int(pick)%13]
		data := map[string]any{"text": text, "status": status, "updated": updated, "n": []any{1, 2.5, nil, true}}
		if hasID {
			data["id"] = id
		}
		build := func(eventType string, webhook int64, token string, data map[string]any) Key {
			raw, err := json.Marshal(map[string]any{"type": eventType, "id": webhook, "token": token, "event_data": data})
			if err != nil {
				t.Fatal(err)
			}
			return keyOf(t, string(reformat(t, raw, rng)))
		}
		changed := func(name string, value any) map[string]any {
			out := maps.Clone(data)
			out[name] = value
			return out
		}
		base := build(eventType, 1, "a", data)
		if build(eventType, 2, "b", data) != base {
			t.Error("the envelope's id, the token or the form takes part in the key")
		}
		if build(eventType+"x", 1, "a", data) == base {
			t.Error("the type takes no part in the key")
		}
		if build(eventType, 1, "a", changed("id", id^1<<60)) == base {
			t.Error("the event's id takes no part in the key")
		}
		kind := subjectOf(eventType)
		for name, decides := range map[string]bool{
			"status":  kind == message || !hasID || kind == undocumented || updated == "",
			"updated": kind == conversation || !hasID || kind == undocumented,
			"text":    !hasID || kind == undocumented || (kind == conversation && updated == ""),
		} {
			old := data[name].(string)
			if got := build(eventType, 1, "a", changed(name, old+"!")) != base; got != decides {
				t.Errorf("a change of %s in %s makes another event: %t, want %t", name, eventType, got, decides)
			}
		}
	})
}

// reformat returns raw with its members shuffled, its strings escaped at random, and white space in between.
func reformat(t testing.TB, raw []byte, rng *rand.Rand) []byte {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var out bytes.Buffer
	var value func(depth int)
	space := func() {
		for rng.IntN(4) == 0 {
			out.WriteByte(" \t\r\n"[rng.IntN(4)])
		}
	}
	token := func() json.Token {
		tok, err := dec.Token()
		if err != nil {
			t.Fatalf("reformat: %v", err)
		}
		return tok
	}
	value = func(depth int) {
		space()
		defer space()
		switch tok := token().(type) {
		case json.Delim:
			var items []string
			whole := out
			for dec.More() {
				out = bytes.Buffer{}
				if tok == '{' {
					space()
					writeString(&out, token().(string), rng)
					space()
					out.WriteByte(':')
				}
				value(depth + 1)
				items = append(items, out.String())
			}
			token()
			out = whole
			closing := byte(']')
			if tok == '{' {
				closing = '}'
				rng.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
			}
			out.WriteByte(byte(tok))
			out.WriteString(strings.Join(items, ","))
			space()
			out.WriteByte(closing)
		case string:
			writeString(&out, tok, rng)
		case json.Number:
			out.WriteString(tok.String())
		case bool:
			fmt.Fprint(&out, tok)
		case nil:
			out.WriteString("null")
		}
	}
	value(0)
	return out.Bytes()
}

func writeString(out *bytes.Buffer, s string, rng *rand.Rand) {
	out.WriteByte('"')
	for _, r := range s {
		switch {
		case r < ' ' || r == '"' || r == '\\' || (r < 0x10000 && rng.IntN(3) == 0):
			fmt.Fprintf(out, `\u%04x`, r)
		case r == '/' && rng.IntN(2) == 0:
			out.WriteString(`\/`)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
}
