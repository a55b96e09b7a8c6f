// Package slowclients holds a receiver under many slow and hostile connections at once, while good deliveries go on, and compares
// their latency with that of quiet minutes before and after. SIEGE_CONNECTIONS sets how many there are (default 1,000).
package slowclients

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/testenv"
	"heymarket.dev/operator/test/support/receiverprocess"
)

const (
	path  = "/ns/hook/abcdefghijklmnopqrstuvwxyz"
	token = "a-token-that-no-besieger-has"

	memoryLimit = 128 << 20
)

// plan is how large a siege is.
type plan struct {
	connections int           // at once
	bound       int           // --max-connections of the receiver
	interval    time.Duration // between good deliveries
	phase       time.Duration // each of: quiet, siege, quiet
	// percentile is the one that is judged: the 99th of few samples is the worst of them, which on a busy machine is arbitrary.
	percentile int
	// slack is by how much the percentile under siege may exceed twice the quiet one: on a busy machine few samples are unreliable.
	slack time.Duration
}

func thePlan(t *testing.T) plan {
	n := testenv.Number(t, "SIEGE_CONNECTIONS", 0, 100)
	if n == 0 {
		return plan{connections: 1000, bound: 200, interval: 20 * time.Millisecond, phase: 1500 * time.Millisecond, percentile: 95, slack: 250 * time.Millisecond}
	}
	return plan{connections: n, interval: 5 * time.Millisecond, phase: 20 * time.Second, percentile: 99}
}

func TestGoodDeliveriesPassASiege(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: a siege takes ten seconds; run without -short")
	}
	p := thePlan(t)
	redis := redistest.Start(t)
	var delivered atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		delivered.Add(1)
	}))
	t.Cleanup(target.Close)
	r := startReceiver(t, receiverprocess.Build(t), redis.URL(), target.URL, p.bound)

	s := &sender{t: t, receiver: r, interval: p.interval}
	s.send(time.Second) // what is done once is done now
	quiet := s.send(p.phase)
	idle := r.memory("VmRSS")
	siege := besiege(t, r.Events, p.connections)
	siege.awaitAll()
	under := s.send(p.phase)
	attempts, open := siege.attempts.Load(), siege.open.Load()
	displaced := r.metric("connections_displaced_total")
	peak := r.memory("VmHWM")
	siege.lift()
	r.awaitConnections(2) // the sender's own and nothing else
	after := s.send(p.phase)

	t.Logf("%d connections under siege, %d attempts, %s displaced, %d open at its end; p99 of good deliveries: quiet %v, siege %v (%.2f), after %v; "+
		"p50: %v, %v, %v; memory: %d MiB before, %d MiB at peak, %d MiB after",
		p.connections, attempts, displaced, open, quiet.at(99), under.at(99), float64(under.at(99))/float64(quiet.at(99)), after.at(99),
		quiet.at(50), under.at(50), after.at(50), idle>>20, peak>>20, r.memory("VmRSS")>>20)
	if attempts < int64(p.connections) {
		t.Errorf("%d attempts to connect, want at least %d: there was no siege", attempts, p.connections)
	}
	if displaced == "" || displaced == "0" {
		t.Errorf("%q connections were displaced: the receiver had room for all of them, so nothing is shown", displaced)
	}
	if n := s.refused.Load() + s.unanswered.Load(); n != 0 {
		t.Errorf("%d good deliveries were not answered 200: %v", n, s.firstRefusal.Load())
	}
	most := 2*quiet.at(p.percentile) + p.slack
	if is := under.at(p.percentile); is > most {
		t.Errorf("p%d under siege is %v, want at most %v", p.percentile, is, most)
	}
	if is := after.at(p.percentile); is > most {
		t.Errorf("p%d after the siege is %v, want at most %v", p.percentile, is, most)
	}
	if peak > memoryLimit {
		t.Errorf("the receiver took %d MiB, want at most %d", peak>>20, memoryLimit>>20)
	}
	for deadline := time.Now().Add(10 * time.Second); delivered.Load() < s.sent.Load(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d events were delivered", delivered.Load(), s.sent.Load())
		}
	}
}

// sender delivers good events at even intervals, whether the one before is answered or not: half of them over connections
// that it keeps, half over new ones.
type sender struct {
	t            *testing.T
	receiver     *receiver
	interval     time.Duration
	sent         atomic.Int64
	refused      atomic.Int64 // answered, and not with 200
	unanswered   atomic.Int64
	firstRefusal atomic.Value
}

type latencies []time.Duration

// at returns a percentile.
func (l latencies) at(percent int) time.Duration {
	return l[(len(l)-1)*percent/100].Round(10 * time.Microsecond)
}

func (s *sender) send(length time.Duration) latencies {
	kept := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	fresh := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	defer kept.CloseIdleConnections()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all latencies
	)
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for end := time.Now().Add(length); time.Now().Before(end); {
		due := <-ticker.C
		n := s.sent.Add(1)
		client := kept
		if n%2 == 0 {
			client = fresh
		}
		wg.Go(func() {
			if err := s.receiver.post(client, n); err != nil {
				if _, unanswered := errors.AsType[*url.Error](err); unanswered {
					s.unanswered.Add(1)
				} else {
					s.refused.Add(1)
				}
				s.firstRefusal.CompareAndSwap(nil, err.Error())
			}
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took)
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all
}

// receiver is the one under siege.
type receiver struct {
	*receiverprocess.Pod
	t *testing.T
}

func startReceiver(t *testing.T, binary, redisURL, targetURL string, bound int) *receiver {
	t.Helper()
	p := receiverprocess.New(t, binary)
	p.Configure(config.Config{
		Webhook: config.Webhook{Namespace: "ns", Name: "hook"}, Paths: []string{path}, TokenFiles: []string{p.Write("token", token)},
		Targets: []config.Target{{Name: "crm", URL: targetURL}},
	}, redisURL)
	var flags []string
	if bound > 0 {
		flags = []string{"--max-connections", strconv.Itoa(bound)}
	}
	if !p.Confine(memoryLimit) {
		t.Log("no cgroup can be made here: the kernel does not enforce the memory of a container")
	}
	p.Start(flags...)
	p.AwaitReady()
	return &receiver{Pod: p, t: t}
}

func (r *receiver) post(client *http.Client, id int64) error {
	body := fmt.Sprintf(`{"type":"message_sent","id":1,"token":%q,"event_data":{"id":%d,"text":"good"}}`, token, id)
	status, _, err := r.Post(client, path, "application/json", body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("answer %d", status)
	}
	return err
}

// memory returns a figure of /proc/PID/status in bytes: VmRSS is what the process has now, VmHWM the most that it had.
func (r *receiver) memory(figure string) int64 {
	r.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID()))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		fields := strings.Fields(string(line))
		if len(fields) == 3 && fields[0] == figure+":" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	r.t.Fatalf("the kernel does not tell %s", figure)
	return 0
}

func (r *receiver) metric(name string) string {
	r.t.Helper()
	_, text := r.Get("/metrics")
	_, after, _ := strings.Cut(text, "\nheymarket_receiver_"+name+`{namespace="ns",webhook="hook"} `)
	value, _, _ := strings.Cut(after, "\n")
	return value
}

func (r *receiver) awaitConnections(most int) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		n, err := strconv.ParseFloat(r.metric("connections"), 64)
		if err == nil && n <= float64(most) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("30 seconds after the siege %v connections are open, want at most %d", n, most)
		}
	}
}
