package controller

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/receiver"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// realReceiver runs a receiver of this build and returns what asks it, and the address of its operations port.
func realReceiver(t *testing.T, redisURL string) (pods *HTTPPodStatus, ops netip.AddrPort) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	encoded, err := config.Encode(config.Config{
		Webhook: config.Webhook{Namespace: "staging", Name: "support"}, Paths: []string{"/in"},
		TokenFiles: []string{file("token", canary)}, RedisURLFile: file("redis", redisURL),
		Targets: []config.Target{{Name: "crm", URL: "http://127.0.0.1:1/"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener := func() net.Listener {
		t.Helper()
		var listen net.ListenConfig
		l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	o := receiver.Options{
		ConfigFile: file("config.json", string(encoded)), Events: listener(), Ops: listener(), Version: "v1", Consumer: "a",
		RereadInterval: time.Hour, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	r, err := receiver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	ops = netip.MustParseAddrPort(o.Ops.Addr().String())
	pods = unchecked(NewHTTPPodStatus(nil))
	pods.port = ops.Port()
	return pods, ops
}

// gauge returns the value of a metric that has no labels but those of its webhook.
func gauge(t *testing.T, ops netip.AddrPort, name string) string {
	t.Helper()
	resp, err := http.Get("http://" + ops.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, found := strings.CutPrefix(line, name+`{namespace="staging",webhook="support"} `); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Metrics, /status and the condition come from one verdict: all of them show every problem of a real Redis.
func TestTroubleWithRedisIsInEveryReport(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*redistest.Server) {
		return func(r *redistest.Server) { r.MustDo("CONFIG", "SET", name, value) }
	}
	for name, tc := range map[string]struct {
		trouble, mend func(*redistest.Server)
		problem       contract.Problem
		up            string
		reason        string
	}{
		"full":             {set("maxmemory", "1"), set("maxmemory", "0"), contract.RedisFull, "0", v1alpha1.ReasonNotDurable},
		"too few replicas": {set("min-replicas-to-write", "1"), set("min-replicas-to-write", "0"), contract.RedisFewReplicas, "0", v1alpha1.ReasonNotDurable},
		"evicting":         {set("maxmemory-policy", "allkeys-lru"), set("maxmemory-policy", "noeviction"), contract.RedisEvicts, "1", v1alpha1.ReasonNotDurable},
		"forgetful":        {set("appendonly", "no"), set("appendonly", "yes"), contract.RedisForgets, "1", v1alpha1.ReasonNotDurable},
		"demoted": {
			func(r *redistest.Server) { r.MustDo("REPLICAOF", "127.0.0.1", "1") },
			func(r *redistest.Server) { r.MustDo("REPLICAOF", "NO", "ONE") }, contract.RedisReadOnly, "0", v1alpha1.ReasonNotDurable,
		},
		"without rights": {
			func(r *redistest.Server) { r.MustDo("ACL", "SETUSER", "default", "-set") },
			func(r *redistest.Server) { r.MustDo("ACL", "SETUSER", "default", "+set") }, contract.RedisNoRights, "0", v1alpha1.ReasonNotDurable,
		},
		"silent": {(*redistest.Server).Freeze, (*redistest.Server).Thaw, contract.RedisUnreachable, "0", v1alpha1.ReasonRedisUnreachable},
		"away":   {(*redistest.Server).Kill, (*redistest.Server).Run, contract.RedisUnreachable, "0", v1alpha1.ReasonRedisUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t)
			pods, ops := realReceiver(t, redis.URL())
			// What each of the three reports; "" as long as a report is missing.
			look := func() (s contract.Status, c *condition.Condition, gaugeDurable, up string) {
				t.Helper()
				s, err := pods.Report(t.Context(), PodAddress{Address: ops.Addr()})
				if err != nil {
					return contract.Status{}, &condition.Condition{}, "", "" // the Pod waits for Redis for longer than the operator waits for the Pod
				}
				return s, durable(s), gauge(t, ops, "heymarket_receiver_durable"), gauge(t, ops, "heymarket_receiver_redis_up")
			}
			good := func() string {
				s, c, durable, up := look()
				if s.Durable && s.Redis == contract.RedisOK && c.OK && durable == "1" && up == "1" {
					return ""
				}
				return fmt.Sprintf("status %+v, condition %+v, durable %q, redis_up %q; want no trouble", s, c, durable, up)
			}
			troubled := func() string {
				s, c, durable, up := look()
				if !s.Durable && slices.Contains(s.Problems, tc.problem) && (s.Redis == contract.RedisOK) == (tc.up == "1") &&
					!c.OK && c.Reason == tc.reason && strings.Contains(c.Message, tc.problem.Message()) && durable == "0" && up == tc.up {
					return ""
				}
				return fmt.Sprintf("status %+v, condition %+v, durable %q, redis_up %q; want %s in all of them, redis_up %s and %s", s, c, durable, up, tc.problem, tc.up, tc.reason)
			}
			await(t, good)
			tc.trouble(redis)
			await(t, troubled)
			tc.mend(redis)
			await(t, good)
		})
	}
}

// await asks until nothing is missing. Each report may be a second old, so two of them can differ for that long.
func await(t *testing.T, missing func() string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		what := missing()
		if what == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after a minute: %s", what)
		}
	}
}

func durable(s contract.Status) *condition.Condition {
	return condition.Durable(condition.Facts{Webhook: &v1alpha1.HeymarketWebhook{}, Reports: []contract.Status{s}}, condition.Writes{})
}
