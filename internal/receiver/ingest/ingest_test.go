package ingest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/event"
)

const (
	path  = "/staging/support/segmentsegmentsegmentsegm"
	older = "/staging/support/oldersegmentoldersegmento"
	token = "not-a-real-token"

	message = `{"type":"message_recieved","id":1187,"token":"not-a-real-token","event_data":{"id":7,"status":"received","text":"hello"}}`
	closed  = `{"type":"chat_closed","id":1187,"token":"not-a-real-token","event_data":{"id":7,"updated":"m"}}`
	optOut  = `{"type":"target_opt_out","id":1187,"token":"not-a-real-token","event_data":{"phone":"15550100"}}`
	unknown = `{"type":"fax_arrived","id":1187,"token":"not-a-real-token","event_data":{"pages":3}}`
)

// fakeStore records its arguments, and can be made to fail.
type fakeStore struct {
	mu     sync.Mutex
	err    error
	kept   []kept
	known  map[event.Key]bool
	during func(context.Context) // called while an Append is in flight
}

type kept struct {
	Type, Body string
	Targets    []string
}

func (s *fakeStore) Append(ctx context.Context, id event.Identity, e event.Event, targets []string) (event.Judgement, string, error) {
	key := id.Key
	if s.during != nil {
		s.during(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return "", "", s.err
	case s.known[key]:
		return event.Repeat, "", nil
	case key.ID() != e.ID || e.AcceptedAt.IsZero():
		return "", "", errors.New("the event is not filled in")
	}
	if s.known == nil {
		s.known = map[event.Key]bool{}
	}
	s.known[key] = true
	s.kept = append(s.kept, kept{e.Type, string(e.Body), targets})
	return event.New, e.ID, nil
}

func (s *fakeStore) all() []kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept
}

// reports collects the Reports of an Observer.
type reports chan Report

func (r reports) Answered(x Report) { r <- x }

func settings() Settings {
	return Settings{
		Namespace: "staging", Name: "support", Paths: []string{path, older}, Tokens: [][]byte{[]byte(token)},
		Targets:      []Target{{Name: "crm"}, {Name: "chats", EventTypes: []string{"chat_closed", "chat_opened"}}},
		MaxBodyBytes: 1 << 20,
	}
}

func post(body string) *http.Request {
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	return req
}

func serve(t testing.TB, s Settings, store Store, req *http.Request) (*http.Response, Report) {
	t.Helper()
	seen := make(reports, 1)
	w := httptest.NewRecorder()
	NewHandler(store, seen, s).ServeHTTP(w, req)
	select {
	case report := <-seen:
		return w.Result(), report
	default:
		t.Fatal("the observer was not told")
		return nil, Report{}
	}
}

func withID(id int64) func(*Settings) { return func(s *Settings) { s.WebhookID = &id } }

func wantingOnly(types ...string) func(*Settings) {
	return func(s *Settings) { s.EventTypes = types }
}

// TestAnswers covers every row of the API's table of answers.
func TestAnswers(t *testing.T) {
	t.Parallel()
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
	at := func(p string) func(*http.Request) { return func(r *http.Request) { r.URL.Path = p } }
	withoutToken := strings.NewReplacer(`"token":"not-a-real-token",`, "").Replace
	for _, tc := range []struct {
		name     string
		body     string
		request  func(*http.Request)
		settings func(*Settings)
		err      error

		status  int
		result  Result
		reason  Reason
		headers map[string]string
		kept    []kept
	}{
		{name: "stored for all that want it", body: closed, status: 200, result: Stored, kept: []kept{{"chat_closed", withoutToken(closed), []string{"crm", "chats"}}}},
		{name: "stored for the one that wants it", body: message, status: 200, result: Stored, kept: []kept{{"message_recieved", withoutToken(message), []string{"crm"}}}},
		{name: "at the older path", body: message, request: at(older), status: 200, result: Stored, kept: []kept{{"message_recieved", withoutToken(message), []string{"crm"}}}},
		{
			name: "the corrected spelling", body: strings.Replace(message, "recieved", "received", 1), status: 200, result: Stored,
			kept: []kept{{"message_recieved", strings.Replace(withoutToken(message), "recieved", "received", 1), []string{"crm"}}},
		},
		{name: "a type that nobody documents", body: unknown, status: 200, result: Stored, kept: []kept{{"fax_arrived", withoutToken(unknown), []string{"crm"}}}},
		{name: "the right webhook", body: message, settings: withID(1187), status: 200, result: Stored, kept: []kept{{"message_recieved", withoutToken(message), []string{"crm"}}}},
		{name: "an accepted type among some", body: optOut, settings: wantingOnly("target_opt_out"), status: 200, result: Stored, kept: []kept{{"target_opt_out", withoutToken(optOut), []string{"crm"}}}},
		{
			name: "the corrected spelling where only the other is accepted", body: strings.Replace(message, "recieved", "received", 1), settings: wantingOnly("message_recieved"), status: 200, result: Stored,
			kept: []kept{{"message_recieved", strings.Replace(withoutToken(message), "recieved", "received", 1), []string{"crm"}}},
		},

		{name: "a type that is not accepted", body: message, settings: wantingOnly("chat_closed"), status: 200, result: Ignored},
		{name: "an unknown type where some are accepted", body: unknown, settings: wantingOnly("chat_closed"), status: 200, result: Ignored},
		{name: "a type that no target wants", body: message, settings: func(s *Settings) { s.Targets = s.Targets[1:] }, status: 200, result: Ignored},
		{name: "no target", body: message, settings: func(s *Settings) { s.Targets = nil }, status: 200, result: Ignored},

		{name: "an empty body", status: 400, result: Refused, reason: Malformed},
		{name: "not JSON", body: `{"type":`, status: 400, result: Refused, reason: Malformed},
		{name: "no type", body: `{"token":"not-a-real-token","event_data":{}}`, status: 400, result: Refused, reason: Malformed},
		{name: "no event_data", body: `{"type":"chat_closed","token":"not-a-real-token"}`, status: 400, result: Refused, reason: Malformed},
		{name: "trailing data", body: message + "{}", status: 400, result: Refused, reason: Malformed},
		{name: "duplicate members", body: `{"type":"a","type":"a","token":"not-a-real-token","event_data":{}}`, status: 400, result: Refused, reason: Malformed},
		{name: "members that differ in case", body: `{"type":"a","Token":"x","token":"not-a-real-token","event_data":{}}`, status: 400, result: Refused, reason: Malformed},
		{name: "invalid UTF-8", body: strings.Replace(message, "hello", "\xff", 1), status: 400, result: Refused, reason: Malformed},

		{name: "no token", body: withoutToken(message), status: 401, result: Refused, reason: WrongToken},
		{name: "a wrong token", body: strings.Replace(message, token, "wrong", 1), status: 401, result: Refused, reason: WrongToken},
		{name: "an empty token", body: strings.Replace(message, token, "", 1), status: 401, result: Refused, reason: WrongToken},
		{name: "half a token", body: strings.Replace(message, token, token[:8], 1), status: 401, result: Refused, reason: WrongToken},
		{name: "a token and a newline", body: strings.Replace(message, token, token+`\n`, 1), status: 401, result: Refused, reason: WrongToken},
		{name: "a token that is null", body: strings.Replace(message, `"`+token+`"`, "null", 1), status: 401, result: Refused, reason: WrongToken},
		{name: "a token within event_data", body: `{"type":"chat_closed","event_data":{"token":"not-a-real-token"}}`, status: 401, result: Refused, reason: WrongToken},
		{name: "a wrong token and a wrong webhook", body: strings.Replace(message, token, "wrong", 1), settings: withID(2), status: 401, result: Refused, reason: WrongToken},
		{name: "a wrong token and a type that is not accepted", body: strings.Replace(message, token, "wrong", 1), settings: wantingOnly("chat_closed"), status: 401, result: Refused, reason: WrongToken},

		{name: "another webhook", body: message, settings: withID(2), status: 403, result: Refused, reason: WrongWebhook},
		{name: "no webhook", body: strings.Replace(message, `"id":1187,`, "", 1), settings: withID(1187), status: 403, result: Refused, reason: WrongWebhook},
		{name: "webhook null", body: strings.Replace(message, `1187`, "null", 1), settings: withID(0), status: 403, result: Refused, reason: WrongWebhook},
		{name: "a webhook as a string where none is asked for", body: strings.Replace(message, `1187`, `"1187"`, 1), status: 200, result: Stored, kept: []kept{{"message_recieved", strings.Replace(withoutToken(message), `1187`, `"1187"`, 1), []string{"crm"}}}},
		{name: "a webhook as 1187.0 where none is asked for", body: strings.Replace(message, `1187`, `1187.0`, 1), status: 200, result: Stored, kept: []kept{{"message_recieved", strings.Replace(withoutToken(message), `1187`, `1187.0`, 1), []string{"crm"}}}},
		{name: "a webhook as a string", body: strings.Replace(message, `1187`, `"1187"`, 1), settings: withID(1187), status: 400, result: Refused, reason: Malformed},
		{name: "a webhook as 1187.0", body: strings.Replace(message, `1187`, `1187.0`, 1), settings: withID(1187), status: 400, result: Refused, reason: Malformed},
		{name: "a webhook as 0.0 where it is 0", body: strings.Replace(message, `1187`, `0.0`, 1), settings: withID(0), status: 400, result: Refused, reason: Malformed},
		{name: "a byte order mark", body: "\ufeff" + message, status: 200, result: Stored, kept: []kept{{"message_recieved", withoutToken(message), []string{"crm"}}}},
		{name: "half of a surrogate pair", body: strings.Replace(message, "hello", `cut emoji \ud83d`, 1), status: 200, result: Stored, kept: []kept{{"message_recieved", strings.Replace(withoutToken(message), "hello", `cut emoji \ud83d`, 1), []string{"crm"}}}},
		{name: "U+0000 in a name", body: strings.Replace(message, `"type"`, `"token\u0000":"x","type"`, 1), status: 400, result: Refused, reason: Malformed},
		{name: "another webhook and a type that is not accepted", body: message, settings: func(s *Settings) { withID(2)(s); wantingOnly("chat_closed")(s) }, status: 403, result: Refused, reason: WrongWebhook},

		{name: "an unknown path", body: message, request: at("/staging/support/wrong"), status: 404, result: Refused, reason: UnknownPath},
		{name: "the path without its segment", body: message, request: at("/staging/support/"), status: 404, result: Refused, reason: UnknownPath},
		{name: "a path that goes on", body: message, request: at(path + "/"), status: 404, result: Refused, reason: UnknownPath},
		{name: "half the path", body: message, request: at(path[:len(path)-1]), status: 404, result: Refused, reason: UnknownPath},
		{name: "the path in capitals", body: message, request: at(strings.ToUpper(path)), status: 404, result: Refused, reason: UnknownPath},
		{name: "no path", body: message, request: at(""), status: 404, result: Refused, reason: UnknownPath},
		{name: "GET at an unknown path", request: func(r *http.Request) { r.Method, r.URL.Path = "GET", "/healthz/" }, status: 404, result: Refused, reason: UnknownPath},

		{name: "GET", request: method("GET"), status: 405, result: Refused, reason: Method, headers: map[string]string{"Allow": "POST"}},
		{name: "HEAD", request: method("HEAD"), status: 405, result: Refused, reason: Method, headers: map[string]string{"Allow": "POST"}},
		{name: "OPTIONS", request: method("OPTIONS"), status: 405, result: Refused, reason: Method, headers: map[string]string{"Allow": "POST"}},
		{name: "PUT", body: message, request: method("PUT"), status: 405, result: Refused, reason: Method, headers: map[string]string{"Allow": "POST"}},
		{name: "post in small letters", body: message, request: method("post"), status: 405, result: Refused, reason: Method, headers: map[string]string{"Allow": "POST"}},

		{name: "too large", body: message, settings: func(s *Settings) { s.MaxBodyBytes = 20 }, status: 413, result: Refused, reason: TooLarge, headers: map[string]string{"Connection": "close"}},
		{name: "not application/json", body: message, request: header("Content-Type", "text/plain"), status: 415, result: Refused, reason: MediaType},
		{name: "compressed", body: message, request: header("Content-Encoding", "gzip"), status: 415, result: Refused, reason: MediaType},

		{name: "a full queue", body: message, err: fmt.Errorf("append: %w: crm", ErrFull), status: 429, result: Refused, reason: Backlog, headers: map[string]string{"Retry-After": "30"}},
		{name: "no bytes left", body: message, err: fmt.Errorf("append: %w", ErrQuota), status: 429, result: Refused, reason: BacklogBytes, headers: map[string]string{"Retry-After": "30"}},
		{name: "the store is away", body: message, err: errors.New("dial tcp 10.0.0.1:6379: connection refused"), status: 503, result: Refused, reason: Unconfirmed, headers: map[string]string{"Retry-After": "5"}},
		{name: "the store is slow", body: message, err: context.DeadlineExceeded, status: 503, result: Refused, reason: Unconfirmed, headers: map[string]string{"Retry-After": "5"}},
		{name: "the store is cancelled", body: message, err: context.Canceled, status: 503, result: Refused, reason: Unconfirmed, headers: map[string]string{"Retry-After": "5"}},
		{name: "the store ends", body: message, err: io.EOF, status: 503, result: Refused, reason: Unconfirmed, headers: map[string]string{"Retry-After": "5"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			store, s, req := &fakeStore{err: tc.err}, settings(), post(tc.body)
			if tc.settings != nil {
				tc.settings(&s)
			}
			if tc.request != nil {
				tc.request(req)
			}
			resp, report := serve(t, s, store, req)
			if resp.StatusCode != tc.status || report.Status != tc.status || report.Result != tc.result || report.Reason != tc.reason {
				t.Errorf("answer %d, report %d %s %q; want %d %s %q", resp.StatusCode, report.Status, report.Result, report.Reason, tc.status, tc.result, tc.reason)
			}
			if diff := cmp.Diff(tc.kept, store.all()); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			for name, want := range tc.headers {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			wantClose := ""
			if tc.status != 200 && report.Token == "" { // strangers do not keep connections; this one is not counted, so it counts as theirs
				wantClose = "close"
			}
			for _, name := range []string{"Allow", "Retry-After"} {
				if got := resp.Header.Get(name); got != tc.headers[name] {
					t.Errorf("%s: %q, want %q", name, got, tc.headers[name])
				}
			}
			if got := resp.Header.Get("Connection"); wantClose != "" && got != wantClose {
				t.Errorf("Connection: %q, want %q", got, wantClose)
			}
			text, _ := io.ReadAll(resp.Body)
			if (tc.status == 200) != (len(text) == 0) {
				t.Errorf("%d with the body %q", tc.status, text)
			}
			if tc.status != 200 && !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
				t.Errorf("a refusal of type %q", resp.Header.Get("Content-Type"))
			}
		})
	}
}

// A load balancer that checks the events port learns that it serves, and nothing about the webhook.
func TestHealthChecks(t *testing.T) {
	t.Parallel()
	seen := make(reports, 10)
	other := settings()
	other.Name, other.Paths, other.Tokens, other.Targets = "other", []string{"/x/y"}, nil, nil
	for _, s := range []Settings{settings(), other} {
		h := NewHandler(&fakeStore{}, seen, s)
		ask := func(method, path string) string {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			return fmt.Sprint(w.Code, w.Result().Header, w.Body.String())
		}
		for _, path := range []string{"/", "/healthz", "/?probe", "/healthz?x=y"} {
			for _, method := range []string{"GET", "HEAD"} {
				if got, want := ask(method, path), "200 map[]"; got != want {
					t.Errorf("%s %s: %s, want %s", method, path, got, want)
				}
			}
		}
		if len(seen) != 0 {
			t.Error("a health check is counted as a request for events")
		}
		for _, tc := range [][2]string{{"POST", "/"}, {"OPTIONS", "/"}, {"GET", "/healthz/"}, {"GET", "//"}, {"GET", "/readyz"}, {"GET", ""}} {
			req, w := httptest.NewRequest(tc[0], "/", nil), httptest.NewRecorder()
			req.URL.Path = tc[1]
			h.ServeHTTP(w, req)
			if r := <-seen; w.Code != 404 || r.Reason != UnknownPath {
				t.Errorf("%s %q: %d, %q; want 404", tc[0], tc[1], w.Code, r.Reason)
			}
		}
		h.Drain()
		if got, want := ask("GET", "/healthz"), "503 map[Connection:[close]]"; got != want {
			t.Errorf("while draining: %s, want %s", got, want)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	refusal := fmt.Errorf("%w: crm", ErrFull)
	for _, tc := range []struct {
		name, body string
		settings   func(*Settings)
		err        error
		want       Report
	}{
		{name: "stored", body: closed, want: Report{Result: Stored, Judgement: event.New, Status: 200, Type: "chat_closed", Webhook: 1187, Token: "current", EventID: "evt_", Targets: []string{"crm", "chats"}}},
		{name: "respelled", body: strings.Replace(message, "recieved", "received", 1), want: Report{
			Result: Stored, Judgement: event.New, Status: 200, Type: "message_recieved", Webhook: 1187, Token: "current", EventID: "evt_", Targets: []string{"crm"}, Respelled: true,
		}},
		{name: "ignored", body: message, settings: wantingOnly("chat_closed"), want: Report{Result: Ignored, Status: 200, Type: "message_recieved", Webhook: 1187, Token: "current"}},
		{name: "another webhook", body: message, settings: withID(1), want: Report{Result: Refused, Reason: WrongWebhook, Status: 403, Type: "message_recieved", Webhook: 1187, Token: "current"}},
		{name: "full", body: message, err: refusal, want: Report{Result: Refused, Reason: Backlog, Status: 429, Type: "message_recieved", Webhook: 1187, Token: "current", EventID: "evt_", Err: refusal}},
		{name: "a stranger's type is not repeated", body: `{"type":"spam","token":"x","event_data":{}}`, want: Report{Result: Refused, Reason: WrongToken, Status: 401}},
		{name: "malformed", body: `{`, want: Report{Result: Refused, Reason: Malformed, Status: 400, Err: event.NotJSON}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := settings()
			if tc.settings != nil {
				tc.settings(&s)
			}
			_, got := serve(t, s, &fakeStore{err: tc.err}, post(tc.body))
			if got.Took <= 0 || got.Took > time.Minute {
				t.Errorf("took %s", got.Took)
			}
			got.Took = 0
			if got.EventID != "" {
				if _, ok := event.ParseID(got.EventID); !ok {
					t.Errorf("event id %q", got.EventID)
				}
				got.EventID = "evt_"
			}
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) || errors.Is(b, a) })); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAccount checks that every request has one result, and that the counts add up.
func TestAccount(t *testing.T) {
	t.Parallel()
	store, seen := &fakeStore{}, make(reports, 100)
	s := settings()
	s.Targets = s.Targets[1:]
	h := NewHandler(store, seen, s)
	want := map[Result]int{Stored: 1, Duplicate: 3, Ignored: 2, Refused: 2}
	for _, body := range []string{closed, closed, message, closed, "{", message, optOut[1:], strings.ReplaceAll(closed, `"id":7`, "\t\"id\" : 7")} {
		h.ServeHTTP(httptest.NewRecorder(), post(body))
	}
	close(seen)
	got := map[Result]int{}
	var first string
	for r := range seen {
		got[r.Result]++
		if r.Result == Stored {
			first = r.EventID
		}
		if r.Result == Duplicate && r.EventID != first {
			t.Errorf("a repeat has the id %s, its event %s", r.EventID, first)
		}
		if r.Result == Duplicate && len(r.Targets) != 0 {
			t.Errorf("a repeat names targets: %q", r.Targets)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if len(store.all()) != 1 {
		t.Errorf("kept %d", len(store.all()))
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]int{
		"application/json":                              200,
		"Application/JSON":                              200,
		"application/json;charset=utf-8":                200,
		"application/json; charset=UTF-8":               200,
		`application/json; charset="utf-8"`:             200,
		"application/json; charset=utf8":                200,
		`application/json; charset="UTF8"`:              200,
		"application/json; charset=us-ascii":            200,
		"application/json; charset=ASCII":               200,
		"APPLICATION/JSON; CHARSET=US-ASCII; v=1":       200,
		"application/json; charset=utf-7":               415,
		" application/json ":                            200,
		"application/json; profile=x":                   200,
		"application/json; charset=utf-16":              415,
		"application/json; charset=iso-8859-1":          415,
		"application/json, text/plain":                  415,
		"application/json; charset":                     415,
		"application/jsonp":                             415,
		"application/x-json":                            415,
		"application/cloudevents+json":                  415,
		"text/json":                                     415,
		"text/plain":                                    415,
		"application/x-www-form-urlencoded":             415,
		"multipart/form-data; boundary=x":               415,
		"":                                              415,
		"*/*":                                           415,
		"json":                                          415,
		"application/json\x00":                          415,
		"application/json;charset=utf-8;charset=utf-16": 415,
	} {
		req := post(message)
		req.Header.Set("Content-Type", contentType)
		if contentType == "" {
			req.Header.Del("Content-Type")
		}
		if resp, _ := serve(t, settings(), &fakeStore{}, req); resp.StatusCode != want {
			t.Errorf("Content-Type %q: %d, want %d", contentType, resp.StatusCode, want)
		}
	}
	for encoding, want := range map[string]int{
		"": 200, "identity": 200, "Identity": 200, "UTF-8": 200, "utf8": 200, "us-ascii": 200, "identity, UTF-8": 200, "utf-16": 415, "UTF-8, gzip": 415, "gzip,": 415, "gzip": 415, "x-gzip": 415, "deflate": 415, "br": 415, "zstd": 415, "identity, gzip": 415, "gzip, identity": 415,
	} {
		req := post(message)
		req.Header.Set("Content-Encoding", encoding)
		if resp, _ := serve(t, settings(), &fakeStore{}, req); resp.StatusCode != want {
			t.Errorf("Content-Encoding %q: %d, want %d", encoding, resp.StatusCode, want)
		}
	}
	req := post(message)
	req.Header["Content-Encoding"] = []string{"identity", "gzip"}
	if resp, _ := serve(t, settings(), &fakeStore{}, req); resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a second line of Content-Encoding: %d, want 415", resp.StatusCode)
	}
}

// sized returns a good body of n bytes.
func sized(n int) string {
	const frame = `{"type":"chat_closed","token":"not-a-real-token","event_data":{"x":""}}`
	return strings.Replace(frame, `""`, `"`+strings.Repeat("x", n-len(frame))+`"`, 1)
}

func TestBodyLimits(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{100, trustedLength - 1, trustedLength, trustedLength + 1, 1 << 20} {
		for _, tc := range []struct{ size, want int }{{limit - 1, 200}, {limit, 200}, {limit + 1, 413}, {limit * 2, 413}} {
			for _, chunked := range []bool{false, true} {
				s, store, body := settings(), &fakeStore{}, sized(tc.size)
				s.MaxBodyBytes = int64(limit)
				req := post(body)
				if chunked {
					req.ContentLength = -1
				}
				resp, report := serve(t, s, store, req)
				if resp.StatusCode != tc.want {
					t.Errorf("%d bytes of %d, chunked %t: %d, want %d (%v)", tc.size, limit, chunked, resp.StatusCode, tc.want, report.Err)
				}
				if kept := store.all(); (len(kept) == 1) != (tc.want == 200) {
					t.Errorf("%d bytes of %d: kept %d", tc.size, limit, len(kept))
				}
			}
		}
	}
}

// countingBody counts what is read of it.
type countingBody struct {
	io.Reader
	read int
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read += n
	return n, err
}

func (b *countingBody) Close() error { return nil }

func TestBodyIsReadNoFurtherThanNeeded(t *testing.T) {
	t.Parallel()
	endless := func() *countingBody {
		return &countingBody{Reader: io.MultiReader(strings.NewReader(message), zeros{})}
	}
	for _, tc := range []struct {
		name    string
		request func(*http.Request)
		atMost  int
		status  int
	}{
		{"said to be too long", func(r *http.Request) { r.ContentLength = 1<<20 + 1 }, 0, 413},
		{"chunked without end", func(r *http.Request) { r.ContentLength = -1 }, 1<<20 + 1, 413},
		{"an unknown path", func(r *http.Request) { r.URL.Path = "/" }, 0, 404},
		{"a wrong method", func(r *http.Request) { r.Method = "PUT" }, 0, 405},
		{"a wrong type", func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }, 0, 415},
		{"compressed", func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 0, 415},
	} {
		req, body := post(""), endless()
		req.Body = body
		tc.request(req)
		resp, _ := serve(t, settings(), &fakeStore{}, req)
		if resp.StatusCode != tc.status || body.read > tc.atMost {
			t.Errorf("%s: %d after %d bytes, want %d after at most %d", tc.name, resp.StatusCode, body.read, tc.status, tc.atMost)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestBodyThatBreaksOff checks that half a body is a refusal, however it ends.
func TestBodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		length int64
		err    error
	}{
		{"shorter than said", int64(len(message)) + 1, io.EOF},
		{"shorter than said, and long", trustedLength + 1, io.ErrUnexpectedEOF},
		{"cut", -1, io.ErrUnexpectedEOF},
		{"too slow", -1, errors.New("i/o timeout")},
		{"too slow, with a length", 5000, errors.New("i/o timeout")},
	} {
		store, req := &fakeStore{}, post("")
		req.Body = io.NopCloser(io.MultiReader(strings.NewReader(message), failing{tc.err}))
		req.ContentLength = tc.length
		resp, report := serve(t, settings(), store, req)
		if resp.StatusCode != http.StatusBadRequest || report.Reason != Unreadable || report.Err == nil || len(store.all()) != 0 || resp.Header.Get("Connection") != "close" {
			t.Errorf("%s: %d %q %v, kept %d", tc.name, resp.StatusCode, report.Reason, report.Err, len(store.all()))
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestTokens(t *testing.T) {
	t.Parallel()
	body := func(token string) string { return strings.Replace(message, "not-a-real-token", token, 1) }
	for _, tc := range []struct {
		name   string
		tokens []string
		given  string
		want   int
	}{
		{"the first of two", []string{"new-token", "old-token"}, "new-token", 200},
		{"the second of two", []string{"new-token", "old-token"}, "old-token", 200},
		{"neither of two", []string{"new-token", "old-token"}, "other-token", 401},
		{"both of two", []string{"new-token", "old-token"}, "new-tokenold-token", 401},
		{"in another case", []string{"new-token"}, "NEW-TOKEN", 401},
		{"with a space", []string{"new-token"}, "new-token ", 401},
		{"one twice", []string{"new-token", "new-token"}, "new-token", 200},
		{"by escapes", []string{"new-token"}, `\u006eew-token`, 200},
		{"with what JSON escapes", []string{"a\"b\\c\nd"}, `a\"b\\c\nd`, 200},
		{"beyond ASCII", []string{"schlüssel"}, `schlüssel`, 200},
		{"no token known", nil, "new-token", 401},
		{"no token known, none given", nil, "", 401},
		{"an empty token known, none given", []string{""}, "", 401},
		{"an empty token known beside another", []string{"new-token", ""}, "", 401},
	} {
		s := settings()
		s.Tokens = nil
		for _, token := range tc.tokens {
			s.Tokens = append(s.Tokens, []byte(token))
		}
		store := &fakeStore{}
		resp, _ := serve(t, s, store, post(body(tc.given)))
		if resp.StatusCode != tc.want || (len(store.all()) == 1) != (tc.want == 200) {
			t.Errorf("%s: %d, want %d; kept %d", tc.name, resp.StatusCode, tc.want, len(store.all()))
		}
	}
}

// TestUse replaces the settings while a request is in flight: that one finishes with the old ones, the next uses the new.
func TestUse(t *testing.T) {
	t.Parallel()
	arrived, goOn := make(chan struct{}), make(chan struct{})
	store := &fakeStore{during: func(context.Context) {
		arrived <- struct{}{}
		<-goOn
	}}
	seen := make(reports, 10)
	h := NewHandler(store, seen, settings())
	under, done := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(under, post(message))
	}()
	<-arrived
	changed := settings()
	changed.Tokens, changed.Paths, changed.Targets = [][]byte{[]byte("new-token")}, []string{"/new"}, []Target{{Name: "other"}}
	h.Use(changed)
	close(goOn)
	<-done
	if report := <-seen; under.Code != 200 || report.Result != Stored || !cmp.Equal(report.Targets, []string{"crm"}) {
		t.Errorf("the request under way: %d %+v", under.Code, report)
	}
	store.during = nil
	for _, tc := range []struct {
		path, body string
		want       int
	}{
		{path, closed, 404}, {"/new", closed, 401}, {"/new", strings.Replace(closed, token, "new-token", 1), 200},
	} {
		req, w := post(tc.body), httptest.NewRecorder()
		req.URL.Path = tc.path
		h.ServeHTTP(w, req)
		if w.Code != tc.want {
			t.Errorf("%s: %d, want %d", tc.path, w.Code, tc.want)
		}
	}
	if got := store.all(); len(got) != 2 || !cmp.Equal(got[1].Targets, []string{"other"}) {
		t.Errorf("kept %+v", got)
	}
}

// A reload changes only the settings: clients that guessed tokens stay limited, and a draining receiver keeps draining.
func TestAReloadKeepsTheHandlersState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const proxy, guesser = "10.0.0.9:4711", "203.0.113.7"
		w := newWorld(t, "10.0.0.0/8")
		w.wantStatuses(proxy, guesser, wrong, tenRefusals...)
		w.h.Drain()
		s := settings()
		s.TrustedProxies = proxies
		w.h.Use(s)
		if !w.isRefusedUnread(proxy, guesser) {
			t.Error("a client beyond its limit has its body read after a reload")
		}
		if resp := w.send(proxy, "", closed); resp.StatusCode != http.StatusOK || !slices.Equal(resp.Header["Connection"], closes) {
			t.Errorf("while draining, after a reload: %d with %v", resp.StatusCode, resp.Header)
		}
	})
}

// An event's age counts from its request, however slowly its body arrives.
func TestAnEventIsDatedByTheStartOfItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, began := &events{}, time.Now()
		req := post(closed)
		req.Body = io.NopCloser(io.MultiReader(late{}, strings.NewReader(closed)))
		_, report := serve(t, settings(), store, req)
		if len(store.all) != 1 || !store.all[0].AcceptedAt.Equal(began) || report.Took != time.Second {
			t.Errorf("after a second: stored %+v, took %s", store.all, report.Took)
		}
	})
}

// late is an empty part of a body that takes a second.
type late struct{}

func (late) Read([]byte) (int, error) {
	time.Sleep(time.Second)
	return 0, io.EOF
}

// TestUseConcurrently is for the race detector: settings change under a crowd of requests, each of which sees one of them whole.
func TestUseConcurrently(t *testing.T) {
	t.Parallel()
	a, b := settings(), settings()
	a.Tokens, a.Targets = [][]byte{[]byte("token-a")}, []Target{{Name: "a"}}
	b.Tokens, b.Targets = [][]byte{[]byte("token-b")}, []Target{{Name: "b"}}
	seen := make(reports, 10_000)
	h := NewHandler(&fakeStore{}, seen, a)
	var crowd sync.WaitGroup
	for i := range 8 {
		crowd.Go(func() {
			for n := range 200 {
				own := fmt.Sprintf("token-%c", 'a'+rune(n%2))
				body := strings.Replace(message, token, own, 1)
				h.ServeHTTP(httptest.NewRecorder(), post(strings.Replace(body, `"id":7`, fmt.Sprintf(`"own":%q,"id":%d`, own, i*1000+n), 1)))
			}
		})
	}
	for n := range 500 {
		if n%2 == 0 {
			h.Use(b)
		} else {
			h.Use(a)
		}
	}
	crowd.Wait()
	for _, k := range h.store.(*fakeStore).all() {
		if len(k.Targets) != 1 || !strings.Contains(k.Body, `"own":"token-`+k.Targets[0]+`"`) {
			t.Fatalf("one request went by two settings: %+v", k)
		}
	}
}

// A bug in the receiver is answered and counted like any other result, and exposes nothing of the event.
func TestAPanicIsARefusal(t *testing.T) {
	t.Parallel()
	store := &fakeStore{during: func(context.Context) { panic("canary-of-the-text") }}
	resp, report := serve(t, settings(), store, post(message))
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusInternalServerError || report.Result != Refused || report.Reason != Internal {
		t.Errorf("%d, %+v; want a refusal with 500", resp.StatusCode, report)
	}
	if told := fmt.Sprintf("%s %+v", text, report); strings.Contains(told, "canary") || !strings.Contains(told, "ingest_test.go:") {
		t.Errorf("told %s; want the place and nothing else", told)
	}
}

// TestSenderHangsUp checks that a received event is stored although the sender has disconnected.
func TestSenderHangsUp(t *testing.T) {
	t.Parallel()
	gone, arrived := make(chan struct{}), make(chan struct{})
	store := &fakeStore{during: func(ctx context.Context) {
		close(arrived)
		<-gone
		if err := ctx.Err(); err != nil {
			t.Errorf("the store is told to give up: %v", err)
		}
		if _, ok := ctx.Deadline(); ok {
			t.Error("the sender's deadline reaches the store")
		}
	}}
	seen := make(reports, 1)
	handler := NewHandler(store, seen, settings())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		go func() {
			<-r.Context().Done() // the server has noticed
			close(gone)
		}()
		handler.ServeHTTP(w, r)
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(message), message)
	<-arrived
	conn.Close()
	if report := <-seen; report.Result != Stored || len(store.all()) != 1 {
		t.Errorf("report %+v, kept %d", report, len(store.all()))
	}
}

// TestOverTheWire covers behaviour that only a real connection shows.
func TestOverTheWire(t *testing.T) {
	t.Parallel()
	head := func(more string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + more + "\r\n"
	}
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for _, tc := range []struct {
		name, send string
		hangUp     bool // after sending; the connection is half closed
		want       int  // 0: no answer is needed
		closes     bool
		reason     Reason
	}{
		{"a length", head(fmt.Sprintf("Content-Length: %d\r\n", len(message))) + message, false, 200, false, ""},
		{"chunks", head("Transfer-Encoding: chunked\r\n") + chunk(message[:10]) + chunk(message[10:]) + "0\r\n\r\n", false, 200, false, ""},
		{"chunks of one byte", head("Transfer-Encoding: chunked\r\n") + func() (s string) {
			for _, c := range message {
				s += chunk(string(c))
			}
			return s
		}() + "0\r\n\r\n", false, 200, false, ""},
		{"chunks above the limit", head("Transfer-Encoding: chunked\r\n") + chunk(sized(3000)), false, 413, true, TooLarge},
		{"a length above the limit, asking first", head("Expect: 100-continue\r\nContent-Length: 3000\r\n"), false, 413, true, TooLarge},
		{"half a body", head(fmt.Sprintf("Content-Length: %d\r\n", len(message))) + message[:20], true, 400, true, Unreadable},
		{"half a chunk", head("Transfer-Encoding: chunked\r\n") + "ff\r\n" + message[:20], true, 400, true, Unreadable},
		{"no length", head(""), false, 400, true, Malformed},
		{"an escaped path", strings.Replace(head(fmt.Sprintf("Content-Length: %d\r\n", len(message)))+message, "/staging", "/%73taging", 1), false, 200, false, ""},
		{"a query", strings.Replace(head(fmt.Sprintf("Content-Length: %d\r\n", len(message)))+message, " HTTP/1.1", "?x=y HTTP/1.1", 1), false, 200, false, ""},
		{"a path with dots", strings.Replace(head("Content-Length: 0\r\n"), "/staging", "/x/../staging", 1), false, 404, true, UnknownPath},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			seen, store, s := make(reports, 2), &fakeStore{}, settings()
			s.MaxBodyBytes = 2000
			server := httptest.NewServer(NewHandler(store, seen, s))
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, tc.send); err != nil {
				t.Fatal(err)
			}
			if tc.hangUp {
				_ = conn.(*net.TCPConn).CloseWrite()
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			report := <-seen
			if resp.StatusCode != tc.want || report.Reason != tc.reason || resp.Close != tc.closes {
				t.Errorf("%d %q, closes %t; want %d %q, %t", resp.StatusCode, report.Reason, resp.Close, tc.want, tc.reason, tc.closes)
			}
			if (len(store.all()) == 1) != (tc.want == 200) {
				t.Errorf("kept %d", len(store.all()))
			}
		})
	}
}

// FuzzAnswers sends arbitrary requests. Every answer is one of a few sentences, and quotes nothing; the observer's
// Report holds neither the token nor the text.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{message, closed, optOut, unknown, "", "{", message + "x", strings.Replace(message, token, "other", 1)} {
		f.Add([]byte(seed), "application/json", "POST", uint8(0))
		f.Add([]byte(seed), "application/json", "POST", uint8(1))
		f.Add([]byte(seed), "text/html; x=<script>", "TRACE", uint8(2))
	}
	known := map[string]bool{"": true}
	for _, m := range []event.Malformed{
		event.NotJSON, event.NoType, event.NoEventData, event.BadID, event.AmbiguousName, event.AmbiguousMembers, event.AmbiguousEventData,
	} {
		known[string(m)+"\n"] = true
	}
	for reason, sentence := range sentences {
		if reason != Malformed {
			known[sentence(Report{})+"\n"] = true
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType, method string, mode uint8) {
		const canary = "canary-of-the-text"
		body = bytes.ReplaceAll(body, []byte("hello"), []byte(canary))
		store := &fakeStore{}
		if mode&1 != 0 {
			store.err = errors.New("away")
		}
		req := post(string(body))
		req.Header.Set("Content-Type", contentType)
		req.Method = method
		if mode&2 != 0 {
			req.URL.Path = string(body)
		}
		resp, report := serve(t, settings(), store, req)
		text, _ := io.ReadAll(resp.Body)
		if !known[string(text)] {
			t.Fatalf("answer %q", text)
		}
		for name, values := range resp.Header {
			for _, v := range values {
				if strings.Contains(v, canary) || strings.Contains(v, token) {
					t.Fatalf("%s: %s", name, v)
				}
			}
		}
		stored := len(store.all()) == 1
		if (resp.StatusCode == http.StatusOK) != (report.Result != Refused) || stored != (report.Result == Stored) {
			t.Fatalf("answer %d, report %+v, kept %d", resp.StatusCode, report, len(store.all()))
		}
		if told := fmt.Sprintf("%+v", report); strings.Contains(told, canary) || strings.Contains(told, token) {
			t.Fatalf("the observer is told %s", told)
		}
		if stored && strings.Contains(store.all()[0].Body, `"token":"`+token) {
			// Only a token within event_data, which is not the verification token, may stay.
			d, err := event.Decode([]byte(store.all()[0].Body))
			if err != nil || d.Token != nil {
				t.Fatalf("the token is stored: %s", store.all()[0].Body)
			}
		}
	})
}

// nothing is a ResponseWriter that costs nothing.
type nothing struct{ header http.Header }

func (n nothing) Header() http.Header       { return n.header }
func (nothing) Write(p []byte) (int, error) { return len(p), nil }
func (nothing) WriteHeader(int)             {}

type accepting struct{}

func (accepting) Append(_ context.Context, _ event.Identity, e event.Event, _ []string) (event.Judgement, string, error) {
	return event.New, e.ID, nil
}

type deaf struct{}

func (deaf) Answered(Report) {}

// hotPath returns one run of the handler on a good event, without what net/http and the store cost.
func hotPath() func() {
	h := NewHandler(accepting{}, deaf{}, settings())
	req, w := post(message), nothing{http.Header{}}
	body := bytes.NewReader(nil)
	req.Body = io.NopCloser(body)
	raw := []byte(message)
	return func() {
		body.Reset(raw)
		h.ServeHTTP(w, req)
	}
}

func TestHotPathAllocations(t *testing.T) {
	run := hotPath()
	least := 1000.0
	for range 50 { // the race detector makes pools forget: the least counts
		least = min(least, testing.AllocsPerRun(1, run))
	}
	t.Logf("%.0f allocations", least)
	if least > 8 {
		t.Errorf("one event takes %.0f allocations, want at most 8", least)
	}
}

func BenchmarkHotPath(b *testing.B) {
	run := hotPath()
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}

// A sender with the right token gets the result of its event if it asks for it; no other answer changes.
func TestPreferResult(t *testing.T) {
	t.Parallel()
	store := &fakeStore{}
	s := settings()
	s.EventTypes = []string{"message_recieved"}
	for _, tc := range []struct {
		name, body, prefer string
		status             int
		want               string
	}{
		{"new", message, PreferResult, 200, `^\{"result":"stored","event":"evt_[a-z2-7]{26}"\}\n$`},
		{"a repeat", message, PreferResult, 200, `^\{"result":"duplicate","event":"evt_[a-z2-7]{26}"\}\n$`},
		{"a type that is not accepted", closed, PreferResult, 200, `^\{"result":"ignored","event":""\}\n$`},
		{"not asked for", message, "", 200, `^$`},
		{"another preference", message, "respond-async", 200, `^$`},
		{"a wrong token", strings.Replace(message, token, "another", 1), PreferResult, 401, `token`},
	} {
		req := post(tc.body)
		if tc.prefer != "" {
			req.Header.Set("Prefer", tc.prefer)
		}
		answer, _ := serve(t, s, store, req)
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != tc.status || !regexp.MustCompile(tc.want).Match(text) || strings.Contains(string(text), `"result"`) != (answer.Header.Get("Preference-Applied") == PreferResult) {
			t.Errorf("%s: %d %q, %v", tc.name, answer.StatusCode, text, err)
		}
	}
}

// events remembers whole events.
type events struct{ all []event.Event }

func (s *events) Append(_ context.Context, _ event.Identity, e event.Event, _ []string) (event.Judgement, string, error) {
	s.all = append(s.all, e)
	return event.New, e.ID, nil
}

// A conversation is stored with an event only if one of its targets is ordered: finding it requires parsing the body again.
func TestTheConversationIsStoredWhereATargetWantsOrder(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		targets []Target
		body    string
		want    string
	}{
		"no target does":              {[]Target{{Name: "crm"}}, closed, ""},
		"a target does":               {[]Target{{Name: "crm"}, {Name: "chats", Ordered: true}}, closed, "7"},
		"the first does":              {[]Target{{Name: "chats", Ordered: true}, {Name: "crm"}}, closed, "7"},
		"one that gets other events":  {[]Target{{Name: "crm"}, {Name: "chats", EventTypes: []string{"chat_opened"}, Ordered: true}}, closed, ""},
		"an event of no conversation": {[]Target{{Name: "chats", Ordered: true}}, optOut, ""},
	} {
		s, store := settings(), &events{}
		s.Targets = tc.targets
		if resp, report := serve(t, s, store, post(tc.body)); resp.StatusCode != http.StatusOK || len(store.all) != 1 || store.all[0].Conversation != tc.want {
			t.Errorf("%s: %d %+v, stored %+v; want conversation %q", name, resp.StatusCode, report, store.all, tc.want)
		}
	}
}

// An answer during draining closes its connection, so that the sender's next request goes to another receiver; the event is
// stored.
func TestAnAnswerWhileDrainingEndsTheConnection(t *testing.T) {
	t.Parallel()
	for _, draining := range []bool{false, true} {
		store := &fakeStore{}
		h := NewHandler(store, make(reports, 1), settings())
		if draining {
			store.during = func(context.Context) { h.Drain() } // the request has begun before
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, post(message))
		if ends := w.Header().Get("Connection") == "close"; w.Code != http.StatusOK || ends != draining || len(store.all()) != 1 {
			t.Errorf("draining %t: %d, Connection %q, %d stored", draining, w.Code, w.Header().Get("Connection"), len(store.all()))
		}
	}
}
