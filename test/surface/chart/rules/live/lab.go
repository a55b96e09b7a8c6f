// Package live runs a receiver under load and scrapes it into a Prometheus database, so that dashboards and alerts can be tried on what a receiver really
// exposes. Everything is on loopback and ends with Close.
package live

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Lab is a receiver with its Redis, three targets, and a Prometheus database.
type Lab struct {
	lab
	events, ops string // URLs
	broken      atomic.Bool
	lastID      int64

	redis *exec.Cmd
}

const (
	token    = "the-token-that-is-in-force"
	previous = "the-token-of-before"
	path     = "/staging/support/abcdefghijklmnopqrstuvwxyz"
)

// Open starts the lab with a receiver's program, see Build; redis-server must be installed.
func Open(ctx context.Context, receiver string) (*Lab, error) {
	l := &Lab{lastID: time.Now().UnixMicro()}
	err := l.open()
	if err == nil {
		err = l.start(ctx, receiver)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context, receiver string) error {
	var redis string
	var err error
	if l.redis, redis, err = l.startRedis(ctx, "redis"); err != nil {
		return err
	}
	if err := l.configure(redis); err != nil {
		return err
	}
	events, ops := free(), free()
	l.events, l.ops = "http://"+events+path, "http://"+ops
	cmd := exec.CommandContext(ctx, receiver, "--config="+filepath.Join(l.dir, "config.json"), "--listen="+events, "--ops-listen="+ops, "--admin-listen=", "--drain-delay=0s")
	log, err := os.Create(filepath.Join(l.dir, "receiver.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := l.process(cmd); err != nil {
		return fmt.Errorf("start the receiver: %w", err)
	}
	return l.await(ctx, "the receiver is not ready", func() bool { return l.status(ctx, l.ops+"/readyz") == http.StatusOK })
}

func (l *Lab) startRedis(ctx context.Context, folder string) (cmd *exec.Cmd, address string, err error) {
	address = free()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	data := filepath.Join(l.dir, folder)
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, "", err
	}
	cmd = exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", data, "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction")
	if err := l.process(cmd); err != nil {
		return nil, "", fmt.Errorf("start redis-server: %w", err)
	}
	return cmd, address, l.await(ctx, "redis-server does not answer", func() bool {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// FollowAnother makes Redis the replica of another one, which is well.
func (l *Lab) FollowAnother(ctx context.Context) error {
	_, primary, err := l.startRedis(ctx, "primary")
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(primary)
	if err != nil {
		return err
	}
	if err := l.Redis(ctx, "REPLICAOF", host, port); err != nil {
		return err
	}
	return l.await(ctx, "Redis does not follow", func() bool {
		role, err := exec.CommandContext(ctx, "redis-cli", "-p", l.port(), "INFO", "replication").Output()
		return err == nil && strings.Contains(string(role), "master_link_status:up")
	})
}

func (l *Lab) port() string { return l.redis.Args[slices.Index(l.redis.Args, "--port")+1] }

// configure writes what the operator would: a target that is well, one that breaks for a while, and one that refuses some events for good.
func (l *Lab) configure(redis string) error {
	well := l.target(func(int64) int { return http.StatusOK })
	breaks := l.target(func(int64) int {
		if l.broken.Load() {
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	})
	refuses := l.target(func(n int64) int {
		if n%20 == 0 {
			return http.StatusUnprocessableEntity
		}
		return http.StatusAccepted
	})
	const retry = `{"maxAttempts": 16, "minBackoff": "100ms", "maxBackoff": "1s", "maxAge": "1h0m0s"}`
	for name, content := range map[string]string{
		"token": token, "previous": previous, "redis-url": "redis://" + redis,
		"config.json": fmt.Sprintf(`{"version": 1, "webhook": {"namespace": "staging", "name": "support"}, "paths": [%q],
			"tokenFiles": [%q, %q], "redisURLFile": %q, "deduplication": {"window": "96h0m0s"}, "addresses": {"allowLoopback": true}, "logLevel": "error",
			"targets": [{"name": "crm", "url": %q, "retry": %s}, {"name": "erp", "url": %q, "retry": %s}, {"name": "archive", "url": %q, "retry": %s}]}`,
			path, filepath.Join(l.dir, "token"), filepath.Join(l.dir, "previous"), filepath.Join(l.dir, "redis-url"), well, retry, breaks, retry, refuses,
			`{"maxAttempts": 2, "minBackoff": "50ms", "maxBackoff": "100ms", "maxAge": "1h0m0s"}`),
	} {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// target answers its nth request as programmed.
func (l *Lab) target(answer func(n int64) int) string {
	var count atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := count.Add(1)
		time.Sleep(time.Duration(n%7) * time.Millisecond) // as long as a target takes: what is measured should differ
		w.WriteHeader(answer(n))
	}))
	l.cleanup(server.Close)
	return server.URL
}

// Redis runs one command of redis-cli.
func (l *Lab) Redis(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "redis-cli", append([]string{"-e", "-p", l.port()}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("redis-cli %v: %w: %s", args, err, out)
	}
	return nil
}

// SignalRedis sends the server a signal: SIGSTOP silences it, SIGKILL ends it.
func (l *Lab) SignalRedis(s os.Signal) error { return l.redis.Process.Signal(s) }

// Status is the receiver's /status, unparsed.
func (l *Lab) Status(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.ops+"/status", nil)
	if err != nil {
		return nil, err
	}
	response, err := l.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// Log is the receiver's log, which contains only errors.
func (l *Lab) Log() (string, error) {
	text, err := os.ReadFile(filepath.Join(l.dir, "receiver.log"))
	return string(text), err
}

// Event sends a genuine event and returns the answer's status, 0 for none.
func (l *Lab) Event(ctx context.Context) int {
	l.lastID++
	return l.post(ctx, fmt.Sprintf(`{"type": "message_recieved", "id": 4711, "token": %q, "event_data": {"id": %d}}`, token, l.lastID))
}
