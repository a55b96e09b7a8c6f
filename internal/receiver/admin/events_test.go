package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/recent"
)

// eventID has letters for digits, as IDs have no 0 and 1.
func eventID(i int) string {
	return "evt_" + strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprintf("%026d", i))
}

func store(r *recent.Ring, i int) {
	r.Answered(ingest.Report{Result: ingest.Stored, Status: 200, EventID: eventID(i), Type: "chat_closed", Targets: []string{"crm"}})
}

func deliver(r *recent.Ring, i, status int) {
	r.Finished(forward.Attempt{
		Target: "crm", Event: eventID(i), Type: "chat_closed", Number: 1, Outcome: delivery.Outcome{Status: status}, Settled: true,
	})
}

func events(r *recent.Ring) http.Handler {
	return admin.Handler(admin.Options{
		Recent: r, Names: func() []string { return []string{"crm"} },
		Targets: func() ([]contract.TargetStatus, error) { return nil, errors.New("redis did not confirm") },
	})
}

func ask(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, http.NoBody))
	return w
}

func TestEvents(t *testing.T) {
	t.Parallel()
	r := recent.New("pod-1")
	store(r, 1)
	deliver(r, 1, 200)
	store(r, 2)
	r.Answered(ingest.Report{Result: ingest.Refused, Reason: ingest.WrongToken, Status: 401})
	list := func(query string) (admin.Events, []string) {
		t.Helper()
		w := ask(t, events(r), "/v1/events"+query)
		var got admin.Events
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%q: %d %s", query, w.Code, w.Body)
		}
		var outcomes []string
		for _, e := range got.Events {
			outcomes = append(outcomes, string(e.Outcome))
		}
		return got, outcomes
	}
	all, _ := list("")
	for query, want := range map[string][]string{
		"":                              {"refused", "stored", "delivered", "stored"},
		"?limit=2":                      {"refused", "stored"},
		"?outcome=stored":               {"stored", "stored"},
		"?type=chat_closed":             {"stored", "delivered", "stored"},
		"?target=crm":                   {"stored", "delivered", "stored"},
		"?event=" + all.Events[2].Event: {"delivered", "stored"},
		fmt.Sprintf("?since=%d", all.Events[2].Sequence):      {"refused", "stored"},
		fmt.Sprintf("?since=%d&limit=1", all.Sequence-1):      {"refused"},
		fmt.Sprintf("?since=%d&outcome=stored", all.Sequence): nil,
	} {
		if _, got := list(query); !cmp.Equal(want, got) {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{
		"?outcome=lost", "?outcome=", "?target=cmr", "?type=*", "?event=1", "?since=-1", "?since=x", "?limit=0", "?limit=3701", "?all=true", "?status=200", "?type=chat_closed&type=chat_opened",
	} {
		for _, path := range []string{"/v1/events", "/v1/events/stream"} {
			if w := ask(t, events(r), path+query); w.Code != http.StatusBadRequest {
				t.Errorf("%s%s: %d %s", path, query, w.Code, w.Body)
			}
		}
	}
	w := ask(t, events(r), "/v1/stats")
	for _, want := range []string{`"stored":2`, `"token":1`, `"name":"crm","delivered":1`, `"error":"redis did not confirm"`, `"receiver":"pod-1"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the figures lack %s: %s", want, w.Body)
		}
	}
}

// pipes is a listener whose connections are in memory, so that deadlines go by the clock of synctest.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error { return nil }
func (pipes) Addr() net.Addr { return &net.UnixAddr{} }

// serving serves h on pipes.
func serving(t *testing.T, h http.Handler) pipes {
	t.Helper()
	p := make(pipes)
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(p) }()
	t.Cleanup(func() {
		close(p)
		_ = server.Close()
		synctest.Wait()
	})
	return p
}

// open begins a request for a stream.
func (p pipes) open(t *testing.T, query string, header ...string) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	p <- server
	t.Cleanup(func() { _ = client.Close() })
	fmt.Fprintf(client, "GET /v1/events/stream%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", query, strings.Join(append(header, ""), "\r\n"))
	return client
}

// frames reads a stream until it has sent n frames.
func frames(t *testing.T, c io.Reader, n int) (got []string) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" || response.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%v, %+v", err, response)
	}
	lines, frame := bufio.NewScanner(response.Body), ""
	for len(got) < n && lines.Scan() {
		if lines.Text() != "" {
			frame += lines.Text() + "\n"
			continue
		}
		got, frame = append(got, frame), ""
	}
	return got
}

func TestStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := recent.New("pod-1")
		store(r, 1)
		p := serving(t, events(r))
		before := r.Latest(0, recent.Filter{}, 1)
		live, resumed, filtered, gone := p.open(t, ""), p.open(t, "", fmt.Sprintf("Last-Event-ID: %d", before.Next-1)), p.open(t, "?outcome=delivered"), p.open(t, "?since=7")
		go func() {
			time.Sleep(admin.KeepAlive + time.Second)
			deliver(r, 1, 200)
		}()
		is := func(what string, frame string, has ...string) {
			t.Helper()
			for _, text := range has {
				if !strings.Contains(frame, text) {
					t.Errorf("%s: %q lacks %q", what, frame, text)
				}
			}
		}
		first, second := fmt.Sprintf("id: %d\n", before.Next), fmt.Sprintf("id: %d\n", before.Next+1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			got := frames(t, resumed, 4)
			is("the one that was missed", got[1], first, `"outcome":"stored"`)
			is("silence", got[2], ": keep-alive")
			is("the next", got[3], second, `"outcome":"delivered"`)
		}()
		go func() { _ = frames(t, filtered, 3) }()
		go func() {
			got := frames(t, gone, 3)
			is("a gap", got[1], "event: gap\n", `data: {"after":7}`)
			is("what is left", got[2], first)
		}()
		got := frames(t, live, 3)
		is("silence", got[1], ": keep-alive")
		is("the next", got[2], second, `data: {"sequence":`, `"outcome":"delivered"`, `"status":200`)
		<-done
		synctest.Wait()
	})
}

// A client that does not read is disconnected. It delays neither the receiver nor another client.
func TestASlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := recent.New("pod-1")
		p := serving(t, events(r))
		slow, quick := p.open(t, ""), p.open(t, "")
		synctest.Wait()
		for i := range 5000 {
			store(r, i)
		}
		if got := frames(t, quick, 100); len(got) != 100 {
			t.Errorf("the other client got %d frames", len(got))
		}
		time.Sleep(time.Minute)
		text, err := io.ReadAll(slow) // what was on its way, and the end
		if err != nil || len(text) > 64<<10 {
			t.Errorf("a client that was silent for a minute got %d bytes, %v; want it to be cut off", len(text), err)
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := events(recent.New("pod-1"))
		ctx, cancel := context.WithCancel(t.Context())
		status := make(chan int, 100)
		for range 20 {
			go func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/events/stream", http.NoBody))
				status <- w.Code
			}()
		}
		synctest.Wait()
		if len(status) != 4 || <-status != http.StatusTooManyRequests {
			t.Errorf("%d of 20 streams were rejected, want 4", len(status))
		}
		if w := ask(t, h, "/v1/events"); w.Code != http.StatusOK {
			t.Errorf("beside the streams: %d", w.Code)
		}
		cancel()
		synctest.Wait()
		again, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(again, http.MethodGet, "http://localhost/v1/events/stream", http.NoBody))
		if w.Code != http.StatusOK {
			t.Errorf("after the others have ended: %d %s", w.Code, w.Body)
		}
	})
}
