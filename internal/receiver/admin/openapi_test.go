package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/recent"
)

// operation is what the document says of one route.
type operation struct {
	Parameters  []parameter    `json:"parameters"`
	RequestBody map[string]any `json:"requestBody"`
	Responses   map[string]any `json:"responses"`
}

type parameter struct {
	Ref      string `json:"$ref"`
	Name     string `json:"name"`
	In       string `json:"in"`
	Required bool   `json:"required"`
	Schema   schema `json:"schema"`
}

// schema has the keywords that parameters use. Reading one with others fails, so that none goes unchecked.
type schema struct {
	Type      string   `json:"type"`
	Const     any      `json:"const"`
	Enum      []string `json:"enum"`
	Pattern   string   `json:"pattern"`
	Format    string   `json:"format"`
	MinLength int      `json:"minLength"`
	MaxLength *int     `json:"maxLength"`
	Minimum   *float64 `json:"minimum"`
	Maximum   *float64 `json:"maximum"`
	AnyOf     []schema `json:"anyOf"`
	Default   any      `json:"default"`
}

// allows reports whether a value is one of the schema.
func (s schema) allows(value string) bool {
	number, err := strconv.ParseFloat(value, 64)
	isInteger := regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`).MatchString(value)
	_, notTime := time.Parse(time.RFC3339, value)
	switch {
	case s.Type == "integer" && (err != nil || !isInteger),
		s.Minimum != nil && number < *s.Minimum, s.Maximum != nil && number > *s.Maximum,
		len(value) < s.MinLength, s.MaxLength != nil && len(value) > *s.MaxLength,
		s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(value),
		s.Format == "date-time" && notTime != nil,
		s.Enum != nil && !slices.Contains(s.Enum, value),
		s.Const != nil && s.Const != any(value) && s.Const != any(number),
		s.AnyOf != nil && !slices.ContainsFunc(s.AnyOf, func(one schema) bool { return one.allows(value) }):
		return false
	}
	return true
}

// described returns the operations of the document by route, with their parameters resolved.
func described(t *testing.T, text []byte) map[string]operation {
	t.Helper()
	var document struct {
		Paths      map[string]map[string]operation `json:"paths"`
		Components struct {
			Parameters map[string]json.RawMessage `json:"parameters"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	found := map[string]operation{}
	for path, methods := range document.Paths {
		for method, o := range methods {
			for i, p := range o.Parameters {
				var raw struct {
					Description string `json:"description"`
					parameter
				}
				strict := json.NewDecoder(strings.NewReader(string(document.Components.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")])))
				strict.DisallowUnknownFields()
				if err := strict.Decode(&raw); err != nil {
					t.Fatalf("%s %s: parameter %s: %v", method, path, p.Ref, err)
				}
				o.Parameters[i] = raw.parameter
			}
			found[strings.ToUpper(method)+" "+path] = o
		}
	}
	return found
}

// asked sends a request for a route to a handler whose store has the letters of s, and closes streams at once.
func asked(t *testing.T, s *shelf, route, query string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	method, path, _ := strings.Cut(route, " ")
	path = strings.NewReplacer("{target}", "crm", "{entry}", "1-0", "{event}", eventID(1)).Replace(path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a stream ends with its first records; other handlers ask fakes
	r := httptest.NewRequestWithContext(ctx, method, "http://localhost"+path+query, http.NoBody)
	if !strings.HasSuffix(path, "/stream") {
		r = r.WithContext(t.Context())
	}
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	handlerOf(s).ServeHTTP(w, r)
	return w
}

// oneEvent has the records of one event.
var oneEvent = sync.OnceValue(func() *recent.Ring {
	ring := recent.New("pod-1")
	store(ring, 1)
	return ring
})

func handlerOf(s *shelf) http.Handler {
	if len(s.letters) > 1 {
		s.letters[1].Event = event.Event{ID: eventID(1), Type: event.ChatClosed, Body: []byte(`{"type":"chat_closed","event_data":{"id":7}}`)}
	}
	return admin.Handler(admin.Options{
		DeadLetters: s, Recent: oneEvent(), Contents: contents{id: eventID(1), err: s.err}, Names: func() []string { return []string{"crm"} },
		Targets: func() ([]contract.TargetStatus, error) { return nil, s.err }, MaxBodyBytes: func() int64 { return mostBytes },
	})
}

// The parameters that a handler reads are those of the document, and each takes exactly the values that the document allows.
func TestParametersAreAsDescribed(t *testing.T) {
	t.Parallel()
	listed := regexp.MustCompile(`^There is no parameter "unknown" here. The parameters are: (.+)\.\n$`)
	for route, o := range described(t, admin.OpenAPI()) {
		var want, got, inPath []string
		for _, p := range o.Parameters {
			switch {
			case p.In == "path" && p.Required:
				inPath = append(inPath, p.Name)
			case p.In == "query" && !p.Required: // none is: which of them a change needs, its answer says
				want = append(want, p.Name)
			default:
				t.Errorf("%s: the parameter %s is described as required: %t, in %s", route, p.Name, p.Required, p.In)
			}
		}
		w := asked(t, newShelf(), route, "?unknown=1", nil)
		if parts := listed.FindStringSubmatch(w.Body.String()); parts != nil {
			got = strings.Split(parts[1], ", ")
		} else if !strings.HasPrefix(w.Body.String(), "This request takes no parameters") {
			t.Errorf("%s: an unknown parameter is answered %d %s", route, w.Code, w.Body)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: query parameters (-document +handler):\n%s", route, diff)
		}
		segments := regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(route, -1)
		for i, s := range segments {
			if len(inPath) != len(segments) || inPath[i] != s[1] {
				t.Errorf("%s: the document's parameters in its path are %q", route, inPath)
			}
		}
		for _, p := range o.Parameters {
			for _, value := range valuesOf(p.Schema) {
				if value == "" || p.Name == "target" && (value != "crm" || p.In == "path") { // an empty one is missing, and no schema knows targets
					continue
				}
				at, query := route, ""
				if p.In == "query" {
					query = "?" + url.Values{p.Name: {value}}.Encode()
				} else if at = strings.Replace(route, "{"+p.Name+"}", url.PathEscape(value), 1); strings.Contains(value, "/") {
					continue
				}
				w := asked(t, newShelf(), at, query, nil)
				if taken := w.Code != http.StatusBadRequest; taken != p.Schema.allows(value) {
					t.Errorf("%s: %s = %.40q is answered %d %.150s; the document allows it: %t", route, p.Name, value, w.Code, w.Body, !taken)
				}
			}
		}
	}
}

// valuesOf returns values of every kind, and those at the bounds of a schema.
func valuesOf(s schema) []string {
	values := []string{
		"", " ", "x", "crm", "TRUE", "true", "false", "null", "-1", "0", "1", "+5", "99", "100", "422", "1.5", "1e3", "1 ", "99999999999999999999", "1-0", "1-0-0", "-", "(1-0", "chat_closed", "chat closed", "*",
		eventID(1), strings.ToUpper(eventID(1)), "evt_1", "2h", "2026-11-21", "2026-11-21T12:00:00Z", "2026-11-21T12:00:00", "2026-11-21T12:00:00.5+01:00", "1700000000",
		strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("x", 256), strings.Repeat("x", 257),
	}
	values = append(values, recent.OutcomeNames()...)
	for _, bound := range []*float64{s.Minimum, s.Maximum} {
		if bound != nil {
			for _, by := range []float64{-1, 0, 1} {
				values = append(values, strconv.FormatFloat(*bound+by, 'f', -1, 64))
			}
		}
	}
	return append(values, "1000", "1001", "1000000000", "1000000001", "3700", "3701", "999", "9007199254740991", "9007199254740992")
}

// Every status that a route can answer is described, and no other.
func TestStatusesAreAsDescribed(t *testing.T) {
	t.Parallel()
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	body := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			with := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), strings.NewReader(text))
			r.Body, r.ContentLength = with.Body, with.ContentLength
			r.Header.Set("Content-Type", "application/json")
		}
	}
	const edited = `{"type":"chat_closed","event_data":{"id":7,"inbox":2}}`
	for route, o := range described(t, admin.OpenAPI()) {
		got := map[string]bool{}
		note := func(w *httptest.ResponseRecorder) string {
			got[strconv.Itoa(w.Code)] = true
			return w.Body.String()
		}
		for _, query := range []string{"", "?all=true", "?unknown=1"} {
			note(asked(t, newShelf(), route, query, nil))
			broken := newShelf()
			broken.letters, broken.err = nil, errors.New("redis did not confirm")
			note(asked(t, broken, route, query, nil))
		}
		for name, value := range map[string]string{"{target}": "nobody", "{entry}": "9-0", "{event}": eventID(9)} {
			note(asked(t, newShelf(), strings.Replace(route, name, value, 1), "", nil))
		}
		note(asked(t, newShelf(), route, "", header("Sec-Fetch-Site", "cross-site")))
		note(asked(t, newShelf(), route, "", func(r *http.Request) { r.Host = "example.com" }))
		note(asked(t, newShelf(), route, "", header("Content-Type", "text/plain")))
		takes := !strings.Contains(note(asked(t, newShelf(), route, "", body(edited))), "takes no body")
		note(asked(t, newShelf(), route, "", body(edited+strings.Repeat(" ", mostBytes))))
		full := newShelf()
		full.full = true
		note(asked(t, full, route, "", body(edited)))
		if strings.HasSuffix(route, "/stream") {
			note(tooMany(t, route))
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(o.Responses)), slices.Sorted(maps.Keys(got))); diff != "" {
			t.Errorf("%s: statuses (-document +handler):\n%s", route, diff)
		}
		if takes != (o.RequestBody != nil) {
			t.Errorf("%s: it takes a body: %t; the document describes one: %t", route, takes, o.RequestBody != nil)
		}
	}
}

// tooMany asks for streams until one is rejected.
func tooMany(t *testing.T, route string) *httptest.ResponseRecorder {
	t.Helper()
	h := handlerOf(newShelf())
	method, path, _ := strings.Cut(route, " ")
	ended := make(chan *httptest.ResponseRecorder)
	for range 17 {
		go func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, http.NoBody))
			ended <- w
		}()
	}
	w := <-ended // the others stay open
	go func() {
		for range 16 {
			<-ended
		}
	}()
	return w
}
