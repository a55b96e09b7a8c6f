// Package rotation replaces the password of a namespace's Redis user again and again while receivers of that namespace take in and
// deliver events: none is refused, and none is lost. ROTATIONS sets how many (default 3).
package rotation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/redisusers"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
	"heymarket.dev/operator/internal/testenv"
	"heymarket.dev/operator/test/support/receiverprocess"
)

const (
	path               = "/ns/hook/abcdefghijklmnopqrstuvwxyz"
	namespace, webhook = "ns", "hook"
	senders            = 4
)

func TestARotationUnderLoadRefusesAndLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: a rotation takes seconds; run without -short")
	}
	rotations := testenv.Number(t, "ROTATIONS", 3, 1)
	redis := redistest.Start(t)
	redis.MustDo("ACL", "SETUSER", "admin", "on", ">root", "~*", "&*", "+@all")
	redis.MustDo("ACL", "SETUSER", "default", "off")
	var handed atomic.Value // the URL that receivers are to have
	users, first := manage(t, strings.Replace(redis.URL(), "redis://", "redis://admin:root@", 1), &handed)

	target := newTarget(t)
	binary := receiverprocess.Build(t, receiverprocess.Raced)
	pods := make([]*receiverprocess.Pod, 3)
	for i := range pods {
		pods[i] = receiverprocess.New(t, binary)
		pods[i].Configure(config.Config{
			Webhook: config.Webhook{Namespace: namespace, Name: webhook}, Paths: []string{path}, TokenFiles: []string{pods[i].Write("token", "a-token")},
			Targets: []config.Target{{Name: "crm", URL: target.URL}},
		}, first)
		pods[i].Start("--reread-interval", "50ms")
		pods[i].AwaitReady()
	}

	sending, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var sent atomic.Int64
	for i := range senders {
		load.Go(func() {
			client := &http.Client{Timeout: 20 * time.Second}
			for sending.Err() == nil {
				id := sent.Add(1)
				body := fmt.Sprintf(`{"type":"message_sent","id":1,"token":"a-token","event_data":{"id":%d}}`, id)
				if status, text, err := pods[i%2].Post(client, path, "application/json", body); err != nil || status != http.StatusOK {
					t.Errorf("event %d was answered %d %q, %v", id, status, text, err)
				}
			}
		})
	}

	old := first
	for n := range rotations {
		next := awaitOther(t, &handed, old)
		// A Pod that starts while the kubelet has not brought the new password logs in by the old one.
		pods[2].End(os.Interrupt)
		pods[2].Start("--reread-interval", "50ms")
		pods[2].AwaitReady()
		before := sent.Load()
		for i, p := range pods {
			p.Write("redis-url", next)
			report(t, users, pods[:i+1], next, i == len(pods)-1) // until all have it, the old one stays valid
		}
		awaitWithdrawn(t, old)
		t.Logf("rotation %d: %d events meanwhile", n+1, sent.Load()-before)
		old = next
	}
	stop()
	load.Wait()
	for deadline := time.Now().Add(30 * time.Second); target.distinct() < int(sent.Load()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d acknowledged events were delivered", target.distinct(), sent.Load())
		}
	}
	t.Logf("%d rotations, %d events: none refused, none lost", rotations, sent.Load())
}

// manage keeps the users of that Redis, with passwords that are replaced every second or two, and returns the first URL.
func manage(t *testing.T, admin string, handed *atomic.Value) (*redisusers.Users, string) {
	t.Helper()
	users := redisusers.New(redisusers.Options{
		Server: func() redisusers.Server { return redisusers.Server{URL: admin} },
		Owner:  "heymarket-system",
		Webhooks: func(context.Context) (map[string][]string, error) {
			return map[string][]string{namespace: {webhook}}, nil
		},
		HandedOut: func(context.Context, string, []string) []string {
			return nil
		},
		RotateAfter: time.Second, Period: 50 * time.Millisecond, Grace: time.Hour,
		Log: logr.Discard(),
	})
	handed.Store("")
	users.OnChange(func([]string) {
		if url, err := users.URL(namespace); err == nil {
			handed.Store(url)
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = users.Start(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	return users, awaitOther(t, handed, "")
}

// awaitOther waits until receivers are to have another URL than that.
func awaitOther(t *testing.T, handed *atomic.Value, than string) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if url := handed.Load().(string); url != than {
			return url
		}
		if time.Now().After(deadline) {
			t.Fatal("no new password within 30 seconds")
		}
	}
}

// report acts as the operator: it polls the Pods until all of these have the URL, and forwards their reports.
func report(t *testing.T, users *redisusers.Users, pods []*receiverprocess.Pod, url string, all bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		have := 0
		for _, p := range pods {
			var s contract.Status
			if _, text := p.Get(contract.StatusPath); json.Unmarshal([]byte(text), &s) == nil && s.RedisURLDigest == contract.RedisURLDigest(url) {
				have++
			}
		}
		if have == len(pods) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d Pods use the new password after 30 seconds", have, len(pods))
		}
	}
	users.Reported(namespace, webhook, url, all, false)
}

func awaitWithdrawn(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		s := stream.New(namespace, webhook, "probe")
		err := s.Connect(t.Context(), url, nil)
		s.Close()
		if err != nil {
			return
		}
	}
	t.Fatal("the old password is still valid")
}

// target counts the events that it gets.
type target struct {
	*httptest.Server
	mu  sync.Mutex
	ids map[string]bool
}

func newTarget(t *testing.T) *target {
	t.Helper()
	out := &target{ids: map[string]bool{}}
	out.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		out.mu.Lock()
		defer out.mu.Unlock()
		out.ids[r.Header.Get("Webhook-Id")] = true
	}))
	t.Cleanup(out.Close)
	return out
}

func (t *target) distinct() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ids)
}
