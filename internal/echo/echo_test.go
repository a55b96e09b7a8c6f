package echo

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func call(t *testing.T, server *httptest.Server, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Webhook-Id", "evt_1")
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func received(t *testing.T, server *httptest.Server, query string) []Record {
	t.Helper()
	_, text := call(t, server, http.MethodGet, "/received"+query, "")
	var records []Record
	if err := json.Unmarshal([]byte(text), &records); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return records
}

func TestRecordsWhatItReceives(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&Target{})
	t.Cleanup(server.Close)
	if records := received(t, server, ""); records == nil || len(records) != 0 {
		t.Errorf("before anything came: %v, want an empty list", records)
	}
	const body = `{"type":"message_sent","big":9007199254740993}`
	if status, _ := call(t, server, http.MethodPost, "/heymarket?x=1", body); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	call(t, server, http.MethodPut, "/other", "")
	records := received(t, server, "")
	if len(records) != 2 {
		t.Fatalf("%d records, want 2", len(records))
	}
	got := records[0]
	if got.Seq != 1 || got.Method != http.MethodPost || got.Path != "/heymarket?x=1" || got.Body != body || got.Status != 200 || got.Headers["Webhook-Id"] != "evt_1" {
		t.Errorf("recorded %+v", got)
	}
	if rest := received(t, server, "?after=1"); len(rest) != 1 || rest[0].Path != "/other" {
		t.Errorf("after the first: %+v", rest)
	}
	if status, _ := call(t, server, http.MethodGet, "/received?after=x", ""); status != http.StatusBadRequest {
		t.Errorf("after=x: status %d", status)
	}
}

func TestAnswersByItsProgram(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&Target{})
	t.Cleanup(server.Close)
	if status, text := call(t, server, http.MethodPost, "/program", `[{"status":503,"times":2,"delay":"1ms","headers":{"Retry-After":"1"}},{"status":410}]`); status != http.StatusNoContent {
		t.Fatalf("program: %d %s", status, text)
	}
	var statuses []int
	for range 4 {
		status, _ := call(t, server, http.MethodPost, "/", "")
		statuses = append(statuses, status)
	}
	if diff := cmp.Diff([]int{503, 503, 410, 200}, statuses); diff != "" {
		t.Error(diff)
	}
	if last := received(t, server, "?after=2"); len(last) != 2 || last[0].Status != 410 {
		t.Errorf("recorded %+v", last)
	}
	call(t, server, http.MethodPost, "/program", `[{"status":500}]`)
	call(t, server, http.MethodDelete, "/received", "")
	if status, _ := call(t, server, http.MethodPost, "/", ""); status != http.StatusOK {
		t.Errorf("after DELETE: status %d, want 200", status)
	}
	if records := received(t, server, ""); len(records) != 1 || records[0].Seq != 5 {
		t.Errorf("after DELETE: %+v, want one record that goes on counting", records)
	}
}

func TestRefusesAProgramThatMakesNoSense(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&Target{})
	t.Cleanup(server.Close)
	for _, program := range []string{`{`, `[{"status":99}]`, `[{"status":200,"delay":"soon"}]`, `[{"status":200,"dealy":"1s"}]`} {
		if status, _ := call(t, server, http.MethodPost, "/program", program); status != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400", program, status)
		}
	}
}
