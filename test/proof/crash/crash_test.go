// Package crash kills receivers and Redis at random moments under load, and then adds up: every event that was
// acknowledged must have been delivered or kept as a dead letter. TORTURE_SECONDS sets how long (default 6).
package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
	"heymarket.dev/operator/internal/receiver/target"
	"heymarket.dev/operator/internal/testenv"
	"heymarket.dev/operator/test/support/receiverprocess"
)

const (
	path      = "/ns/hook/abcdefghijklmnopqrstuvwxyz"
	receivers = 2
	senders   = 8
	backlog   = 300 // small, so that it is reached
)

// scenario is one way to run the pipeline.
type scenario struct {
	name string
	// redis are further options of redis-server.
	redis []string
	// mistake plants one in append.lua; nil: the script as shipped.
	mistake func(t *testing.T, script string) string
	// bodyBytes is the size of an event's text.
	bodyBytes int
	loses     bool
}

// The broken ones prove that the account can see a loss. They live here and nowhere else.
var scenarios = []scenario{
	{name: "as shipped", bodyBytes: 200},
	{name: "no append-only file", redis: []string{"--appendonly", "no"}, bodyBytes: 200, loses: true},
	{name: "marker before store", mistake: markerFirst, bodyBytes: 200, loses: true},
	{name: "evicting Redis", redis: []string{"--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"}, bodyBytes: 20_000, loses: true},
}

// markerFirst makes of append.lua what many receivers do: it remembers the event before it has stored it.
func markerFirst(t *testing.T, script string) string {
	t.Helper()
	const read = "local known = redis.call('GET', KEYS[1])\n"
	if strings.Count(script, read) != 1 {
		t.Fatalf("append.lua does not read its marker by %q: plant the mistake where it does", read)
	}
	return strings.Replace(script, read, `
if redis.call('SET', KEYS[1], '1', 'PX', ARGV[1], 'NX') == false then return 0 end
local known = false
`, 1)
}

func TestNothingAcknowledgedIsLost(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: torture takes a minute; run without -short")
	}
	seconds := testenv.Number(t, "TORTURE_SECONDS", 6, 1)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			length := time.Duration(seconds) * time.Second
			if s.loses {
				length = min(length, 6*time.Second)
			}
			r := run(t, s, length)
			t.Log(r)
			switch {
			case r.acknowledged == 0 || r.delivered == 0 || r.kills == 0:
				t.Error("nothing happened, so nothing is shown")
			case s.loses && r.lost == 0:
				t.Error("this variant loses events, and the account did not see it")
			case !s.loses && r.lost != 0:
				t.Errorf("%d acknowledged events are lost", r.lost)
			case !s.loses && (r.kept.Unaccounted() != 0 || r.kept.Stored < int64(r.acknowledged)):
				t.Errorf("the account in Redis does not add up, or lacks some: %+v", r.kept)
			}
		})
	}
}

// account is the total of a run. Events are counted by id.
type account struct {
	seed                                 uint64
	kills, acknowledged, delivered, dead int
	lost                                 int // acknowledged, and neither delivered nor dead
	deliveries                           int // those of one event counted each
	refusals                             int64
	kept                                 stream.Account // by the receivers
}

func (a account) String() string {
	return fmt.Sprintf("seed %d: %d kills; %d acknowledged = %d delivered + %d dead + %d lost; %d deliveries (%.2f%% more than once); %d answers other than 200",
		a.seed, a.kills, a.acknowledged, a.delivered, a.dead, a.lost, a.deliveries,
		100*float64(a.deliveries-a.delivered)/float64(max(a.delivered, 1)), a.refusals)
}

func run(t *testing.T, s scenario, length time.Duration) account {
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, 0))
	redis := redistest.Start(t, s.redis...)
	target := newMoodyTarget(t, seed)
	binary := build(t, s.mistake)
	pods := make([]*receiver, receivers)
	for i := range pods {
		pods[i] = newReceiver(t, binary, redis.URL(), target.URL)
		pods[i].start()
	}

	var (
		sending, stop = context.WithTimeout(t.Context(), length)
		wg            sync.WaitGroup
		mu            sync.Mutex
		acknowledged  = map[string]bool{}
		refusals      atomic.Int64
		next          atomic.Int64
	)
	defer stop()
	text := strings.Repeat("x", s.bodyBytes)
	for range senders {
		wg.Go(func() {
			for sending.Err() == nil {
				id := next.Add(1)
				// Like the provider: repeatedly, until it is answered with 200.
				for try := range 1000 {
					ok := pods[(int(id)+try)%receivers].post(id, text)
					if ok {
						mu.Lock()
						acknowledged[strconv.FormatInt(id, 10)] = true
						mu.Unlock()
						break
					}
					refusals.Add(1)
					time.Sleep(10 * time.Millisecond) // a sender that waits a little, as senders do
				}
			}
		})
	}

	kills := 0
	for sending.Err() == nil {
		pause := time.Duration(50+chance.IntN(400)) * time.Millisecond
		select {
		case <-sending.Done():
			continue
		case <-time.After(pause):
		}
		if victim := chance.IntN(receivers + 1); victim < receivers {
			pods[victim].End(os.Kill)
			pods[victim].start()
		} else {
			redis.Kill()
			redis.Run()
		}
		kills++
	}
	wg.Wait()
	target.recover()

	result := account{seed: seed, kills: kills, acknowledged: len(acknowledged), refusals: refusals.Load()}
	settle := 40 * time.Second // a killed receiver's leases must run out first
	if s.loses {
		settle = 5 * time.Second // what is lost never comes; enough is delivered by then to see that others do
	}
	for deadline := time.Now().Add(settle); ; time.Sleep(50 * time.Millisecond) {
		dead := deadLetters(redis)
		result.count(acknowledged, target, dead)
		if result.lost == 0 || time.Now().After(deadline) {
			break
		}
	}
	if s.loses && result.lost > 0 {
		result.lost -= pending(redis) // those are late, not lost
	}
	if !s.loses {
		result.kept = kept(t, redis)
	}
	return result
}

// kept is the account that the receivers kept in Redis.
func kept(t *testing.T, redis *redistest.Server) stream.Account {
	t.Helper()
	s := stream.New("ns", "hook", "auditor")
	if err := s.Connect(t.Context(), redis.URL(), nil); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := s.Accounts(t.Context(), []string{"crm"})
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func (a *account) count(acknowledged map[string]bool, target *moodyTarget, dead map[string]bool) {
	target.mu.Lock()
	defer target.mu.Unlock()
	a.delivered, a.dead, a.lost, a.deliveries = 0, 0, 0, target.deliveries
	for id := range acknowledged {
		switch {
		case target.got[id]:
			a.delivered++
		case dead[id]:
			a.dead++
		default:
			a.lost++
		}
	}
}

// moodyTarget takes most events, refuses some forever, fails others for now, and hangs up on a few.
type moodyTarget struct {
	*httptest.Server
	mu         sync.Mutex
	chance     *rand.Rand
	got        map[string]bool // event_data.id
	ids        map[string]string
	deliveries int
	well       bool
}

func newMoodyTarget(t *testing.T, seed uint64) *moodyTarget {
	m := &moodyTarget{chance: rand.New(rand.NewPCG(seed, 1)), got: map[string]bool{}, ids: map[string]string{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e struct {
			Data struct {
				ID json.Number `json:"id"`
			} `json:"event_data"`
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &e) != nil {
			return // cut short by a kill
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		id, eventID := e.Data.ID.String(), r.Header.Get(target.HeaderID)
		if before, seen := m.ids[id]; seen && before != eventID {
			t.Errorf("event %s came as %s and as %s", id, before, eventID)
		}
		m.ids[id] = eventID
		switch mood := m.chance.IntN(100); {
		case m.well || mood < 75:
			m.got[id] = true
			m.deliveries++
		case mood < 76:
			w.WriteHeader(http.StatusUnprocessableEntity)
		case mood < 96:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *moodyTarget) recover() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.well = true
}

func deadLetters(redis *redistest.Server) map[string]bool {
	dead := map[string]bool{}
	out, err := redis.Do("XRANGE", "hmw:{ns/hook}:dead:crm", "-", "+")
	if err != nil {
		return dead
	}
	for line := range strings.Lines(out) {
		if _, rest, ok := strings.Cut(line, `"event_data":{"id":`); ok {
			id, _, _ := strings.Cut(rest, ",")
			dead[id] = true
		}
	}
	return dead
}

func pending(redis *redistest.Server) int {
	out, err := redis.Do("XLEN", "hmw:{ns/hook}:q:crm:general")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(out)
	return n
}

// receiver is one of those that are killed.
type receiver struct {
	*receiverprocess.Pod
	t      *testing.T
	client *http.Client
}

func newReceiver(t *testing.T, binary, redisURL, targetURL string) *receiver {
	p := receiverprocess.New(t, binary)
	p.Configure(config.Config{
		Webhook: config.Webhook{Namespace: "ns", Name: "hook"}, Paths: []string{path}, MaxBacklog: backlog, MaxBacklogBytes: -1, TokenFiles: []string{p.Write("token", "t")},
		Targets: []config.Target{{
			Name: "crm", URL: targetURL, Timeout: config.Duration(time.Second),
			Retry: config.Retry{MinBackoff: config.Duration(20 * time.Millisecond), MaxBackoff: config.Duration(time.Second), MaxAttempts: 100},
		}},
	}, redisURL)
	return &receiver{Pod: p, t: t, client: &http.Client{Timeout: 10 * time.Second}}
}

func (r *receiver) start() { r.Start("--log-level", "error") }

// post sends one event and reports whether it was acknowledged.
func (r *receiver) post(id int64, text string) bool {
	body := fmt.Sprintf(`{"type":"message_sent","id":1,"token":"t","event_data":{"id":%d,"text":%q}}`, id, text)
	status, _, _ := r.Post(r.client, path, "application/json", body)
	return status == http.StatusOK
}

// build compiles the receiver, with a mistake in its append script where one is given.
func build(t *testing.T, mistake func(*testing.T, string) string) string {
	t.Helper()
	if mistake == nil {
		return receiverprocess.Build(t, receiverprocess.Raced)
	}
	original, err := filepath.Abs("../../../internal/receiver/stream/append.lua")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(original) //nolint:gosec // a file of this repository
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	broken, overlay := filepath.Join(dir, "append.lua"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: broken}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{broken: []byte(mistake(t, string(script))), overlay: replace} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return receiverprocess.Build(t, "-overlay", overlay)
}
