package receiver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// The Pod that removes the keys reads only the Redis settings, and reports when it is done.
func TestRemoveKeysReportsHowFarItIs(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	for _, key := range []string{"hmw:{staging/support}:q:crm:general", "hmw:{staging/support}:dead:crm", "hmw:{staging/support-2}:targets"} {
		redis.MustDo("SET", key, "x")
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	encoded, err := config.Encode(config.Config{
		Webhook: config.Webhook{Namespace: "staging", Name: "support"}, Paths: []string{"/"},
		TokenFiles: []string{filepath.Join(dir, "gone")}, RedisURLFile: file("redis", redis.URL()),
		Targets: []config.Target{{Name: "crm", URL: "http://crm/"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	redis.Kill()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var logs bytes.Buffer // read when nothing writes to it any more
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- receiver.RemoveKeys(ctx, receiver.Options{
			ConfigFile: file("config.json", string(encoded)), Ops: l, Version: "v1", Log: slog.New(slog.NewTextHandler(&logs, nil)),
		})
	}()
	status := func() (s contract.Status) {
		resp, err := http.Get("http://" + l.Addr().String() + contract.StatusPath)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	until(t, "Redis is reported as unreachable", func() bool {
		s := status()
		return s.Removal != nil && !s.Removal.Done && slices.Contains(s.Problems, contract.RedisUnreachable)
	})
	redis.Run()
	until(t, "the keys are reported as removed", func() bool {
		s := status()
		return s.Removal.Done && s.Removal.Keys == 2 && s.ConfigDigest == config.Digest(encoded) && len(s.Problems) == 0
	})
	if left := redis.MustDo("KEYS", "*"); left != "hmw:{staging/support-2}:targets" {
		t.Errorf("left in Redis: %s", left)
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(logs.String()) {
		if !strings.Contains(line, "namespace=staging name=support") {
			t.Errorf("this line does not name its webhook: %s", line)
		}
	}
	if n := strings.Count(logs.String(), "cannot be removed"); n == 0 || n > 2 || strings.Count(logs.String(), "took_ms=") != 1 {
		t.Errorf("want a line for each cause, and one for the end:\n%s", logs.String())
	}
}
