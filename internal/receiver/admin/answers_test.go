package admin_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/recent"
)

// contents has one event, or fails.
type contents struct {
	id  string
	err error
}

func (c contents) FindEvent(_ context.Context, targets []string, id string) (event.Event, bool, error) {
	if len(targets) != 1 || targets[0] != "crm" {
		return event.Event{}, false, errors.New("asked for other targets")
	}
	return event.Event{ID: id, Type: "chat_closed", Body: []byte(`{"text":"private"}`)}, id == c.id, c.err
}

func TestContent(t *testing.T) {
	t.Parallel()
	path := "/v1/events/" + eventID(1) + "/content"
	for name, tc := range map[string]struct {
		path     string
		contents contents
		status   int
		holds    string
	}{
		"stored":     {path, contents{id: eventID(1)}, 200, `{"event":"` + eventID(1) + `","type":"chat_closed","body":{"text":"private"}}`},
		"not stored": {path, contents{id: eventID(2)}, 404, "no longer stored"},
		"no Redis":   {path, contents{id: eventID(1), err: errors.New("redis did not confirm")}, 503, "did not confirm"},
		"no ID":      {"/v1/events/1/content", contents{id: "1"}, 400, "event"},
		"a query":    {path + "?limit=1", contents{id: eventID(1)}, 400, "limit"},
	} {
		h := admin.Handler(admin.Options{Contents: tc.contents, Names: func() []string { return []string{"crm"} }})
		if w := ask(t, h, tc.path); w.Code != tc.status || !strings.Contains(w.Body.String(), tc.holds) || w.Code != 200 && strings.Contains(w.Body.String(), "private") {
			t.Errorf("%s: %d %s, want %d with %s", name, w.Code, w.Body, tc.status, tc.holds)
		}
	}
}

// Requests come one after the other to one handler: each gives its place back.
func TestPlacesAreGivenBack(t *testing.T) {
	t.Parallel()
	h := admin.Handler(admin.Options{DeadLetters: newShelf(), Names: func() []string { return []string{"crm"} }})
	for i := range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/targets/crm/dead-letters/count", http.NoBody))
		cancel()
		if w.Body.Len() == 0 {
			t.Fatalf("request %d is not answered", i+1)
		}
	}
}

// What exactly a bound allows is taken.
func TestBoundsOfQueries(t *testing.T) {
	t.Parallel()
	for _, query := range []string{
		"?status=100", "?status=999", "?text=" + strings.Repeat("x", 256), "?diedSince=1970-01-01T00:00:00Z", "?limit=1000",
	} {
		h := admin.Handler(admin.Options{DeadLetters: newShelf(), Names: func() []string { return []string{"crm"} }})
		if w := ask(t, h, "/v1/targets/crm/dead-letters"+query); w.Code != http.StatusOK {
			t.Errorf("%.40s: %d %s", query, w.Code, w.Body)
		}
	}
	if w := ask(t, events(recent.New("pod-1")), "/v1/events?limit=3700"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"events":[]`) {
		t.Errorf("as many events as are kept: %d %s", w.Code, w.Body)
	}
	s := newShelf()
	for range 200 {
		s.letters = append(s.letters, delivery.DeadLetter{Event: event.Event{ID: "evt_more"}, Entry: "9-0"})
	}
	h := admin.Handler(admin.Options{DeadLetters: s, Names: func() []string { return []string{"crm"} }})
	if n := strings.Count(ask(t, h, "/v1/targets/crm/dead-letters").Body.String(), `"entry"`); n != 100 {
		t.Errorf("%d letters are listed without a limit, want 100", n)
	}
	s = newShelf()
	h = admin.Handler(admin.Options{DeadLetters: s, Names: func() []string { return []string{"crm"} }})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "http://localhost/v1/targets/crm/dead-letters?limit=1000000000", http.NoBody))
	if w.Code != http.StatusOK || len(s.discarded) != 6 {
		t.Errorf("the largest limit: %d, %d discarded", w.Code, len(s.discarded))
	}
}

func TestMediaTypesOfAnswers(t *testing.T) {
	t.Parallel()
	replayed := newShelf()
	replayed.letters[0].ReplayedAt = time.Date(2026, 11, 21, 12, 0, 0, 0, time.FixedZone("CET", 3600))
	for request, want := range map[string][2]string{
		"GET /v1/openapi.json":                          {"application/json", `"openapi"`},
		"GET /v1/targets/crm/dead-letters":              {"application/json", `"replayedAt":"2026-11-21T11:00:00Z"`},
		"GET /v1/targets/crm/dead-letters/1-0":          {"application/json", `"entry":"1-0"`},
		"DELETE /v1/targets/crm/dead-letters?limit=2":   {"application/jsonl", `"discarded":2,"finished":true`},
		"DELETE /v1/targets/crm/dead-letters?all=false": {"text/plain; charset=utf-8", "all"},
	} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		admin.Handler(admin.Options{DeadLetters: replayed, Names: func() []string { return []string{"crm"} }}).ServeHTTP(w,
			httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, http.NoBody))
		if got := w.Header().Get("Content-Type"); got != want[0] || !strings.Contains(w.Body.String(), want[1]) {
			t.Errorf("%s: %s %.300s, want %s with %s", request, got, w.Body, want[0], want[1])
		}
	}
	if w := ask(t, admin.Handler(admin.Options{DeadLetters: newShelf(), Names: func() []string { return []string{"crm"} }}), "/v1/targets/crm/dead-letters"); strings.Contains(w.Body.String(), "replayedAt") {
		t.Errorf("letters that were never replayed are listed as %s", w.Body)
	}
}

// broken fails after it has taken some letters.
type broken struct {
	*shelf
	taken, skipped int
}

func (b broken) ReplayDeadLetters(_ context.Context, _ string, _ delivery.DeadLetterFilter, _ int, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error) {
	count := delivery.DeadLetterCount{}
	for range b.taken {
		count.Taken++
		progress(count)
	}
	count.Skipped = b.skipped
	return count, b.err
}

// An error in the middle is the last line, since the lines before it have been done.
func TestAChangeThatFailsHalfway(t *testing.T) {
	t.Parallel()
	away := errors.New("redis did not confirm")
	for name, tc := range map[string]struct {
		broken broken
		path   string
		status int
		want   string
	}{
		"at once":         {broken{&shelf{err: away}, 0, 0}, "replay?all=true", 503, "redis did not confirm\n"},
		"after a page":    {broken{&shelf{err: away}, 1, 0}, "replay?all=true", 200, `{"replayed":1,"error":"redis did not confirm"}` + "\n"},
		"after two pages": {broken{&shelf{err: away}, 2, 0}, "replay?all=true", 200, `{"replayed":1}` + "\n" + `{"replayed":2,"error":"redis did not confirm"}` + "\n"},
		"one is no event": {broken{&shelf{}, 0, 1}, "1-0/replay", 200, `{"skipped":1,"finished":true}` + "\n"},
		"one is gone":     {broken{&shelf{}, 0, 0}, "1-0/replay", 404, "There is no such dead letter"},
		"none is left":    {broken{&shelf{}, 0, 0}, "replay?all=true", 200, `{"finished":true}` + "\n"},
	} {
		w := httptest.NewRecorder()
		admin.Handler(admin.Options{DeadLetters: tc.broken, Names: func() []string { return []string{"crm"} }}).ServeHTTP(w,
			httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/v1/targets/crm/dead-letters/"+tc.path, http.NoBody))
		if w.Code != tc.status || !strings.HasPrefix(w.Body.String(), tc.want) {
			t.Errorf("%s: %d %q, want %d %q", name, w.Code, w.Body, tc.status, tc.want)
		}
	}
}
