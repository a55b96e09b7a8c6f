package filter_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"heymarket.dev/operator/internal/receiver/filter"
)

const body = `{"type":"message_recieved","id":41,"event_data":{
	"id":9007199254740993,"huge":18446744073709551615,"text":"canary-text hello","phone":"+15005550006","status":"received","cut":"cut \ud83d",
	"support":true,"none":null,"ratio":1.5,"whole":2.0,"far":1e400,
	"members":[{"id":7,"name":"Ann"},{"id":8,"name":"Bob"}],"custom":{"data":[1,2,3]},
	"conversation":{"id":12,"inbox":77}}}`

func message() *filter.Event {
	return &filter.Event{Type: "message_recieved", ID: "evt_abc", Body: []byte(body)}
}

func TestWants(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]bool{
		`true`:                             true,
		`event.type == "message_recieved"`: true,
		`event.id == "evt_abc"`:            true,
		`event.webhook_id == 41`:           true,
		`has(event.webhook_id)`:            true,
		`event.webhook_id in [40, 42]`:     false,
		`event.data.conversation.inbox == 77 && event.data.status == "received"`: true,
		`event.data.id == 9007199254740993`:                                      true,
		`event.data.id == 9007199254740992`:                                      false, // one double for both
		`event.data.huge == 18446744073709551615u`:                               true,
		`event.data.ratio > 1 && event.data.whole == 2`:                          true,
		`event.data.cut == "cut \ufffd"`:                                         true,
		`event.data.far > 1.0e300`:                                               true,
		`event.data.none == null`:                                                true,
		`event.data.support`:                                                     true,
		`has(event.data.broadcast_id)`:                                           false,
		`has(event.data.text) && event.data.text.contains("hello")`:              true,
		`event.data.?user.orValue(5) == 5`:                                       true,
		`event.data.members.exists(m, m.name == "Bob")`:                          true,
		`event.data.members.all(m, event.data.custom.data.exists(d, d == m.id))`: false,
		`event.data["phone"].matches("^\\+1[0-9]{10}$")`:                         true,
		`size(event.data.text) > 1000 || event.data.text.startsWith("canary")`:   true,
	} {
		p, err := filter.Compile(expression, filter.Wanted)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		for range 2 { // the second time by what the first has read
			if got, err := p.Wants(t.Context(), message()); err != nil || got != want {
				t.Errorf("%s = %v, %v; want %v", expression, got, err, want)
			}
		}
	}
}

func TestTheWebhookIDMayBeMissing(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"event_data":{}}`, `{"id":null,"event_data":{}}`} {
		p := compile(t, `!has(event.webhook_id) && event.webhook_id == 0`, filter.Wanted)
		if got, err := p.Wants(t.Context(), &filter.Event{Body: []byte(body)}); err != nil || !got {
			t.Errorf("%s: %v, %v; want true", body, got, err)
		}
	}
}

func TestCheckNamesThePlaceOfEachMistake(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expression string
		kind       filter.Kind
		want       []string
	}{
		{`event.typ == "x"`, filter.Wanted, []string{"1:6: undefined field 'typ'"}},
		{"event.type == 'x' &&\n  evnt.id == ''", filter.Wanted, []string{"2:3: undeclared reference to 'evnt'"}},
		{`event.type == 5`, filter.Wanted, []string{"1:12: found no matching overload for '_==_'"}},
		{`event.type ==`, filter.Wanted, []string{"1:14: Syntax error"}},
		{`a || b || c || d`, filter.Wanted, []string{"1:1: ", "1:6: ", "1:11: "}},
		{`event.data.text.matches("(")`, filter.Wanted, []string{"1:25: invalid matches argument"}},
		{`event.type`, filter.Wanted, []string{"1:1: the expression yields string, and bool is needed"}},
		{`true`, filter.Key, []string{"1:1: the expression yields bool, and string is needed"}},
		{`event.id`, filter.Key, []string{"1:6: undefined field 'id'"}},
		{` `, filter.Wanted, []string{"1:1: the expression is empty"}},
		{strings.Repeat(" ", filter.MaxLength) + "true", filter.Wanted, []string{"longer than 4096 bytes"}},
		{"true || '\xff' == ''", filter.Wanted, []string{"not valid UTF-8"}},
		{strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100), filter.Wanted, []string{"recursion"}},
		{`event.data.a.all(x, event.data.b.all(y, event.data.c.all(z, x == y && y == z)))`, filter.Wanted, []string{"may cost more than 25000"}},
		{`secret() == env("HOME")`, filter.Wanted, []string{"undeclared reference to 'secret'"}},
		{`heymarket.Event{type: "x"}.type == "x"`, filter.Wanted, nil},
	} {
		err := filter.Check(tt.expression, tt.kind)
		if len(tt.want) == 0 {
			continue // whatever it says, it says it without a panic
		}
		if err == nil {
			t.Errorf("Check(%.60s) = nil, want %q", tt.expression, tt.want)
			continue
		}
		for _, part := range tt.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("Check(%.60s) = %v; want %q in it", tt.expression, err, part)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("Check(%.60s) has more than one line: %v", tt.expression, err)
		}
	}
}

func TestErrorsOfAnEvaluationTellWhereAndNothingOfTheEvent(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		`event.data.broadcast_id == 5`:                                   `the event has no member "broadcast_id"`,
		`event.data[event.data.text] == 5`:                               "the event lacks a member",
		`event.data.text < 5`:                                            "another type than the expression expects",
		`event.data.text`:                                                "not a bool in this event",
		`int(event.data.phone) == 5 && event.data.x`:                     "",
		`int(event.data.text) == 5`:                                      "cannot be converted",
		`timestamp(event.data.text) > timestamp("2026-01-01T00:00:00Z")`: "",
		`event.data.custom.data[7] == 1`:                                 "shorter than the expression expects",
		`1 / (event.data.members.size() - 2) == 1`:                       "does not exist or does not fit",
		`event.data.members.map(m, m.name)[0].contains(event.data.none)`: "",
		`event == event.data.none`:                                       "",
	} {
		p, err := filter.Compile(expression, filter.Wanted)
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", expression, err)
			}
			continue
		}
		got, err := p.Wants(t.Context(), message())
		if err == nil || got {
			if want != "" {
				t.Errorf("%s = %v, %v; want an error", expression, got, err)
			}
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want it to say %q", expression, err, want)
		}
		for _, secret := range []string{"canary-text", "15005550006", "hello"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error repeats the event: %v", expression, err)
			}
		}
	}
	_, err := compile(t, "true &&\n  event.data.text > 5", filter.Wanted).Wants(t.Context(), message())
	if err == nil || !strings.HasPrefix(err.Error(), "2:19: ") {
		t.Errorf("%v; want it to begin with the place, 2:19", err)
	}
}

func TestABodyThatIsNoEnvelope(t *testing.T) {
	t.Parallel()
	for _, body := range []string{``, `[]`, `{}`, `{"event_data":5}`, `{"event_data":{"a":`, `{"event_data":{}`} {
		if got, err := compile(t, `size(event.data) == 0`, filter.Wanted).Wants(t.Context(), &filter.Event{Body: []byte(body)}); err == nil && body != `{"event_data":{}` {
			t.Errorf("%q: %v, nil; want an error", body, got)
		}
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		`string(event.data.id) + "/" + event.data.status`: "9007199254740993/received",
		`event.data.status`: "received",
		`has(event.data.local_id) ? event.data.local_id: ""`: "",
		`event.data.id`:       "",
		`event.data.local_id`: "",
	} {
		got, err := compile(t, expression, filter.Key).Key(t.Context(), message())
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s = %q, %v; want %q", expression, got, err, want)
		}
	}
}

func TestTheCostIsBoundedAtRunTime(t *testing.T) {
	t.Parallel()
	elements := "[" + strings.TrimSuffix(strings.Repeat("1,", 5000), ",") + "]"
	e := func() *filter.Event {
		return &filter.Event{Body: fmt.Appendf(nil, `{"event_data":{"a":%s}}`, elements)}
	}
	p := compile(t, `event.data.a.all(x, event.data.a.all(y, x == y))`, filter.Wanted)
	if _, err := p.Wants(t.Context(), e()); err == nil || !strings.Contains(err.Error(), "costs more than 25000") {
		t.Errorf("%v; want it to say that it costs too much", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := p.Wants(ended, e()); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%v; want it to say that it was interrupted", err)
	}
}

func TestAProgramServesManyAtOnce(t *testing.T) {
	t.Parallel()
	p := compile(t, `event.data.members.exists(m, m.name == "Bob") && event.data.text.matches("hel+o")`, filter.Wanted)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got, err := p.Wants(t.Context(), message()); err != nil || !got {
					t.Errorf("%v, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func compile(t *testing.T, expression string, kind filter.Kind) *filter.Program {
	t.Helper()
	p, err := filter.Compile(expression, kind)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return p
}

// FuzzCompile feeds expressions and bodies of any kind: neither may panic, and no evaluation may take long.
func FuzzCompile(f *testing.F) {
	for _, expression := range []string{
		`event.type == "x"`, `event.data.members.exists(m, m.id == 7)`, `event.data.text.matches("a+")`, `event.data.?a.b.orValue(1) == 1`,
		`event.data.a.map(x, x + 1).filter(y, y > 2).size() == 3`, `event.webhook_id / 0 == 1`, `timestamp(event.data.date) < timestamp("2026-01-01T00:00:00Z")`,
		`event`, `dyn(event).x`, `[event][0].type == ""`, `type(event) == heymarket.Event`, `{event.type: event}.size() == 1`,
	} {
		f.Add(expression, body)
	}
	f.Fuzz(func(t *testing.T, expression, body string) {
		p, err := filter.Compile(expression, filter.Wanted)
		if err != nil {
			return
		}
		_, _ = p.Wants(t.Context(), &filter.Event{Type: "x", Body: []byte(body)})
	})
}

func BenchmarkWants(b *testing.B) {
	p, err := filter.Compile(`event.data.conversation.inbox == 77 && event.data.status == "received"`, filter.Wanted)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Wants(b.Context(), message()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMaxCost(b *testing.B) {
	p, err := filter.Compile(`event.data.a.all(x, event.data.a.all(y, x == y))`, filter.Wanted)
	if err != nil {
		b.Fatal(err)
	}
	e := &filter.Event{Body: fmt.Appendf(nil, `{"event_data":{"a":[%s1]}}`, strings.Repeat("1,", 5000))}
	for b.Loop() {
		_, _ = p.Wants(b.Context(), e)
	}
}
