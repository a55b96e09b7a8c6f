package receiver_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/target"
)

// mailbox is a target that hands over each request.
type mailbox struct {
	*httptest.Server
	requests chan *http.Request // with their bodies read into GetBody
}

func newMailbox(t *testing.T, tls bool) *mailbox {
	t.Helper()
	m := &mailbox{requests: make(chan *http.Request, 100)}
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		m.requests <- r
	})
	if tls {
		m.Server = httptest.NewUnstartedServer(handler)
		m.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		m.StartTLS()
	} else {
		m.Server = httptest.NewServer(handler)
	}
	t.Cleanup(m.Close)
	return m
}

func (m *mailbox) next(t *testing.T) (header http.Header, body []byte) {
	t.Helper()
	select {
	case r := <-m.requests:
		content, _ := r.GetBody()
		body, _ = io.ReadAll(content)
		return r.Header, body
	case <-t.Context().Done():
		t.Fatal("nothing came")
	}
	return nil, nil
}

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	to := filepath.Join(dir, name)
	if err := os.WriteFile(to+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
	return to
}

// reloads waits until the receiver has taken over (or rejected) one more change than before.
func (p *process) reloads(outcome string) func() {
	line := `heymarket_receiver_config_reloads_total{outcome="` + outcome + `"} `
	read := func() string {
		_, metrics := p.get("/metrics")
		_, after, _ := strings.Cut(metrics, line)
		count, _, _ := strings.Cut(after, "\n")
		return count
	}
	before := read()
	return func() {
		p.t.Helper()
		until(p.t, "one more reload is "+outcome, func() bool { return read() != before })
	}
}

func TestSecretsOfATargetChangeWithoutARestart(t *testing.T) {
	t.Parallel()
	redis, to, dir := redistest.Start(t), newMailbox(t, true), t.TempDir()
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: to.Certificate().Raw}))
	key := func(c byte) string { return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{c}, 32)) }
	tgt := config.Target{
		Name: "crm", URL: to.URL, Format: contract.FormatCloudEventsStructured, Retry: crm(newSink(t)).Retry,
		SigningKeyFiles: []string{write(t, dir, "signing", key('a')+"\n")},
		Headers:         []config.Header{{Name: "Authorization", ValueFile: write(t, dir, "header", "Bearer canary-one\n")}},
		TLS:             config.TLS{CAFile: write(t, dir, "ca", certificate)},
	}
	p := start(t, redis.URL(), newConfig(tgt))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	verify := func(secret, authorization string) {
		t.Helper()
		header, body := to.next(t)
		signing, err := config.ParseSigningKey([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, signing)
		fmt.Fprintf(mac, "%s.%s.%s", header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), body)
		if got, want := header.Get("Webhook-Signature"), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)); got != want {
			t.Errorf("Webhook-Signature = %q, want %q", got, want)
		}
		if got := header.Get("Authorization"); got != authorization {
			t.Errorf("Authorization = %q", got)
		}
		if !bytes.Contains(body, []byte(`"source":"/heymarket/staging/support"`)) || !bytes.Contains(body, []byte("9007199254740993")) {
			t.Errorf("body %s", body)
		}
	}
	verify(key('a'), "Bearer canary-one")

	applied := p.reloads("applied")
	write(t, dir, "signing", key('b'))
	applied()
	applied = p.reloads("applied")
	write(t, dir, "header", "Bearer canary-two")
	applied()
	p.wantPost(sample(2), http.StatusOK)
	verify(key('b'), "Bearer canary-two")

	for name, content := range map[string]string{"signing": "canary-hunter2", "header": "two\nlines", "ca": "canary-no-certificate"} {
		rejected := p.reloads("rejected")
		good, _ := os.ReadFile(filepath.Join(dir, name))
		write(t, dir, name, content)
		rejected()
		write(t, dir, name, string(good))
	}
	p.wantPost(sample(3), http.StatusOK)
	verify(key('b'), "Bearer canary-two")

	_, metrics := p.get("/metrics")
	_, status := p.get("/status")
	for what, text := range map[string]string{"logs": p.logs.String(), "metrics": metrics, "status": status} {
		for _, secret := range []string{"canary-one", "canary-two", "canary-hunter2", "canary-no-certificate", key('a')[6:], key('b')[6:], "YWFhYWFh"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s hold %q", what, secret)
			}
		}
	}
}

func TestATargetWithAnUnknownAuthorityGetsNothing(t *testing.T) {
	t.Parallel()
	redis, to, dir := redistest.Start(t), newMailbox(t, true), t.TempDir()
	other := newMailbox(t, true)
	pool := x509.NewCertPool()
	pool.AddCert(other.Certificate())
	tgt := crm(newSink(t))
	tgt.URL, tgt.TLS.ServerName, tgt.Retry.MaxAttempts = to.URL, "crm.internal", 1
	tgt.TLS.CAFile = write(t, dir, "ca", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: to.Certificate().Raw})))
	p := start(t, redis.URL(), newConfig(tgt))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	until(t, "a dead letter", func() bool { _, s := p.get("/status"); return strings.Contains(s, `"deadLetters":1`) })
	if len(to.requests) != 0 {
		t.Error("an event was sent to somebody who is not crm.internal")
	}
}

func TestFiltersDecideAndTheirFailuresAreKept(t *testing.T) {
	t.Parallel()
	redis, wanted, failing := redistest.Start(t), newSink(t), newSink(t)
	filtered, broken := crm(wanted), crm(failing)
	filtered.Filter = `event.data.id % 2 == 1`
	broken.Name, broken.Filter = "broken", `event.data.text.size() > 0 && event.data.nowhere == 5`
	c := newConfig(filtered, broken)
	p := start(t, redis.URL(), c)
	p.awaitReady()
	for n := range 4 {
		p.wantPost(sample(n), http.StatusOK)
	}
	wanted.await(t, 2)
	until(t, "four dead letters", func() bool { _, s := p.get("/status"); return strings.Contains(s, `"deadLetters":4`) })
	if events, _ := wanted.count(); events != 2 {
		t.Errorf("the target got %d events, want the 2 that it wants", events)
	}
	if events, _ := failing.count(); events != 0 {
		t.Errorf("%d events were sent past a filter that fails", events)
	}
	logs := p.logs.String()
	if !strings.Contains(logs, `filter failed: 1:41: the event has no member \"nowhere\"`) || strings.Contains(logs, text) {
		t.Errorf("the logs do not say why, or too much:\n%s", logs)
	}
	for _, line := range []string{`heymarket_receiver_filter_failures_total{target="broken"} 4`, `heymarket_receiver_events_dead_total{target="broken"} 4`, `heymarket_receiver_events_stored_total{target="crm"} 2`} {
		// A receiver counts after Redis has, so the dead letters may be seen before.
		until(t, line, func() bool { _, metrics := p.get("/metrics"); return strings.Contains(metrics, line) })
	}

	applied := p.reloads("applied")
	c.Targets[1].Filter = `event.data.text.size() > 0`
	p.configure(c)
	applied()
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, p.admin+"/v1/targets/broken/dead-letters/replay?all=true", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("replay: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	failing.await(t, 4)
}

func TestAConfigurationWithAMistakeInAnExpressionIsNotTakenOver(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	c := newConfig(crm(to))
	p := start(t, redis.URL(), c)
	p.awaitReady()
	rejected := p.reloads("rejected")
	c.Targets[0].Filter = `event.typ == "x"`
	p.configure(c)
	rejected()
	if logs := p.logs.String(); !strings.Contains(logs, `the filter of target \"crm\": 1:6: undefined field 'typ'`) {
		t.Errorf("the logs do not name the place:\n%s", logs)
	}
	p.wantPost(sample(1), http.StatusOK)
	to.await(t, 1)

	_, err := receiver.New(receiver.Options{ConfigFile: filepath.Join(p.dir, "config.json"), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "1:6") {
		t.Errorf("New = %v; want it to name the place of the mistake", err)
	}
}

func TestADeduplicationKeyReplacesTheProfile(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	c := newConfig(crm(to))
	c.Deduplication.Key = `event.data.id == 3 ? event.data.nothing : (event.data.id == 4 ? "" : event.data.phone)`
	p := start(t, redis.URL(), c)
	p.awaitReady()
	for _, n := range []int{1, 2, 3, 4, 3} { // all from one phone
		p.wantPost(sample(n), http.StatusOK)
	}
	to.await(t, 3)
	_, metrics := p.get("/metrics")
	for _, line := range []string{
		`heymarket_receiver_requests_total{reason="",result="stored"} 3`, `heymarket_receiver_requests_total{reason="",result="duplicate"} 2`,
		`heymarket_receiver_deduplication_key_failures_total 3`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

func TestTokensTellWhenTheyWereUsed(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	if _, status := p.get("/status"); !strings.Contains(status, `"tokens":[{"name":"current"}]`) {
		t.Errorf("status %s", status)
	}
	p.wantPost(sample(1), http.StatusOK)
	until(t, "the status reports the use", func() bool {
		_, status := p.get("/status")
		return strings.Contains(status, `"tokens":[{"name":"current","lastUsed":"20`)
	})
	if _, metrics := p.get("/metrics"); !strings.Contains(metrics, `heymarket_receiver_token_used_total{token="current"} 1`) {
		t.Error("the metrics do not count the token")
	}
}

func TestTheLogLevelFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	redis, to, level := redistest.Start(t), newSink(t), new(slog.LevelVar)
	level.Set(slog.LevelError)
	c := newConfig(crm(to))
	c.LogLevel = "warn"
	p := start(t, redis.URL(), c, func(_ *process, o *receiver.Options) { o.Level = level })
	p.awaitReady()
	for _, step := range []struct {
		name string
		want slog.Level
	}{{"warn", slog.LevelWarn}, {"debug", slog.LevelDebug}, {"", slog.LevelError}} {
		c.LogLevel = step.name
		p.configure(c)
		until(t, "level "+step.want.String(), func() bool { return level.Level() == step.want })
	}
}

func TestTracesReachFromTheRequestToTheTarget(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	spans := map[string]*tracepb.Span{}
	var raw bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err := proto.Unmarshal(body, &data); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		raw.Write(body)
		for _, rs := range data.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					spans[s.GetName()] = s
				}
			}
		}
	}))
	t.Cleanup(collector.Close)
	redis, to := redistest.Start(t), newMailbox(t, false)
	tgt := crm(newSink(t))
	tgt.URL = to.URL
	p := start(t, redis.URL(), newConfig(tgt), func(_ *process, o *receiver.Options) {
		o.Getenv = func(name string) string {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}[name]
		}
	})
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	header, _ := to.next(t)
	p.end() // which sends the spans
	mu.Lock()
	defer mu.Unlock()
	ingest, attempt := spans["heymarket ingest"], spans["heymarket attempt"]
	if ingest == nil || attempt == nil {
		t.Fatalf("spans %v", spans)
	}
	trace, span := hex.EncodeToString(ingest.GetTraceId()), hex.EncodeToString(attempt.GetSpanId())
	if got := header.Get(target.HeaderTrace); got != "00-"+trace+"-"+span+"-01" {
		t.Errorf("the target got %s; want the attempt %s in the trace %s", got, span, trace)
	}
	if !bytes.Equal(attempt.GetParentSpanId(), ingest.GetSpanId()) {
		t.Error("the attempt does not stand below the request")
	}
	for _, canary := range []string{token, text, phone} {
		if bytes.Contains(raw.Bytes(), []byte(canary)) {
			t.Errorf("the spans hold %q", canary)
		}
	}
}

func TestATraceparentTravelsWithoutTracing(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newMailbox(t, false)
	tgt := crm(newSink(t))
	tgt.URL = to.URL
	p := start(t, redis.URL(), newConfig(tgt))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	header, _ := to.next(t)
	if _, valid := event.ParseTrace(header.Get(target.HeaderTrace)); !valid {
		t.Errorf("the target got the traceparent %q", header.Get(target.HeaderTrace))
	}
}

// JSON readers keep half of a surrogate pair or replace it, so filters, ordering, encoding and display must accept it, and
// pass it on.
func TestHalfASurrogatePairReachesEveryTargetAsItCame(t *testing.T) {
	t.Parallel()
	redis, to, refusing := redistest.Start(t), newSink(t), newSink(t)
	refusing.answer(func() int { return http.StatusUnprocessableEntity })
	filtered, structured, ordered, dead := crm(to), crm(to), crm(to), crm(refusing)
	filtered.Name, filtered.Filter = "filtered", `event.data.text == "cut emoji \ufffd"`
	structured.Name, structured.Format = "structured", "CloudEventsStructured"
	ordered.Name, ordered.Order = "ordered", contract.OrderConversation
	dead.Name = "dead"
	var bodies sync.Map // every body that came
	seen := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies.Store(r.URL.Path, string(body))
	}))
	t.Cleanup(seen.Close)
	for _, target := range []*config.Target{&filtered, &structured, &ordered} {
		target.URL = seen.URL + "/" + target.Name
	}
	p := start(t, redis.URL(), newConfig(filtered, structured, ordered, dead))
	p.awaitReady()
	const kept = `{"type":"message_recieved","id":"123","event_data":{"id":9,"text":"cut emoji \ud83d","conversation":{"id":3,"name":"\udc00"}}}`
	p.wantPost("\ufeff"+strings.Replace(kept, `"id":"123"`, fmt.Sprintf(`"id":"123","token":%q`, token), 1), http.StatusOK)
	for path, want := range map[string]string{"/filtered": kept, "/ordered": kept, "/structured": `"data":` + kept} {
		until(t, "a delivery to "+path, func() bool { _, found := bodies.Load(path); return found })
		if got, _ := bodies.Load(path); !strings.Contains(got.(string), want) {
			t.Errorf("%s got %s, want %s", path, got, want)
		}
	}
	var letters []admin.Letter
	until(t, "a dead letter", func() bool {
		return json.Unmarshal([]byte(p.getAdmin("/v1/targets/dead/dead-letters")), &letters) == nil && len(letters) == 1
	})
	if shown := p.getAdmin("/v1/targets/dead/dead-letters/" + letters[0].Entry); !strings.Contains(shown, "cut emoji \ufffd") {
		t.Errorf("the dead letter is shown as %s", shown)
	}
}

// A value that must not be sent to a target is not applied, whichever file it comes from, and the previous one stays in
// use.
func TestConfidentialValuesReachNoTarget(t *testing.T) {
	t.Parallel()
	redis, to, dir := redistest.Start(t), newMailbox(t, false), t.TempDir()
	tgt := config.Target{
		Name: "crm", URL: to.URL, Retry: crm(newSink(t)).Retry,
		Headers: []config.Header{{Name: "X-Key", ValueFile: write(t, dir, "header", "fine")}},
	}
	p := start(t, redis.URL(), newConfig(tgt))
	p.awaitReady()
	for _, value := range []string{token, redis.URL()} {
		rejected := p.reloads("rejected")
		write(t, dir, "header", value)
		rejected()
		p.wantPost(sample(len(value)), http.StatusOK)
		if header, _ := to.next(t); header.Get("X-Key") != "fine" {
			t.Errorf("the target got X-Key: %s", header.Get("X-Key"))
		}
	}
	if strings.Contains(p.logs.String(), token) {
		t.Error("the token is in the log")
	}
}
