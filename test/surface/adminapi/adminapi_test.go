// Package adminapi holds the description of the receivers' administrative API against the handlers, and against what a receiver
// answers.
package adminapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/schema_validation"

	"heymarket.dev/operator/internal/dev"
	"heymarket.dev/operator/internal/fixture"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/recent"
)

// document is the description, read as JSON.
func document(t *testing.T) map[string]any {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal(admin.OpenAPI(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheDocumentIsOpenAPI(t *testing.T) {
	t.Parallel()
	d, err := libopenapi.NewDocument(admin.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	if valid, problems := schema_validation.ValidateOpenAPIDocument(d); !valid {
		t.Errorf("the document is not OpenAPI 3.1: %v", problems)
	}
	published, err := os.ReadFile("../../../docs/reference/openapi.json")
	if err != nil || !bytes.Equal(published, admin.OpenAPI()) {
		t.Errorf("docs/reference/openapi.json is not what receivers serve (%v): run make generate", err)
	}
}

func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	var described []string
	for path, operations := range document(t)["paths"].(map[string]any) {
		for method := range operations.(map[string]any) {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	served := admin.Routes()
	slices.Sort(described)
	slices.Sort(served)
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("routes (-served +described):\n%s", diff)
	}
}

func TestEveryOutcomeIsDescribed(t *testing.T) {
	t.Parallel()
	record := document(t)["components"].(map[string]any)["schemas"].(map[string]any)["Record"].(map[string]any)
	var described []recent.Outcome
	for _, o := range record["properties"].(map[string]any)["outcome"].(map[string]any)["enum"].([]any) {
		described = append(described, recent.Outcome(o.(string)))
	}
	if diff := cmp.Diff(recent.Outcomes(), described); diff != "" {
		t.Errorf("outcomes (-code +document):\n%s", diff)
	}
}

// close makes every object of the document one that has no members but those that are described.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, is := v["properties"]; is && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, member := range v {
			closeObjects(member)
		}
	case []any:
		for _, member := range v {
			closeObjects(member)
		}
	}
}

// A receiver that has delivered, retried and given up answers every route exactly as described.
func TestEveryAnswerIsAsDescribed(t *testing.T) {
	t.Parallel()
	d := document(t)
	closeObjects(d)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	check, problems := validator.NewValidator(parsed)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r := play(t)
	seen := map[string]bool{}
	send := func(status int, method, path, sent string, header ...string) []byte {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Admin+path, strings.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != status {
			t.Fatalf("%s %s: %d %s, %v", method, path, response.StatusCode, body, err)
		}
		// The description is of localhost:8082. An answer of lines is checked line by line.
		request.URL.Host, request.Host = "localhost:8082", "localhost:8082"
		parts := [][]byte{body}
		if response.Header.Get("Content-Type") == "application/jsonl" {
			parts = bytes.Split(bytes.TrimSpace(body), []byte("\n"))
		}
		for _, part := range parts {
			request.Body, response.Body = io.NopCloser(strings.NewReader(sent)), io.NopCloser(bytes.NewReader(part))
			if status < 400 {
				if valid, problems := check.ValidateHttpRequest(request); !valid {
					t.Errorf("%s %s: %v", method, path, problems)
				}
			}
			if valid, problems := check.ValidateHttpResponse(request, response); !valid {
				for _, p := range problems {
					t.Errorf("%s %s: %s: %s %v", method, path, p.Message, p.Reason, p.SchemaValidationErrors)
				}
				t.Logf("%s", part)
			}
		}
		for _, route := range admin.Routes() {
			if like(route, method+" "+strings.Split(path, "?")[0]) {
				seen[route] = seen[route] || status == http.StatusOK
			}
		}
		return body
	}
	do := func(status int, method, path string, header ...string) []byte {
		t.Helper()
		return send(status, method, path, "", header...)
	}
	const letters = "/v1/targets/crm/dead-letters"
	do(200, "GET", "/v1/openapi.json")
	do(200, "GET", "/v1/targets")
	do(200, "GET", "/v1/stats")
	var listed admin.Events
	if err := json.Unmarshal(do(200, "GET", "/v1/events?limit=3700"), &listed); err != nil {
		t.Fatal(err)
	}
	outcomes := map[recent.Outcome]bool{}
	for _, e := range listed.Events {
		outcomes[e.Outcome] = true
	}
	for _, want := range []recent.Outcome{recent.Stored, recent.Duplicate, recent.Refused, recent.Delivered, recent.Retry, recent.DeadLetter} {
		if !outcomes[want] {
			t.Errorf("no record has the outcome %s", want)
		}
	}
	do(200, "GET", "/v1/events?since=1&type=chat_closed&target=crm&outcome=dead_letter")
	do(400, "GET", "/v1/events?outcome=x")
	do(400, "GET", "/v1/events/stream?since=x")
	do(403, "POST", letters+"/replay?all=true", "Sec-Fetch-Site", "cross-site")
	do(200, "GET", letters+"/count")
	do(404, "GET", "/v1/targets/cmr/dead-letters/count")
	var dead []admin.Letter
	if err := json.Unmarshal(do(200, "GET", letters+"?status=422&limit=9"), &dead); err != nil || len(dead) < 4 {
		t.Fatalf("%d dead letters, %v", len(dead), err)
	}
	do(200, "GET", letters+"/"+dead[0].Entry)
	for _, e := range listed.Events {
		switch e.Outcome {
		case recent.DeadLetter, recent.Retry:
			do(200, "GET", "/v1/events/"+e.Event+"/content")
		case recent.Delivered:
			do(404, "GET", "/v1/events/"+e.Event+"/content")
		}
	}
	do(400, "GET", "/v1/events/evt_1/content")
	do(404, "GET", letters+"/1-0")
	do(400, "GET", letters+"/1")
	do(200, "DELETE", letters+"/"+dead[0].Entry)
	do(200, "POST", letters+"/"+dead[1].Entry+"/replay")
	one := letters + "/" + dead[2].Entry
	var letter admin.Letter
	if err := json.Unmarshal(do(200, "GET", one), &letter); err != nil {
		t.Fatal(err)
	}
	send(400, "POST", one+"/replay", `{}`, "Content-Type", "application/json")
	send(413, "POST", one+"/replay", strings.Repeat(" ", 1<<20+1), "Content-Type", "application/json")
	send(415, "POST", one+"/replay", string(letter.Body), "Content-Type", "text/plain")
	send(200, "POST", one+"/replay", string(letter.Body), "Content-Type", "application/json")
	do(200, "POST", letters+"/replay?limit=1")
	do(400, "POST", letters+"/replay")
	do(200, "DELETE", letters+"?all=true")
	stream(t, r, listed)
	seen["GET /v1/events/stream"] = true
	for _, route := range admin.Routes() {
		if !seen[route] {
			t.Errorf("no answer of %s was checked", route)
		}
	}
}

// like reports whether a path is one of a route. Of several that match, a mux takes the one without wildcards.
func like(route, path string) bool {
	parts, given := strings.Split(route, "/"), strings.Split(path, "/")
	if len(parts) != len(given) {
		return false
	}
	for i := range parts {
		wild := strings.HasPrefix(parts[i], "{") && !slices.Contains([]string{"count", "replay", "stream", "openapi.json"}, given[i])
		if parts[i] != given[i] && !wild {
			return false
		}
	}
	return true
}

// stream checks that the data of a stream are the records that were listed, which have been checked.
func stream(t *testing.T, r *dev.Running, listed admin.Events) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Admin+"/v1/events/stream", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	first := listed.Events[len(listed.Events)-1]
	request.Header.Set("Last-Event-ID", "1")
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%v, %v", response, err)
	}
	defer response.Body.Close()
	want, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4<<10)
	n, err := io.ReadAtLeast(response.Body, got, 200)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{": open\n\n", "event: gap\ndata: {\"after\":1}\n\n", "\ndata: " + string(want)[:100]} {
		if !strings.Contains(string(got[:n]), text) {
			t.Errorf("the stream lacks %q:\n%s", text, got[:n])
		}
	}
}

// play runs the quickstart with a target that takes one event, fails on one, and rejects four for good.
func play(t *testing.T) *dev.Running {
	t.Helper()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case fixture.Type(body) == "chat_opened":
		case fixture.Type(body) == "chat_pending":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}))
	t.Cleanup(target.Close)
	manifest, err := dev.ReadManifest(t.Context(), "../../../examples/quickstart", nil, "default", "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := dev.Start(t.Context(), dev.Options{Manifest: manifest, Forward: map[string]string{"": target.URL}, Log: slog.DiscardHandler})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	post := func(eventType, token string) {
		t.Helper()
		body, err := fixture.Fresh(eventType, time.Now())
		if err == nil {
			body, err = fixture.For(body, token, fixture.WebhookID)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			response, err := http.Post(r.URL, "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
		}
	}
	for _, eventType := range []string{"chat_opened", "chat_pending", "chat_closed", "chat_transferred", "message_sent", "incoming_call"} {
		post(eventType, r.Token)
	}
	post("chat_closed", "not-"+r.Token)
	for {
		response, err := http.Get("http://" + r.Admin + "/v1/events?limit=3700")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if bytes.Count(body, []byte(`"outcome":"dead_letter"`)) == 4 && bytes.Contains(body, []byte(`"outcome":"retry"`)) && bytes.Contains(body, []byte(`"outcome":"delivered"`)) {
			return r
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the events were not delivered")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
