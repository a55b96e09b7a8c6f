package receiver_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// redisFault is one way in which Redis, or the way to it, fails.
type redisFault struct {
	name string
	// answer is the status of events during the fault; 0: it varies.
	answer int
	// redis are further options of redis-server.
	redis []string
	// provoke causes the fault, and returns a function that ends it.
	provoke func(*testing.T, *redistest.Server, *redistest.Proxy) (mend func())
}

// general is the queue of the events that sample makes.
const general = "hmw:{staging/support}:q:crm:general"

// set changes a setting of Redis and returns what sets it back.
func set(name, broken, good string) func(*testing.T, *redistest.Server, *redistest.Proxy) func() {
	return func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		r.MustDo("CONFIG", "SET", name, broken)
		return func() { r.MustDo("CONFIG", "SET", name, good) }
	}
}

// network lets the network fail.
func network(f redistest.Failure) func(*testing.T, *redistest.Server, *redistest.Proxy) func() {
	return func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy) func() {
		p.Fail(f)
		return func() { p.Fail(redistest.Mended) }
	}
}

var redisFaults = []redisFault{
	{name: "OOM: memory is full", answer: 503, provoke: set("maxmemory", "1", "0")},
	{name: "WRONGTYPE: a key is of another type", answer: 503, provoke: func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		r.MustDo("EVAL", `redis.call('RENAME', KEYS[1], KEYS[2]) return redis.call('SET', KEYS[1], 'x')`, "2", general, "aside")
		return func() { r.MustDo("RENAME", "aside", general) }
	}},
	{name: "NOSCRIPT: scripts are flushed all the time", answer: 200, provoke: func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		r.MustDo("SCRIPT", "FLUSH")
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = r.Do("SCRIPT", "FLUSH")
				}
			}
		})
		return func() { close(stop); wg.Wait() }
	}},
	{name: "READONLY: it has become a replica", answer: 503, provoke: func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		r.MustDo("REPLICAOF", "127.0.0.1", "1")
		return func() { r.MustDo("REPLICAOF", "NO", "ONE") }
	}},
	{name: "LOADING: it has restarted and reads its file", answer: 503, provoke: func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		r.MustDo("EVAL", `for i = 1, 8000 do redis.call('SET', 'filler' .. i, 'x') end`, "0")
		r.Kill()
		r.RunLoading(200 * time.Microsecond)
		return func() {}
	}},
	{name: "BUSY: a script does not end", answer: 503, redis: []string{"--busy-reply-threshold", "10"}, provoke: func(t *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = r.Do("EVAL", "while true do end", "0")
		}()
		until(t, "busy", func() bool { said, _ := r.Do("PING"); return strings.Contains(said, "BUSY") })
		return func() {
			r.MustDo("SCRIPT", "KILL")
			<-ended
		}
	}},
	{name: "MISCONF: it cannot save", answer: 503, redis: []string{"--save", "3600 1"}, provoke: func(t *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		// A save ends by giving its file the right name, which is taken.
		taken := filepath.Join(r.Dir(), "dump.rdb")
		if err := os.MkdirAll(filepath.Join(taken, "full"), 0o700); err != nil {
			t.Fatal(err)
		}
		saved := func(status string) {
			r.MustDo("BGSAVE")
			until(t, "a save is "+status, func() bool {
				return strings.Contains(r.MustDo("INFO", "persistence"), "rdb_last_bgsave_status:"+status)
			})
		}
		saved("err")
		return func() {
			if err := os.RemoveAll(taken); err != nil {
				t.Fatal(err)
			}
			saved("ok")
		}
	}},
	{name: "NOREPLICAS: too few replicas", answer: 503, provoke: set("min-replicas-to-write", "1", "0")},
	{name: "NOPERM: the user lost a right", answer: 503, provoke: func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		r.MustDo("ACL", "SETUSER", "default", "-evalsha", "-eval")
		return func() { r.MustDo("ACL", "SETUSER", "default", "+@all") }
	}},
	{name: "away", answer: 503, provoke: func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		r.Kill()
		return r.Run
	}},
	{name: "silent, and does what it was asked later", answer: 503, provoke: func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) func() {
		r.Freeze()
		return r.Thaw
	}},
	{name: "silent, and never did it", answer: 503, provoke: network(redistest.LosesRequests)},
	{name: "silent, and did it", answer: 503, provoke: network(redistest.LosesReplies)},
	{name: "cut off before it could do it", answer: 503, provoke: network(redistest.CutsRequests)},
	{name: "cut off while it was asked", answer: 503, provoke: network(redistest.CutsRequestsHalfway)},
	{name: "cut off after it did it", answer: 503, provoke: network(redistest.CutsReplies)},
}

// TestNothingIsLostByAnyErrorOfRedis causes each class of error while attempts are in flight, so that they settle
// into it, and while events come in. Every event answered with 200 is kept, and everything arrives once the error has ended.
func TestNothingIsLostByAnyErrorOfRedis(t *testing.T) {
	t.Parallel()
	for _, fault := range redisFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t, fault.redis...)
			proxy := redistest.StartProxy(t, redis)
			endure(t, proxy.URL(), fault.answer, func() func() { return fault.provoke(t, redis, proxy) })
		})
	}
}

// What endure sends first meets the fault when it settles, each in its way.
const (
	willBeDelivered = iota
	willBeTriedAgain
	willBeDead
	firstDuring // events from this number on come in during the fault
	events      = firstDuring + 5
)

// endure runs a receiver at redisURL through one fault.
func endure(t *testing.T, redisURL string, answer int, provoke func() func()) {
	to := newWaitingTarget(t)
	tgt := config.Target{
		Name: "crm", URL: to.URL, Timeout: config.Duration(3 * time.Second),
		Retry: config.Retry{MinBackoff: config.Duration(10 * time.Millisecond), MaxBackoff: config.Duration(50 * time.Millisecond), MaxAttempts: 100},
	}
	p := start(t, redisURL, newConfig(tgt))
	p.awaitReady()
	for n := range firstDuring {
		p.wantPost(sample(n), http.StatusOK)
	}
	until(t, "three attempts are under way", func() bool { return to.waiting() == firstDuring })

	mend := provoke()
	close(to.goOn)
	answers := p.postAll(t, events-firstDuring)
	mend()

	for n, status := range answers {
		if answer != 0 && status != answer {
			t.Errorf("event %d was answered %d, want %d", n, status, answer)
		}
	}
	// Heymarket sends again what was not answered 200.
	for n, status := range answers {
		until(t, "200 after all is well", func() bool {
			if status != http.StatusOK {
				resp, err := p.post(sample(n))
				if err != nil {
					return false
				}
				status = resp.StatusCode
			}
			return status == http.StatusOK
		})
	}
	// What Redis lent while its answer was lost comes back after a lease.
	eventually(t, time.Minute, "everything is delivered, one is dead and nothing waits", func() bool {
		_, status := p.get("/status")
		return to.delivered() == events-1 && strings.Contains(status, `"pending":0,"deadLetters":1`)
	})
	if _, metrics := p.get("/metrics"); !strings.Contains(metrics, `heymarket_receiver_events_unaccounted{target="crm"} 0`) {
		t.Errorf("the account of the target does not add up:\n%s", metrics)
	}
	t.Logf("%d events took %d deliveries; answers during the fault: %v", events-1, to.deliveries(), answers)
}

// postAll sends events from firstDuring on, all at once, and returns their answers by number.
func (p *process) postAll(t *testing.T, n int) map[int]int {
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		answers = map[int]int{}
	)
	for i := range n {
		wg.Go(func() {
			resp, err := p.post(sample(firstDuring + i))
			if err != nil {
				t.Errorf("no answer: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answers[firstDuring+i] = resp.StatusCode
		})
	}
	wg.Wait()
	return answers
}

// waitingTarget answers nothing until it may, and then each event in its way.
type waitingTarget struct {
	*httptest.Server
	goOn chan struct{}

	mu    sync.Mutex
	here  int
	got   map[int]int // number of the event → times that it was taken
	tried map[int]bool
}

func newWaitingTarget(t *testing.T) *waitingTarget {
	w := &waitingTarget{goOn: make(chan struct{}), got: map[int]int{}, tried: map[int]bool{}}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e struct {
			Data struct {
				ID int `json:"id"`
			} `json:"event_data"`
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		w.here++
		w.mu.Unlock()
		<-w.goOn
		w.mu.Lock()
		defer w.mu.Unlock()
		switch n := e.Data.ID; {
		case n == willBeDead:
			rw.WriteHeader(http.StatusUnprocessableEntity)
		case n == willBeTriedAgain && !w.tried[n]:
			w.tried[n] = true
			rw.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.got[n]++
		}
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *waitingTarget) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.here
}

func (w *waitingTarget) delivered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.got)
}

func (w *waitingTarget) deliveries() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, times := range w.got {
		n += times
	}
	return n
}

// The classes that only a cluster has.
func TestNothingIsLostByAnyErrorOfACluster(t *testing.T) {
	t.Parallel()
	t.Run("CLUSTERDOWN: a primary is gone", func(t *testing.T) {
		t.Parallel()
		nodes, url := redistest.StartCluster(t)
		other := 0 // a node that does not hold this webhook's slot
		if redistest.Owner(nodes, general) == other {
			other = 1
		}
		endure(t, url, 503, func() func() {
			nodes[other].Kill()
			until(t, "the cluster is down", func() bool {
				said, _ := nodes[2-other/2].Do("CLUSTER", "INFO")
				return strings.Contains(said, "cluster_state:fail")
			})
			return nodes[other].Run
		})
	})
	t.Run("MOVED, ASK and TRYAGAIN: the slot goes to another node", func(t *testing.T) {
		t.Parallel()
		nodes, url := redistest.StartCluster(t)
		endure(t, url, 503, func() func() {
			from := redistest.Owner(nodes, general)
			redistest.BeginMove(nodes, general, from, (from+1)%len(nodes))
			return func() { redistest.EndMove(nodes, general, from, (from+1)%len(nodes)) }
		})
	})
}
