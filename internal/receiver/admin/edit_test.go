package admin_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/event"
)

// mostBytes is the bound of an event's body in this test.
const mostBytes = 200

// edit replays one letter, a chat_closed, with a body.
func edit(t *testing.T, s *shelf, body io.Reader, length int64, contentType string) *httptest.ResponseRecorder {
	t.Helper()
	s.letters[1].Event = event.Event{ID: "evt_1", Type: event.ChatClosed, Body: []byte(`{"type":"chat_closed","id":9,"event_data":{"id":7}}`)}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:8082/v1/targets/crm/dead-letters/1-0/replay", body)
	r.ContentLength = length
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	admin.Handler(admin.Options{
		DeadLetters: s, Names: func() []string { return []string{"crm"} }, MaxBodyBytes: func() int64 { return mostBytes },
	}).ServeHTTP(w, r)
	return w
}

func TestAnEditedLetterIsReplayed(t *testing.T) {
	t.Parallel()
	const (
		good   = `{"type":"chat_closed","id":9,"event_data":{"id":7,"inbox":2}}`
		isJSON = "application/json"
	)
	wide := good[:len(good)-2] + strings.Repeat(" ", mostBytes-len(good)) + "}}"
	for name, c := range map[string]struct {
		body, contentType string
		full              bool
		status            int
		edited, sentence  string
	}{
		"good":                 {body: good, contentType: isJSON, status: 200, edited: good},
		"with a charset":       {body: good, contentType: isJSON + "; charset=utf-8", status: 200, edited: good},
		"with a token":         {body: `{"token":"t",` + good[1:], contentType: isJSON, status: 200, edited: good},
		"as long as it may be": {body: wide, contentType: isJSON, status: 200, edited: wide},
		"one byte longer":      {body: wide + " ", contentType: isJSON, status: 413, sentence: "larger than the 200 bytes"},
		"another type":         {body: strings.Replace(good, "closed", "opened", 1), contentType: isJSON, status: 400, sentence: `the member "type" differs`},
		"another conversation": {body: strings.Replace(good, "7", "8", 1), contentType: isJSON, status: 400, sentence: "belongs to a conversation"},
		"not JSON":             {body: good[1:], contentType: isJSON, status: 400, sentence: "not one JSON object"},
		"a member twice":       {body: `{"type":"chat_closed",` + good[1:], contentType: isJSON, status: 400, sentence: "without duplicate members"},
		"no media type":        {body: good, status: 415, sentence: "application/json"},
		"a form":               {body: good, contentType: "application/x-www-form-urlencoded", status: 415, sentence: "application/json"},
		"an empty file":        {contentType: isJSON, status: 400, sentence: "The body is empty"},
		"an empty form":        {contentType: "application/x-www-form-urlencoded", status: 415, sentence: "application/json"},
		"no room":              {body: good, contentType: isJSON, full: true, status: 409, sentence: "as many bytes in Redis as it may have"},
	} {
		for how, length := range map[string]int64{"": int64(len(c.body)), ", of unknown length": -1} {
			t.Run(name+how, func(t *testing.T) {
				t.Parallel()
				s := newShelf()
				s.full = c.full
				w := edit(t, s, strings.NewReader(c.body), length, c.contentType)
				if w.Code != c.status || !strings.Contains(w.Body.String(), c.sentence) || s.edited != c.edited {
					t.Errorf("status %d, %q, the store got %q; want %d, %q, %q", w.Code, w.Body, s.edited, c.status, c.sentence, c.edited)
				}
				if replayed := strings.Join(s.replayed, " "); replayed != strings.Repeat("1-0", min(1, len(c.edited))) {
					t.Errorf("replayed: %q", replayed)
				}
			})
		}
	}
}

// A body with an excessive Content-Length is not read at all, and one without a length only up to the bound.
func TestAnEditedLetterIsBoundedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{mostBytes + 1, 1 << 40, -1} {
		endless := &spaces{}
		if w := edit(t, newShelf(), endless, length, "application/json"); w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("length %d: status %d", length, w.Code)
		}
		if length > 0 && endless.read > 0 || endless.read > 100*mostBytes {
			t.Errorf("length %d: %d bytes were read", length, endless.read)
		}
	}
}

// spaces is a body without an end.
type spaces struct{ read int }

func (s *spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	s.read += len(p)
	return len(p), nil
}

// Only that one route accepts a body.
func TestOtherRoutesTakeNoBody(t *testing.T) {
	t.Parallel()
	for _, route := range admin.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if strings.HasSuffix(path, "{entry}/replay") {
			continue
		}
		path = strings.NewReplacer("{target}", "crm", "{entry}", "1-0", "{event}", "evt_"+strings.Repeat("a", 26)).Replace(path)
		for _, ask := range []string{path, path + "?limit=1", path + "?all=true"} {
			s := newShelf()
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+ask, strings.NewReader(`{"type":"chat_closed","event_data":{}}`))
			r.Header.Set("Content-Type", "application/json")
			admin.Handler(admin.Options{DeadLetters: s, Names: func() []string { return []string{"crm"} }}).ServeHTTP(w, r)
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "takes no body") || len(s.replayed)+len(s.discarded) > 0 || s.edited != "" {
				t.Errorf("%s %s: status %d, %s; replayed %v, discarded %v", method, ask, w.Code, w.Body, s.replayed, s.discarded)
			}
		}
	}
}
