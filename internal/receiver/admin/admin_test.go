package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

// shelf keeps dead letters of one target in memory and notes what is done with them.
type shelf struct {
	asked               delivery.DeadLetterFilter // by the last call
	letters             []delivery.DeadLetter
	replayed, discarded []string
	err                 error
	full                bool   // a larger body exceeds the limit
	edited              string // the last body
}

func (s *shelf) ListDeadLetters(_ context.Context, _ string, f delivery.DeadLetterFilter, limit int) ([]delivery.DeadLetter, error) {
	var out []delivery.DeadLetter
	s.asked = f
	for _, l := range s.letters {
		if l.Entry > f.After && (f.Entry == "" || f.Entry == l.Entry) && (f.Type == "" || f.Type == l.Type) &&
			(f.Status == nil || *f.Status == l.Status) && (limit == 0 || len(out) < limit) {
			l.Body = nil
			out = append(out, l)
		}
	}
	return out, s.err
}

func (s *shelf) DeadLetter(_ context.Context, _, entry string) (delivery.DeadLetter, bool, error) {
	for _, l := range s.letters {
		if l.Entry == entry {
			return l, true, s.err
		}
	}
	return delivery.DeadLetter{}, false, s.err
}

func (s *shelf) CountDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter) (int, error) {
	found, err := s.ListDeadLetters(ctx, target, f, 0)
	return len(found), err
}

// ReplayDeadLetters takes one letter a page.
func (s *shelf) ReplayDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, progress func(delivery.DeadLetterCount)) (count delivery.DeadLetterCount, err error) {
	found, err := s.ListDeadLetters(ctx, target, f, limit)
	for _, l := range found {
		s.replayed = append(s.replayed, l.Entry)
		count.Taken++
		progress(count)
	}
	return count, err
}

func (s *shelf) DiscardDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error) {
	before := s.replayed
	count, err := s.ReplayDeadLetters(ctx, target, f, limit, progress)
	s.discarded = append(s.discarded, s.replayed[len(before):]...)
	s.replayed = before
	return count, err
}

// ReplayEdited keeps the body that it is given.
func (s *shelf) ReplayEdited(ctx context.Context, target, entry string, body []byte) (count delivery.DeadLetterCount, err error) {
	if s.full {
		return count, fmt.Errorf("replay: %w", admin.ErrQuota)
	}
	s.edited = string(body)
	return s.ReplayDeadLetters(ctx, target, delivery.DeadLetterFilter{Entry: entry}, 0, func(delivery.DeadLetterCount) {})
}

func newShelf() *shelf {
	s := &shelf{}
	for i := range 6 {
		s.letters = append(s.letters, delivery.DeadLetter{
			Event: event.Event{ID: fmt.Sprintf("evt_%d", i), Type: []string{event.MessageSent, event.ChatClosed}[i%2], Body: []byte(`{"text":"private"}`)},
			Entry: fmt.Sprintf("%d-0", i), Attempts: 16, Status: []int{422, 500, 0}[i%3], Reason: "refused",
		})
	}
	return s
}

func TestHandler(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ask                 string
		status              int
		holds, lacks        []string
		replayed, discarded []string
	}{
		{ask: "GET /v1/targets/crm/dead-letters", status: 200, holds: []string{"0-0", "5-0", "refused", "422"}, lacks: []string{"private"}},
		{ask: "GET /v1/targets/crm/dead-letters?limit=1", status: 200, holds: []string{"0-0"}, lacks: []string{"evt_1"}},
		{ask: "GET /v1/targets/crm/dead-letters?after=4-0", status: 200, holds: []string{"5-0"}, lacks: []string{"4-0"}},
		{ask: "GET /v1/targets/crm/dead-letters?status=0", status: 200, holds: []string{"2-0", "5-0"}, lacks: []string{"0-0"}},
		{ask: "GET /v1/targets/crm/dead-letters/3-0", status: 200, holds: []string{"evt_3", "private"}, lacks: []string{"evt_2"}},
		{ask: "GET /v1/targets/crm/dead-letters/9-0", status: 404, holds: []string{"no such dead letter"}},
		{ask: "GET /v1/targets/other/dead-letters", status: 404, holds: []string{"crm"}},
		{ask: "GET /v1/targets/crm/dead-letters?limit=0", status: 400, holds: []string{"1 to 1000"}},
		{ask: "GET /v1/targets/crm/dead-letters?status=bad", status: 400, holds: []string{"status"}},
		{ask: "GET /v1/targets/crm/dead-letters?typ=x", status: 400, holds: []string{`"typ"`, "type"}},
		{ask: "POST /v1/targets/crm/dead-letters/replay?typ=x", status: 400}, // a slip must not replay everything
		{ask: "POST /v1/targets/crm/dead-letters/replay?limit=2", status: 200, holds: []string{`{"replayed":2,"finished":true}`}, replayed: []string{"0-0", "1-0"}},
		{ask: "POST /v1/targets/crm/dead-letters/replay?type=chat_closed&status=500", status: 200, replayed: []string{"1-0"}},
		{ask: "POST /v1/targets/crm/dead-letters/4-0/replay", status: 200, replayed: []string{"4-0"}},
		{ask: "POST /v1/targets/crm/dead-letters/replay", status: 400, holds: []string{"all=true"}},
		{ask: "POST /v1/targets/crm/dead-letters/replay?all=true", status: 200, holds: []string{"{\"replayed\":1}\n", `"replayed":6,"finished":true`}, replayed: []string{"0-0", "1-0", "2-0", "3-0", "4-0", "5-0"}},
		{ask: "GET /v1/targets/crm/dead-letters/count?status=0", status: 200, holds: []string{`{"count":2}`}},
		{ask: "GET /v1/targets/crm/dead-letters/count?limit=1", status: 400},
		{ask: "GET /v1/targets/crm/dead-letters?type=message_sent", status: 200, holds: []string{"0-0"}, lacks: []string{`"1-0"`}},
		{ask: "DELETE /v1/targets/crm/dead-letters/4-0", status: 200, holds: []string{`{"discarded":1,"finished":true}`}, discarded: []string{"4-0"}},
		{ask: "DELETE /v1/targets/crm/dead-letters?status=422", status: 200, discarded: []string{"0-0", "3-0"}},
		{ask: "DELETE /v1/targets/crm/dead-letters", status: 400, holds: []string{"all=true"}},
		{ask: "DELETE /v1/targets/crm/dead-letters?all=true", status: 200, discarded: []string{"0-0", "1-0", "2-0", "3-0", "4-0", "5-0"}},
		{ask: "PUT /v1/targets/crm/dead-letters", status: 405},
	} {
		t.Run(tc.ask, func(t *testing.T) {
			t.Parallel()
			s := newShelf()
			method, path, _ := strings.Cut(tc.ask, " ")
			w := httptest.NewRecorder()
			admin.Handler(admin.Options{DeadLetters: s, Names: func() []string { return []string{"crm"} }}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "http://localhost:8082"+path, http.NoBody))
			if w.Code != tc.status {
				t.Fatalf("status %d, want %d: %s", w.Code, tc.status, w.Body)
			}
			for _, text := range tc.holds {
				if !strings.Contains(w.Body.String(), text) {
					t.Errorf("the answer lacks %q: %s", text, w.Body)
				}
			}
			for _, text := range tc.lacks {
				if strings.Contains(w.Body.String(), text) {
					t.Errorf("the answer holds %q: %s", text, w.Body)
				}
			}
			if diff := cmp.Diff([][]string{tc.replayed, tc.discarded}, [][]string{s.replayed, s.discarded}); diff != "" {
				t.Errorf("replayed and discarded (-want +got):\n%s", diff)
			}
		})
	}
}

// Every filter reaches the store, from every request that accepts it.
func TestFilters(t *testing.T) {
	t.Parallel()
	const path = "/v1/targets/crm/dead-letters"
	for query, want := range map[string]delivery.DeadLetterFilter{
		"type=chat_closed":                 {Type: event.ChatClosed},
		"status=0":                         {Status: new(0)},
		"reason=In%20Time":                 {Reason: "In Time"},
		"text=%25+(a.b)":                   {Text: "% (a.b)"},
		"diedSince=2026-11-21T12:00:00Z":   {Since: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)},
		"diedUntil=2026-11-21T12:00:00.5Z": {Until: time.Date(2026, 11, 21, 12, 0, 0, 5e8, time.UTC)},
		"reason=a&text=b&diedSince=2026-11-21T13:00:00%2B01:00": {Reason: "a", Text: "b", Since: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)},
	} {
		for _, request := range []string{"GET " + path + "?", "GET " + path + "/count?", "POST " + path + "/replay?", "DELETE " + path + "?"} {
			s := newShelf()
			method, address, _ := strings.Cut(request+query, " ")
			w := httptest.NewRecorder()
			admin.Handler(admin.Options{DeadLetters: s, Names: func() []string { return []string{"crm"} }}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "http://localhost:8082"+address, http.NoBody))
			if diff := cmp.Diff(want, s.asked); w.Code != http.StatusOK || diff != "" {
				t.Errorf("%s%s: %d %s; the store is asked for (-want +got):\n%s", request, query, w.Code, w.Body, diff)
			}
		}
	}
}

func TestErrorsOfTheStoreAreReported(t *testing.T) {
	t.Parallel()
	s := newShelf()
	s.letters, s.err = nil, fmt.Errorf("redis did not confirm")
	for _, ask := range []string{"GET /v1/targets/crm/dead-letters", "POST /v1/targets/crm/dead-letters/replay?all=true", "DELETE /v1/targets/crm/dead-letters?all=true"} {
		method, path, _ := strings.Cut(ask, " ")
		w := httptest.NewRecorder()
		admin.Handler(admin.Options{DeadLetters: s, Names: func() []string { return []string{"crm"} }}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, http.NoBody))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "did not confirm") {
			t.Errorf("%s: %d %s", ask, w.Code, w.Body)
		}
	}
}

// Anything not exactly right must be rejected: if it were treated as missing, it would select every
// letter.
func TestUnclearRequestsChangeNothing(t *testing.T) {
	t.Parallel()
	queries := []string{
		"", "?", "?all=false", "?all=", "?all", "?all=TRUE", "?all=1", "?all=true&all=true", "?all=true&all=false", "?all=true&type=chat_closed", "?all=true&limit=1",
		"?type=", "?type=%20", "?type=chat_closed%20", "?type=*", "?type=chat_closed&type=message_sent",
		"?status=", "?status=%20422", "?status=-5", "?status=-1", "?status=%2B422", "?status=4.5", "?status=42", "?status=1000", "?status=99999999999999999999", "?status=422&status=500",
		"?limit=", "?limit=0", "?limit=-1", "?limit=1e3", "?limit=9223372036854775808", "?limit=2000000000", "?limit=1&limit=2",
		"?typ=chat_closed", "?Type=chat_closed", "?%74yp=x", "?after=1-0", "?=", "?x", "?limit=1&x=", "?limit=%zz", "?limit=1;all=true", "?status=422;type=x",
		"?reason=", "?reason=%20%09", "?text=%20", "?text=" + strings.Repeat("x", 257), "?reason=a&reason=b",
		"?diedSince=", "?diedSince=2h", "?diedSince=2026-11-21", "?diedSince=1700000000", "?diedUntil=1960-01-01T00:00:00Z", "?diedUntil=2026-11-21T12:00:00", "?all=true&text=a",
		"?limit=1&type=%zz", "?limit=1&status=422;x", // what remains of these must not be taken for all of it
	}
	for _, change := range []string{"POST /v1/targets/crm/dead-letters/replay", "DELETE /v1/targets/crm/dead-letters"} {
		for _, query := range queries {
			wantRejected(t, change+query, http.NoBody)
		}
		wantRejected(t, change+"?all=true", strings.NewReader("limit=1"))
	}
	for _, entry := range []string{"0", "0-0-0", "-", "+", "$", "*", "(0-0", "0-18446744073709551616", "%20", "0-0%20", "x", "%2e%2e%2f"} {
		for _, change := range []string{"POST /v1/targets/crm/dead-letters/" + entry + "/replay", "DELETE /v1/targets/crm/dead-letters/" + entry, "GET /v1/targets/crm/dead-letters/" + entry} {
			wantRejected(t, change, http.NoBody)
		}
	}
	for _, change := range []string{
		"POST /v1/targets/crm/dead-letters/0-0/replay?limit=1", "DELETE /v1/targets/crm/dead-letters/0-0?all=true", "DELETE /v1/targets/crm/dead-letters/0-0?x=",
		"DELETE /v1/targets/crm/dead-letters/?all=true", "DELETE /v1/targets/crm/dead-letters/replay?all=true", "POST /v1/targets/crm/dead-letters//replay",
		"POST /v1/targets//dead-letters/replay?all=true", "DELETE /v1/targets/crm%20/dead-letters?all=true", "PUT /v1/targets/crm/dead-letters?all=true",
		"PATCH /v1/targets/crm/dead-letters?all=true", "POST /v1/targets/crm/dead-letters?all=true", "GET /v1/targets/crm/dead-letters/replay?all=true",
	} {
		wantRejected(t, change, http.NoBody)
	}
}

func wantRejected(t *testing.T, ask string, body io.Reader) {
	t.Helper()
	s := newShelf()
	method, path, _ := strings.Cut(ask, " ")
	w := httptest.NewRecorder()
	admin.Handler(admin.Options{DeadLetters: s, Names: func() []string { return []string{"crm"} }}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, body))
	if w.Code < 300 || len(s.replayed)+len(s.discarded) != 0 {
		t.Errorf("%s: status %d, replayed %v, discarded %v", ask, w.Code, s.replayed, s.discarded)
	}
}

// A web page opened while a port-forward runs must not reach the dead letters.
func TestOnlyLocalProgramsAreServed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		host   string
		header map[string]string
		status int
	}{
		{"localhost:8082", nil, 200},
		{"LOCALHOST", nil, 200},
		{"127.0.0.1:8082", nil, 200},
		{"127.1.2.3", nil, 200},
		{"[::1]:8082", nil, 200},
		{"[::1]", nil, 200},
		{"rebound.example.com", nil, 421},
		{"rebound.example.com:8082", nil, 421},
		{"localhost.example.com:8082", nil, 421},
		{"127.0.0.1.example.com", nil, 421},
		{"10.0.0.1:8082", nil, 421},
		{"", nil, 421},
		{"localhost:8082", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"localhost:8082", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"localhost:8082", map[string]string{"Origin": "https://example.com"}, 403},
		{"localhost:8082", map[string]string{"Origin": "null"}, 403},
		{"localhost:8082", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},
	} {
		s := newShelf()
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/v1/targets/crm/dead-letters?all=true", http.NoBody)
		r.Host = tc.host
		for name, value := range tc.header {
			r.Header.Set(name, value)
		}
		admin.Handler(admin.Options{DeadLetters: s, Names: func() []string { return []string{"crm"} }}).ServeHTTP(w, r)
		if told := strings.Contains(w.Body.String(), "kubectl heymarket dead"); told != (tc.status == http.StatusForbidden) {
			t.Errorf("host %q, %v: the answer is %s", tc.host, tc.header, w.Body)
		}
		if w.Code != tc.status || (len(s.discarded) > 0) != (tc.status == 200) {
			t.Errorf("host %q, %v: status %d, discarded %v; want %d", tc.host, tc.header, w.Code, s.discarded, tc.status)
		}
	}
}

// An unreadable letter hides no other, and its text cannot break the answer.
func TestTextOfAnyKindIsShown(t *testing.T) {
	t.Parallel()
	s := newShelf()
	s.letters[0].Reason, s.letters[0].Excerpt, s.letters[0].Type, s.letters[0].ID = "bad \xff", "cut \xe2\x82", "\xfe", "\x80"
	s.letters[1].Body = []byte(`{"text":"cut emoji \ud83d"}`)
	s.letters[2].Body = []byte("\xff not JSON")
	s.letters[3].Body = []byte(strings.Repeat("[", 3000) + strings.Repeat("]", 3000))
	for path, want := range map[string]string{
		"":     `"entry":"5-0"`,
		"/1-0": `"body":{"text":`,
		"/2-0": `"bodyText":"` + "\uFFFD" + ` not JSON"`,
		"/3-0": "[[[",
	} {
		w := httptest.NewRecorder()
		admin.Handler(admin.Options{DeadLetters: s, Names: func() []string { return []string{"crm"} }}).ServeHTTP(w,
			httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/v1/targets/crm/dead-letters"+path, http.NoBody))
		if !json.Valid(w.Body.Bytes()) || !utf8.Valid(w.Body.Bytes()) || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q: status %d, no valid answer with %s:\n%.300s", path, w.Code, want, w.Body)
		}
		if n := w.Body.Len(); n > 20_000 {
			t.Errorf("%q: an answer of %d bytes: nesting is unfolded", path, n)
		}
	}
}
