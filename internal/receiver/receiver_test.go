package receiver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/recent"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/target"
)

const (
	path  = "/staging/support/abcdefghijklmnopqrstuvwxyz"
	token = "canary-token-7f3a"
	text  = "canary-text-hello"
	phone = "+15005550006"
)

// sample is a message as the provider's guide shows it, with an id of the caller's choice.
func sample(id int) string {
	return fmt.Sprintf(`{"type":"message_recieved","id":41,"token":%q,"event_data":{"id":%d,"text":%q,"phone":%q,"super":9007199254740993}}`,
		token, id, text, phone)
}

// sink is a target that remembers what it gets.
type sink struct {
	*httptest.Server
	mu     sync.Mutex
	got    map[string]int    // event id → times
	bodies map[string]string // event id → last body
	status func() int        // what to answer
	change chan struct{}     // something came
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{got: map[string]int{}, bodies: map[string]string{}, change: make(chan struct{}, 1)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		status := http.StatusOK
		if s.status != nil {
			status = s.status()
		}
		if status < 300 {
			s.got[r.Header.Get(target.HeaderID)]++
			s.bodies[r.Header.Get(target.HeaderID)] = string(body)
		}
		s.mu.Unlock()
		w.WriteHeader(status)
		select {
		case s.change <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) answer(status func() int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *sink) count() (events, deliveries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.got {
		events++
		deliveries += n
	}
	return events, deliveries
}

func (s *sink) await(t *testing.T, events int) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		if n, _ := s.count(); n >= events {
			return
		}
		select {
		case <-s.change:
		case <-timeout:
			n, _ := s.count()
			t.Fatalf("the target has got %d events, want %d", n, events)
		}
	}
}

// process is one receiver with the files that a Pod would mount.
type process struct {
	t           *testing.T
	dir         string
	events, ops string
	admin       string
	logs        *lockedBuffer
	stop        context.CancelFunc
	ended       chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newConfig(targets ...config.Target) config.Config {
	return config.Config{
		Webhook: config.Webhook{Namespace: "staging", Name: "support"}, Paths: []string{path},
		Targets: targets, Addresses: config.Addresses{AllowLoopback: true},
	}
}

func crm(s *sink) config.Target {
	return config.Target{
		Name: "crm", URL: s.URL, Timeout: config.Duration(2 * time.Second),
		Retry: config.Retry{MinBackoff: config.Duration(10 * time.Millisecond), MaxBackoff: config.Duration(50 * time.Millisecond)},
	}
}

func start(t *testing.T, redisURL string, c config.Config, with ...func(*process, *receiver.Options)) *process {
	t.Helper()
	p := &process{t: t, dir: t.TempDir(), logs: &lockedBuffer{}, ended: make(chan error, 1)}
	p.writeFile("token", token+"\n")
	p.writeFile("redis-url", redisURL+"\n")
	p.configure(c)
	o := receiver.Options{
		ConfigFile: filepath.Join(p.dir, "config.json"), Version: "test", Consumer: p.dir,
		RereadInterval: 10 * time.Millisecond, Events: listen(t), Ops: listen(t), Admin: listen(t),
		Log: slog.New(slog.NewJSONHandler(p.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	p.events, p.ops = "http://"+o.Events.Addr().String(), "http://"+o.Ops.Addr().String()
	p.admin = "http://" + o.Admin.Addr().String()
	for _, change := range with {
		change(p, &o)
	}
	r, err := receiver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() { p.ended <- r.Run(ctx) }()
	t.Cleanup(p.end)
	return p
}

func (p *process) end() {
	p.stop()
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Errorf("the receiver ended with %v", err)
		}
		p.ended <- nil // for the cleanup after an end by hand
	case <-time.After(30 * time.Second):
		p.t.Error("the receiver does not end")
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// writeFile replaces a file at once, as the kubelet does.
func (p *process) writeFile(name, content string) {
	p.t.Helper()
	temporary := filepath.Join(p.dir, name+".new")
	if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(p.dir, name)); err != nil {
		p.t.Fatal(err)
	}
}

// configure writes the configuration and returns its digest.
func (p *process) configure(c config.Config) string {
	p.t.Helper()
	raw, err := config.Encode(p.complete(c))
	if err != nil {
		p.t.Fatal(err)
	}
	p.writeFile("config.json", string(raw))
	return config.Digest(raw)
}

func (p *process) get(where string) (int, string) {
	p.t.Helper()
	return p.getFrom(p.ops, where)
}

// getAdmin returns what the administrative port answers.
func (p *process) getAdmin(where string) string {
	p.t.Helper()
	_, body := p.getFrom(p.admin, where)
	return body
}

func (p *process) getFrom(port, where string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, port+where, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	if where == "/metrics" {
		return resp.StatusCode, p.ownLabels(string(body))
	}
	return resp.StatusCode, string(body)
}

// ownLabels returns a scrape without the labels that name the webhook. Each series must have them.
func (p *process) ownLabels(scrape string) string {
	p.t.Helper()
	var out strings.Builder
	for line := range strings.Lines(scrape) {
		if !strings.HasPrefix(line, "#") {
			bare := namespaceLabel.ReplaceAllString(line, "$1")
			if bare == line || !webhookLabel.MatchString(bare) {
				p.t.Errorf("this series does not name its webhook: %s", line)
			}
			line = strings.Replace(webhookLabel.ReplaceAllString(bare, ""), "{}", "", 1)
		}
		out.WriteString(line)
	}
	return out.String()
}

var (
	namespaceLabel = regexp.MustCompile(`([{,])namespace="staging",`)
	webhookLabel   = regexp.MustCompile(`,?webhook="[a-z]+"`)
)

func (p *process) post(body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, p.events+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return resp, err
}

func (p *process) wantPost(body string, want int) {
	p.t.Helper()
	resp, err := p.post(body)
	if err != nil || resp.StatusCode != want {
		p.t.Fatalf("POST = %v, %v; want %d", resp, err, want)
	}
}

// until asks f until it is true: for what another goroutine or the clock brings about.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	eventually(t, 20*time.Second, what, f)
}

func eventually(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func (p *process) awaitReady() {
	p.t.Helper()
	until(p.t, "ready", func() bool { status, _ := p.get("/readyz"); return status == http.StatusOK })
}

func TestAnEventIsDeliveredOnceAsItCame(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	for range 3 {
		p.wantPost(sample(1), http.StatusOK)
	}
	to.await(t, 1)
	p.wantPost(strings.Replace(sample(2), token, "wrong", 1), http.StatusUnauthorized)
	p.wantPost(sample(2)+"}", http.StatusBadRequest)
	p.wantPost(sample(3), http.StatusOK)
	to.await(t, 2)
	if events, deliveries := to.count(); events != 2 || deliveries != 2 {
		t.Errorf("%d events in %d deliveries, want 2 in 2", events, deliveries)
	}
	want := strings.Replace(sample(1), fmt.Sprintf(`"token":%q,`, token), "", 1)
	found := false
	for _, body := range to.bodies {
		found = found || body == want
	}
	if !found {
		t.Errorf("no delivery had the body %s, got %v", want, to.bodies)
	}
	until(t, "nothing pending", func() bool {
		_, status := p.get("/status")
		return strings.Contains(status, `"pending":0`)
	})
}

func TestRedisAwayIsAnswered503AndHealsByItself(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	to.await(t, 1)
	redis.Kill()
	resp, err := p.post(sample(2))
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("POST without Redis = %v, %v; want 503 with Retry-After", resp, err)
	}
	until(t, "a status without a backlog, which nobody knows", func() bool {
		_, status := p.get("/status")
		return strings.Contains(status, `"redis":"`) && !strings.Contains(status, `"backlog"`)
	})
	redis.Run()
	until(t, "200 after Redis came back", func() bool {
		resp, err := p.post(sample(2))
		return err == nil && resp.StatusCode == http.StatusOK
	})
	to.await(t, 2)
	p.wantPost(sample(1), http.StatusOK) // remembered across the crash
	if _, deliveries := to.count(); deliveries != 2 {
		t.Errorf("%d deliveries, want 2", deliveries)
	}
}

func TestAReceiverStartsWithoutRedisAndSaysSo(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	redis.Kill()
	p := start(t, redis.URL(), newConfig(crm(to)))
	until(t, "a sentence in /readyz", func() bool {
		status, why := p.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(why, contract.RedisUnreachable.Message())
	})
	p.wantPost(sample(1), http.StatusServiceUnavailable)
	redis.Run()
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	to.await(t, 1)
}

func TestARotatedTokenCountsWithoutRestart(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	rotated := strings.Replace(sample(1), token, "rotated", 1)
	p.wantPost(rotated, http.StatusUnauthorized)
	p.writeFile("token", "rotated")
	until(t, "the new token is accepted", func() bool {
		resp, err := p.post(rotated)
		return err == nil && resp.StatusCode == http.StatusOK
	})
	p.wantPost(sample(2), http.StatusUnauthorized)
	p.writeFile("token", "\n") // a mistake: the old one goes on
	until(t, "the mistake is told", func() bool { return strings.Contains(p.logs.String(), "the file is empty") })
	p.wantPost(rotated, http.StatusOK)
}

func TestAChangedConfigurationCountsWithoutRestart(t *testing.T) {
	t.Parallel()
	redis, first, second := redistest.Start(t), newSink(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(first)))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	first.await(t, 1)

	c := newConfig(crm(second), config.Target{Name: "audit", URL: first.URL})
	digest := p.configure(c)
	until(t, "the new digest in /status", func() bool {
		_, status := p.get("/status")
		return strings.Contains(status, digest)
	})
	p.wantPost(sample(2), http.StatusOK)
	first.await(t, 2)
	second.await(t, 1)

	p.writeFile("config.json", `{"version":1,"nonsense":true}`)
	until(t, "the mistake is told", func() bool { return strings.Contains(p.logs.String(), "nonsense") })
	p.wantPost(sample(3), http.StatusOK)
	first.await(t, 3)
}

func TestFailedAttemptsAreRepeatedAndTheHopelessKept(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	attempts := 0
	to.answer(func() int {
		if attempts++; attempts < 4 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	p.wantPost(sample(1), http.StatusOK)
	to.await(t, 1)
	to.answer(func() int { return http.StatusUnprocessableEntity })
	p.wantPost(sample(2), http.StatusOK)
	var status contract.Status
	until(t, "one dead letter and nothing pending", func() bool {
		_, body := p.get("/status")
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			t.Fatal(err)
		}
		if len(status.Targets) != 1 || status.Targets[0].LastDelivered.IsZero() {
			return false
		}
		if e := status.Targets[0].LastError; e == nil || e.Class != contract.ErrorRejected || e.Since.IsZero() {
			return false
		}
		status.Targets[0].LastDelivered, status.Targets[0].LastError = time.Time{}, nil
		return cmp.Equal(status.Targets, []contract.TargetStatus{{Name: "crm", DeadLetters: 1, Circuit: "Closed"}})
	})
}

func TestADeadLetterIsReplayedThoughItIsRemembered(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	to.answer(func() int { return http.StatusUnprocessableEntity })
	p.wantPost(sample(1), http.StatusOK)
	until(t, "a dead letter", func() bool { _, s := p.get("/status"); return strings.Contains(s, `"deadLetters":1`) })
	to.answer(nil)
	resp, err := http.Post(p.admin+"/v1/targets/crm/dead-letters/replay?all=true", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), `"replayed":1,"finished":true`) {
		t.Fatalf("replay answered %s", body)
	}
	to.await(t, 1)
	p.wantPost(sample(1), http.StatusOK)
	if events, deliveries := to.count(); events != 1 || deliveries != 1 {
		t.Errorf("%d events in %d deliveries, want one", events, deliveries)
	}
}

// The known part of a newer operator's configuration is applied, and the rest is reported.
func TestAConfigurationOfANewerOperator(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	written, err := os.ReadFile(filepath.Join(p.dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(version string) string {
		return strings.Replace(string(written), `"version": 1`, `"version": `+version+`, "colour": "red"`, 1)
	}
	p.writeFile("config.json", with("1")) // an error of its own version
	until(t, "the refusal", func() bool {
		_, metrics := p.get("/metrics")
		return strings.Contains(metrics, `config_reloads_total{outcome="rejected"} 1`)
	})
	newer := with("99")
	p.writeFile("config.json", newer)
	until(t, "the new digest in /status", func() bool {
		_, status := p.get("/status")
		return strings.Contains(status, config.Digest([]byte(newer)))
	})
	if _, metrics := p.get("/metrics"); !strings.Contains(metrics, "heymarket_receiver_config_ignored_members 1\n") {
		t.Error("the metric does not count what is ignored")
	}
	p.wantPost(sample(1), http.StatusOK)
	to.await(t, 1)
	p.writeFile("config.json", string(written))
	until(t, "nothing ignored", func() bool {
		_, metrics := p.get("/metrics")
		return strings.Contains(metrics, "heymarket_receiver_config_ignored_members 0\n")
	})
}

func TestPausedStoresAndDeliversNothing(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	c := newConfig(crm(to))
	c.Paused = true
	p := start(t, redis.URL(), c)
	p.awaitReady()
	for n := range 5 {
		p.wantPost(sample(n), http.StatusOK)
	}
	_, status := p.get("/status")
	if events, _ := to.count(); events != 0 || !strings.Contains(status, `"pending":5`) || !strings.Contains(status, `"backlog":5`) {
		t.Fatalf("%d delivered while paused; %s", events, status)
	}
	c.Paused = false
	p.configure(c)
	to.await(t, 5)
}

func TestATargetThatIsGoneIsLeftAlone(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	to.answer(func() int { return http.StatusGone })
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	until(t, "the circuit says so", func() bool { _, s := p.get("/status"); return strings.Contains(s, `"circuit":"Gone"`) })
	p.wantPost(sample(2), http.StatusOK)
	until(t, "both wait for a person", func() bool {
		_, status := p.get("/status")
		return strings.Contains(status, `"pending":2,"deadLetters":0`)
	})
}

func TestATargetThatIsDownDelaysNoOther(t *testing.T) {
	t.Parallel()
	redis, healthy := redistest.Start(t), newSink(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	down := config.Target{Name: "down", URL: gone.URL}
	p := start(t, redis.URL(), newConfig(crm(healthy), down))
	p.awaitReady()
	const events = 200
	for n := range events {
		p.wantPost(sample(n), http.StatusOK)
	}
	healthy.await(t, events)
	until(t, "all pending for the one that is down", func() bool {
		_, status := p.get("/status")
		return strings.Contains(status, fmt.Sprintf(`{"name":"down","pending":%d,`, events)) &&
			strings.Contains(status, `{"name":"crm","pending":0,`)
	})
	_, status := p.get("/status")
	if n := strings.Count(status, `"lastDelivered":"20`); n != 1 || !strings.Contains(status, `"circuit":"Closed","lastDelivered":"20`) {
		t.Errorf("want the healthy target alone to have taken an event: %s", status)
	}
}

// Two receivers serve one webhook; they stop in turn under load. Every event answered with 200 arrives, once.
func TestAShutdownUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	receivers := []*process{start(t, redis.URL(), newConfig(crm(to))), start(t, redis.URL(), newConfig(crm(to)))}
	for _, p := range receivers {
		p.awaitReady()
	}
	var (
		wg           sync.WaitGroup
		mu           sync.Mutex
		acknowledged = map[int]bool{}
	)
	const events = 600
	for worker := range 4 {
		wg.Go(func() {
			for n := worker; n < events; n += 4 {
				for try := range 2 { // the sender tries the other one when the first does not answer 200
					resp, err := receivers[(n+try)%2].post(sample(n))
					if err == nil && resp.StatusCode == http.StatusOK {
						mu.Lock()
						acknowledged[n] = true
						mu.Unlock()
						break
					}
				}
			}
		})
	}
	until(t, "a quarter is through", func() bool { n, _ := to.count(); return n > events/4 })
	receivers[0].end()
	wg.Wait()
	if len(acknowledged) != events {
		t.Fatalf("%d of %d events were acknowledged", len(acknowledged), events)
	}
	to.await(t, events)
	if got, deliveries := to.count(); got != events || deliveries != events {
		t.Errorf("%d events in %d deliveries, want %d in %d", got, deliveries, events, events)
	}
}

func TestTheAccountAddsUp(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	c := newConfig(crm(to))
	c.EventTypes = []string{"message_recieved"}
	p := start(t, redis.URL(), c)
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	p.wantPost(sample(1), http.StatusOK)
	p.wantPost(strings.Replace(sample(1), "message_recieved", "chat_closed", 1), http.StatusOK)
	p.wantPost("{", http.StatusBadRequest)
	to.await(t, 1)
	for _, line := range []string{
		`heymarket_receiver_requests_received_total 4`,
		`heymarket_receiver_requests_total{reason="",result="stored"} 1`,
		`heymarket_receiver_requests_total{reason="",result="duplicate"} 1`,
		`heymarket_receiver_requests_total{reason="",result="ignored"} 1`,
		`heymarket_receiver_requests_total{reason="malformed",result="refused"} 1`,
		`heymarket_receiver_events_stored_total{target="crm"} 1`,
		`heymarket_receiver_events_delivered_total{target="crm"} 1`,
		`heymarket_receiver_events_pending{target="crm"} 0`,
		`heymarket_receiver_redis_up 1`,
	} {
		until(t, line, func() bool { _, metrics := p.get("/metrics"); return strings.Contains(metrics, line+"\n") })
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := newConfig(config.Target{Name: "crm", URL: "http://crm"})
	good.TokenFiles, good.RedisURLFile = []string{file("token", "t")}, file("redis", "redis://localhost")
	encoded := func(change func(*config.Config)) string {
		c := good
		change(&c)
		raw, err := config.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for name, tc := range map[string]struct{ configFile, want string }{
		"no file":     {filepath.Join(dir, "none"), "--config"},
		"no JSON":     {file("a", "{"), "receiver configuration"},
		"unknown":     {file("b", `{"version":1,"surprise":1}`), "surprise"},
		"version":     {file("c", `{"version":0}`), "version is 0"},
		"no token":    {file("d", encoded(func(c *config.Config) { c.TokenFiles = []string{filepath.Join(dir, "gone")} })), "gone"},
		"empty token": {file("e", encoded(func(c *config.Config) { c.TokenFiles = []string{file("empty", "\n")} })), "empty"},
		"no Redis":    {file("f", encoded(func(c *config.Config) { c.RedisURLFile = filepath.Join(dir, "gone") })), "Redis URL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := receiver.New(receiver.Options{ConfigFile: tc.configFile, Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("New = %v; want an error with %q", err, tc.want)
			}
		})
	}
}

// The administrative port shows a receiver's activity: requests, attempts, and a filter that dropped an event.
func TestRecentEvents(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	never := crm(to)
	never.Name, never.Filter = "never", "false"
	p := start(t, redis.URL(), newConfig(crm(to), never))
	p.awaitReady()
	to.answer(func() int { return http.StatusUnprocessableEntity })
	p.wantPost(sample(1), http.StatusOK)
	p.wantPost(strings.Replace(sample(1), token, "wrong", 1), http.StatusUnauthorized)
	var got struct {
		Events []recent.Record `json:"events"`
	}
	until(t, "a dead letter is recorded", func() bool {
		if err := json.Unmarshal([]byte(p.getAdmin("/v1/events")), &got); err != nil {
			t.Fatal(err)
		}
		return len(got.Events) == 3
	})
	found := map[recent.Outcome]recent.Record{}
	for _, e := range got.Events {
		found[e.Outcome] = e
	}
	stored, refused, dead := found[recent.Stored], found[recent.Refused], found[recent.DeadLetter]
	if !slices.Equal(stored.Targets, []string{"crm"}) || !slices.Equal(stored.Filtered, []string{"never"}) || stored.Receiver != p.dir || stored.Status != http.StatusOK || stored.Event == "" {
		t.Errorf("the request: %+v", stored)
	}
	if refused.Reason != "token" || refused.Status != http.StatusUnauthorized || refused.Type != "" {
		t.Errorf("the refused one: %+v", refused)
	}
	if dead.Event != stored.Event || dead.Type != stored.Type || dead.Target != "crm" || dead.Attempt != 1 || dead.Status != http.StatusUnprocessableEntity ||
		dead.Error != contract.ErrorRejected || dead.Reason != "the target refused it with 422" {
		t.Errorf("the attempt: %+v", dead)
	}
	if stats := p.getAdmin("/v1/stats"); !strings.Contains(stats, `"stored":1`) || !strings.Contains(stats, `"name":"crm","delivered":0,"failed":1,"deadLettered":1`) || !strings.Contains(stats, `"deadLetters":1`) {
		t.Errorf("the figures: %s", stats)
	}
}
