// Package leakcheck looks for what must not leave a receiver: it gives one secrets, texts and numbers that occur nowhere else,
// leads events through every possible outcome, and then searches everything that the receiver has output.
package leakcheck

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/testenv"
	"heymarket.dev/operator/test/support/receiverprocess"
)

// What occurs nowhere else. The secrets must not get into Redis either; text and phone number have to, since events are
// kept there.
const (
	token         = "canary-token"
	previousToken = "canary-previous-token"
	wrongToken    = "canary-wrong-token"
	segment       = "canarysegmentcanarysegment"
	password      = "canary-redis-password"
	signingKey    = "canary-signing-key-of-32-bytes--"
	headerValue   = "canary-header-value"
	targetPath    = "canary-target-path"
	text          = "canary-text"
	phone         = "+15005550006"
	answer        = "canary-answer-of-a-target" // a dead letter keeps it, for a person to look at
)

var (
	secrets  = []string{token, previousToken, wrongToken, segment, password, signingKey, encodedKey, headerValue, targetPath}
	contents = []string{text, phone, answer}

	encodedKey = base64.StdEncoding.EncodeToString([]byte(signingKey))
)

const path = "/staging/support/" + segment

func event(id int) string {
	return fmt.Sprintf(`{"type":"message_recieved","id":41,"token":%q,"event_data":{"id":%d,"text":%q,"phone":%q}}`, token, id, text, phone)
}

func TestNothingSecretLeavesAReceiver(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: the canary's way takes ten seconds; run without -short")
	}
	// Nothing is compressed in the answers of DUMP, so that it can be searched.
	redis := redistest.Start(t, "--rdbcompression", "no")
	redis.MustDo("ACL", "SETUSER", "staging", "on", ">"+password, "~*", "&*", "+@all")
	monitor := watch(t, redis)
	spans := collect(t)
	r := newReceiver(t, redis, spans.URL)

	r.start()
	everyAnswer(t, r)
	everyOutcome(t, r)
	everyFailureOfRedis(t, r, redis)
	rotate(t, r)
	_, metrics := r.Get("/metrics")
	_, status := r.Get("/status")
	arguments, environment := r.proc("cmdline"), r.proc("environ")
	r.End(syscall.SIGTERM)

	// A crash in the middle of an attempt: what Go prints of it goes to the log as well.
	r.start()
	r.post(path, "application/json", event(99))
	<-r.hanging
	r.End(syscall.SIGQUIT)

	for _, told := range []struct{ where, what, knows string }{
		{"the log", r.log.String(), `"target":"refuses"`}, // and it is the right one: this stands in it
		{"the log after a crash", r.log.String(), "goroutine"},
		{"/metrics", metrics, `target="refuses"`},
		{"/status", status, `"refuses"`},
		{"the traces", spans.String(), "refuses"},
		{"the arguments", arguments, "--config"},
		{"the environment", environment, "OTEL_EXPORTER"},
	} {
		if !strings.Contains(told.what, told.knows) {
			t.Errorf("%s: %q is missing: is this all of it?", told.where, told.knows)
		}
		for _, canary := range append(secrets, contents...) {
			if before, after, found := strings.Cut(told.what, canary); found {
				t.Errorf("%s: %q, after …%s and before %s…", told.where, canary, tail(before), head(after))
			}
		}
	}
	for where, held := range map[string]string{
		"keys and values of Redis": everything(redis), "what Redis was asked": monitor.String(), "the file of Redis": file(t, redis),
	} {
		if !strings.Contains(held, text) || !strings.Contains(held, phone) {
			t.Errorf("%s: the events are missing: is this all of it?", where)
		}
		for _, canary := range secrets {
			if before, _, found := strings.Cut(held, canary); found {
				t.Errorf("%s: %q, after …%s", where, canary, tail(before))
			}
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-100):] }
func head(s string) string { return s[:min(100, len(s))] }

// everyAnswer brings about each line of the table of answers that does not need Redis to fail.
func everyAnswer(t *testing.T, r *receiver) {
	t.Helper()
	const json = "application/json"
	for _, tc := range []struct {
		name, path, contentType, body string
		want                          int
	}{
		{"stored", path, json, event(1), 200},
		{"a duplicate", path, json, event(1), 200},
		{"with the previous token", path, json, strings.Replace(event(2), token, previousToken, 1), 200},
		{"ignored", path, json, strings.Replace(event(3), "message_recieved", "chat_opened", 1), 200},
		{"no JSON", path, json, event(3) + text, 400},
		{"a second token", path, json, strings.Replace(event(3), `"type"`, `"Token":"`+token+`","type"`, 1), 400},
		{"an id that is none", path, json, strings.Replace(event(3), `"id":41`, `"id":"`+text+`"`, 1), 400},
		{"invalid UTF-8", path, json, strings.Replace(event(3), text, text+"\xff", 1), 400},
		{"a wrong token", path, json, strings.Replace(event(3), token, wrongToken, 1), 401},
		{"another webhook", path, json, strings.Replace(event(3), `"id":41`, `"id":42`, 1), 403},
		{"an unknown path", "/" + text + "?token=" + token, json, event(3), 404},
		{"too large", path, json, event(3) + strings.Repeat(" ", 5000), 413},
		{"of another type", path, "text/" + text, event(3), 415},
		{"a filter that fails", path, json, strings.Replace(event(4), `"text"`, `"odd":"`+text+`","text"`, 1), 200},
	} {
		if got := r.post(tc.path, tc.contentType, tc.body); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

// everyOutcome waits until each of the targets has failed in its way.
func everyOutcome(t *testing.T, r *receiver) {
	t.Helper()
	<-r.hanging // an attempt is in flight, and will time out
	for _, line := range []string{
		`heymarket_receiver_events_delivered_total{namespace="staging",target="takes",webhook="support"} 3`,
		`heymarket_receiver_events_dead_total{namespace="staging",target="refuses",webhook="support"} 3`,
		`heymarket_receiver_events_dead_total{namespace="staging",target="redirects",webhook="support"} 3`,
		`heymarket_receiver_events_dead_total{namespace="staging",target="away",webhook="support"} 3`,
		`heymarket_receiver_events_dead_total{namespace="staging",target="hangs",webhook="support"} 3`,
		`heymarket_receiver_events_dead_total{namespace="staging",target="filters",webhook="support"} 1`,
	} {
		eventually(t, line, func() bool { _, metrics := r.Get("/metrics"); return strings.Contains(metrics, line+"\n") })
	}
}

func everyFailureOfRedis(t *testing.T, r *receiver, redis *redistest.Server) {
	t.Helper()
	want := func(what string, status int) {
		t.Helper()
		eventually(t, what, func() bool { return r.post(path, "application/json", event(50)) == status })
	}
	redis.MustDo("CONFIG", "SET", "maxmemory", "1")
	want("503 as memory is full", 503)
	redis.MustDo("CONFIG", "SET", "maxmemory", "0")
	redis.MustDo("ACL", "SETUSER", "staging", "-evalsha", "-eval")
	want("503 as the user lost a right", 503)
	redis.MustDo("ACL", "SETUSER", "staging", "+@all", "resetpass", ">other")
	redis.MustDo("CLIENT", "KILL", "USER", "staging")
	want("503 as the password is wrong", 503)
	redis.MustDo("ACL", "SETUSER", "staging", ">"+password)
	want("200 again", 200)
}

// rotate changes the token, with a mistake on the way.
func rotate(t *testing.T, r *receiver) {
	t.Helper()
	r.Write("signing", "whsec_"+text)
	eventually(t, "the mistake is reported", func() bool { return strings.Contains(r.log.String(), "configuration reload rejected") })
	r.Write("signing", "whsec_"+encodedKey)
	r.Write("token", previousToken+"-renewed")
	eventually(t, "the old token is refused", func() bool { return r.post(path, "application/json", event(60)) == http.StatusUnauthorized })
	r.Write("token", token)
	eventually(t, "the old token counts again", func() bool { return r.post(path, "application/json", event(60)) == http.StatusOK })
}

// receiver has a target for each way in which an attempt can end.
type receiver struct {
	*receiverprocess.Pod
	t       *testing.T
	log     *buffer
	hanging chan struct{} // something came to the target that hangs
}

func newReceiver(t *testing.T, redis *redistest.Server, collector string) *receiver {
	t.Helper()
	r := &receiver{Pod: receiverprocess.New(t, receiverprocess.Build(t, receiverprocess.Raced)), t: t, log: &buffer{}, hanging: make(chan struct{}, 100)}
	r.Log, r.Env = r.log, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector}
	answers := func(status int) string {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1/"+targetPath)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, answer)
		})
	}
	hangs := serve(t, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body) // or the server would not notice that the receiver has hung up
		r.hanging <- struct{}{}
		<-req.Context().Done()
	})
	id := int64(41)
	c := config.Config{
		Webhook: config.Webhook{Namespace: "staging", Name: "support"}, Paths: []string{path}, WebhookID: &id,
		TokenFiles: []string{r.Write("token", token), r.Write("previous", previousToken)},
		EventTypes: []string{"message_recieved"}, MaxBodyBytes: 4096, LogLevel: "debug",
	}
	for _, tgt := range []config.Target{
		{Name: "takes", URL: answers(200), Format: contract.FormatCloudEventsStructured},
		{Name: "refuses", URL: answers(422)},
		{Name: "redirects", URL: answers(307)},
		{Name: "away", URL: "http://" + testenv.FreeAddress(t)},
		{Name: "hangs", URL: hangs},
		{Name: "filters", URL: answers(200), Filter: `!has(event.data.odd) || event.data.odd > 5`},
	} {
		tgt.URL += "/" + targetPath
		tgt.Timeout = config.Duration(500 * time.Millisecond)
		tgt.Retry = config.Retry{MaxAttempts: 2, MinBackoff: config.Duration(time.Millisecond), MaxBackoff: config.Duration(time.Millisecond)}
		tgt.SigningKeyFiles = []string{r.Write("signing", "whsec_"+encodedKey)}
		tgt.Headers = []config.Header{{Name: "Authorization", ValueFile: r.Write("header", "Bearer "+headerValue)}}
		c.Targets = append(c.Targets, tgt)
	}
	r.Configure(c, "redis://staging:"+password+"@"+redis.Addr())
	return r
}

func (r *receiver) start() {
	r.t.Helper()
	r.Start("--reread-interval", "20ms")
	r.AwaitReady()
}

func (r *receiver) proc(file string) string {
	r.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", r.PID(), file))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(raw)
}

func (r *receiver) post(where, contentType, event string) int {
	status, said, _ := r.Post(http.DefaultClient, where, contentType, event)
	for _, canary := range append(secrets, contents...) {
		if strings.Contains(said, canary) {
			r.t.Errorf("an answer with status %d repeats %q: %s", status, canary, said)
		}
	}
	return status
}

func serve(t *testing.T, handler http.HandlerFunc) (url string) {
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// spans is a collector of traces that keeps what it is sent.
type spans struct {
	buffer
	URL string
}

func collect(t *testing.T) *spans {
	s := &spans{}
	s.URL = serve(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&s.buffer, r.Body) })
	return s
}

// watch keeps all that Redis is asked from now on.
func watch(t *testing.T, redis *redistest.Server) *buffer {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprint(conn, "MONITOR\r\n")
	b := &buffer{}
	go func() { _, _ = io.Copy(b, conn) }()
	eventually(t, "MONITOR is on", func() bool { return strings.Contains(b.String(), "+OK") })
	return b
}

// everything is all keys with their values, as Redis stores them.
func everything(redis *redistest.Server) string {
	var all strings.Builder
	for _, key := range redis.Speak("KEYS", "*") {
		all.WriteString(key)
		all.WriteString(strings.Join(redis.Speak("DUMP", key), ""))
	}
	return all.String()
}

func file(t *testing.T, redis *redistest.Server) string {
	t.Helper()
	raw, err := os.ReadFile(redis.AppendOnlyFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}
