package filter_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/filter"
)

// ways are an event's bodies in which the member conversation.inbox, and text, are left out in each way, and one that has them.
var ways = map[string]string{
	"absent":      `{"event_data":{"conversation":{}}}`,
	"null":        `{"event_data":{"conversation":{"inbox":null},"text":null,"list":[null],"tags":null}}`,
	"parent null": `{"event_data":{"conversation":null,"text":null}}`,
}

func TestNullIsAbsent(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{
		`!has(event.data.text)`,
		`!(has(event.data.text) && event.data.text.contains("hello"))`,
		`event.data.?text.orValue("none").contains("none")`,
		`event.data[?"text"].orValue("none") == "none"`,
		`!event.data.?text.hasValue()`,
		`event.data.?conversation.?inbox.orValue(5) == 5`,
		`event.data.?conversation.inbox.orValue(5) == 5`,
		`event.data.?conversation[?"inbox"].orValue(5) == 5`,
		`!has(event.data.?conversation.inbox)`,
		`event.data.?list[?0].orValue("none") == "none"`,
		`event.data.?tags.orValue([]).all(x, x == "vip")`,
		`event.data.?text.optMap(x, x.size() > 3).orValue(true)`,
		`event.data.?text.or(optional.of("none")).value() == "none"`,
		`[event.data].all(d, !has(d.text) && d.?text.orValue("none") == "none")`,
		`[?event.data.?text].size() == 0 && {?"text": event.data.?text}.size() == 0`,
		`!has({"a": null}.a) && has({"a": 1}.a)`,
		`!has(event.webhook_id) && event.?webhook_id.orValue(5) == 5 && has(event.type) && has(event.data)`,
		`event.?data.?text.orValue("none") == "none"`,
	} {
		p := compile(t, expression, filter.Wanted)
		for name, body := range ways {
			if got, err := p.Wants(t.Context(), &filter.Event{Body: []byte(body)}); err != nil || !got {
				t.Errorf("%s where a member is %s: %v, %v; want true", expression, name, got, err)
			}
		}
	}
	for expression, want := range map[string]bool{
		`has(event.data.conversation.inbox)`:                               false,
		`event.data.text == null && event.data.conversation.inbox == null`: true,
		`"text" in event.data`:                                             true,
	} {
		got, err := compile(t, expression, filter.Wanted).Wants(t.Context(), &filter.Event{Body: []byte(ways["null"])})
		if err != nil || got != want {
			t.Errorf("%s where the members are null: %v, %v; want %v", expression, got, err, want)
		}
	}
	for _, text := range []string{`""`, `false`, `0`, `[]`, `{}`} {
		e := &filter.Event{Body: fmt.Appendf(nil, `{"event_data":{"text":%s}}`, text)}
		if got, err := compile(t, `has(event.data.text) && event.data.?text.hasValue()`, filter.Wanted).Wants(t.Context(), e); err != nil || !got {
			t.Errorf("a member that is %s: %v, %v; want it to be present", text, got, err)
		}
	}
	for name, body := range ways {
		got, err := compile(t, `event.data.?text.orValue("none") + (has(event.data.text) ? event.data.text : "")`, filter.Key).
			Key(context.Background(), &filter.Event{Body: []byte(body)})
		if err != nil || got != "none" {
			t.Errorf("a key where the text is %s: %q, %v; want none", name, got, err)
		}
	}
}

// documented finds the expressions of a page: in manifests, and in the text between backquotes.
var documented = regexp.MustCompile("(?m)^ +(filter|key): ([^ ].*event\\..*)$|`([^`]*event\\.data\\.[^`]*)`")

// selection is the name of a member, and no expression.
var selection = regexp.MustCompile(`^[a-z_.]+$`)

// TestDocumentedExpressions evaluates every expression of the documentation for events that leave its members out in each way.
func TestDocumentedExpressions(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, pattern := range []string{"../../../docs/*.md", "../../../README.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range documented.FindAllStringSubmatch(string(text), -1) {
			expression := strings.Trim(m[2]+m[3], "'")
			if selection.MatchString(expression) {
				continue // the page names a member
			}
			p, err := filter.Compile(expression, filter.Wanted)
			evaluate := func(e *filter.Event) error {
				_, err := p.Wants(t.Context(), e)
				return err
			}
			if m[1] == "key" || err != nil {
				if p, err = filter.Compile(expression, filter.Key); err != nil {
					continue // the page shows a mistake, or a part of an expression
				}
				evaluate = func(e *filter.Event) error {
					_, err := p.Key(t.Context(), e)
					return err
				}
			}
			found++
			for name, body := range ways {
				body = strings.Replace(body, `"event_data":{`, `"event_data":{"id":7,`, 1)
				e := &filter.Event{Type: "message_recieved", Body: []byte(body)}
				if err := evaluate(e); err != nil {
					t.Errorf("%s: %s where a member is %s: %v", page, expression, name, err)
				}
			}
		}
	}
	if found < 4 {
		t.Errorf("%d expressions are documented; want at least 4, or this test finds none", found)
	}
}
