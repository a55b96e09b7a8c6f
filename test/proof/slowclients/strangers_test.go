package slowclients

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/test/support/receiverprocess"
)

// Strangers without a token do whatever costs a receiver most, each in one way, within the memory of its container. It stays
// alive and ready, and rejects no valid delivery. One delivery may get no answer: on a busy machine the sender itself is too
// late, and is displaced; Heymarket sends again. With SIEGE_CONNECTIONS there are as many strangers as in
// docs/reference/performance.md.
func TestStrangersAtTheDoorsOfAPod(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: it takes ten seconds; run without -short")
	}
	p := thePlan(t)
	many, patience := func(full int) int { return full }, 1
	if p.bound > 0 { // a small siege, on a machine that may be busy
		many, patience = func(full int) int { return full / 50 }, 10
	}
	binary := receiverprocess.Build(t)
	for _, tc := range []struct {
		name   string
		number int
		come   func(ctx context.Context, r *receiver, i int)
	}{
		{"3,000 bodies less a byte", many(3000), lessAByte},
		{"10,000 bodies less a byte", many(10_000), lessAByte},
		{"400 loops on status", many(400), askStatus},
		{"1,500 that ask for nothing and stay", many(1500), askForNothing},
	} {
		t.Run(tc.name, func(t *testing.T) { //nolint:paralleltest // each has the machine for itself
			redis := redistest.Start(t)
			target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			t.Cleanup(target.Close)
			r := startReceiver(t, binary, redis.URL(), target.URL, 0)
			s := &sender{t: t, receiver: r, interval: 4 * p.interval}
			quiet := s.send(p.phase / 2)
			ctx, leave := context.WithCancel(t.Context())
			var strangers sync.WaitGroup
			for i := range tc.number {
				strangers.Go(func() { tc.come(ctx, r, i) })
			}
			probed := make(chan latencies, 1)
			go func() { probed <- r.probe(ctx, patience) }()
			under := s.send(p.phase)
			leave()
			asked := <-probed
			strangers.Wait()
			if status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID())); !bytes.Contains(status, []byte("VmHWM")) {
				t.Fatal("the receiver has ended, as one that takes more memory than its container has")
			}
			t.Logf("%d strangers: good deliveries p50 %v, p99 %v, at most %v (quiet: %v, %v, %v), %d of %d without an answer; %d probes, at most %v; memory: %d MiB, in the cgroup %d MiB",
				tc.number, under.at(50), under.at(99), under.at(100), quiet.at(50), quiet.at(99), quiet.at(100), s.unanswered.Load(), s.sent.Load(),
				len(asked), asked.at(100), r.memory("VmHWM")>>20, r.ConfinedPeak()>>20)
			if n := s.refused.Load(); n != 0 {
				t.Errorf("%d good deliveries were refused: %v", n, s.firstRefusal.Load())
			}
			if n := s.unanswered.Load(); n > s.sent.Load()/4 {
				t.Errorf("%d of %d good deliveries got no answer: %v", n, s.sent.Load(), s.firstRefusal.Load())
			}
		})
	}
}

// probes are those of the container: the bound on an answer, and how many failures in a row the kubelet acts upon.
var probes = []struct {
	page    string
	bound   time.Duration
	failing int
}{{"/readyz", 2 * time.Second, 2}, {"/healthz", 5 * time.Second, 3}}

// probe asks as the kubelet does, only more often, until ctx ends. The bounds on answers are multiplied by patience.
func (r *receiver) probe(ctx context.Context, patience int) latencies {
	var all latencies
	failed := map[string]int{}
	for ctx.Err() == nil {
		for _, p := range probes {
			began := time.Now()
			// A process of its own: the goroutines of this one wait for each other while they besiege.
			answer, err := exec.Command("curl", "--silent", "--show-error", "--fail", "--max-time", fmt.Sprint(p.bound.Seconds()*float64(patience)), "http://"+r.Operations+p.page).CombinedOutput()
			all = append(all, time.Since(began))
			if err == nil {
				failed[p.page] = 0
				continue
			}
			if failed[p.page]++; failed[p.page] == p.failing {
				r.t.Errorf("%s failed %d times in a row, the last time with %s", p.page, p.failing, answer)
			} else {
				r.t.Logf("GET %s: %s", p.page, answer)
			}
		}
		sleep(ctx, 100*time.Millisecond)
	}
	slices.Sort(all)
	return all
}

// lessAByte sends all of the longest body that is accepted but its last byte, and stays until it is hung up on.
func lessAByte(ctx context.Context, r *receiver, i int) {
	const length = 1 << 20
	conn, err := dial(ctx, r.Events, i)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	leave := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer leave()
	body := strings.Repeat(" ", 64<<10)
	_, err = fmt.Fprintf(conn, post+"Content-Length: %d\r\n\r\n", length)
	for sent := 0; err == nil && sent < length-1; sent += len(body) {
		_, err = io.WriteString(conn, body[:min(len(body), length-1-sent)])
	}
	if err == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}

// askStatus asks for /status as often as it can.
func askStatus(ctx context.Context, r *receiver, i int) {
	loop(ctx, i, "http://"+r.Operations+"/status")
}

// askForNothing sends requests for an unknown webhook to the events port, over connections that it would keep.
func askForNothing(ctx context.Context, r *receiver, i int) {
	loop(ctx, i, "http://"+r.Events+"/")
}

// loop asks again and again, over as few connections as the receiver allows.
func loop(ctx context.Context, i int, url string) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return dial(ctx, address, i)
	}}}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			sleep(ctx, 10*time.Millisecond)
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}
