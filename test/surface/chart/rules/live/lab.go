// Package live runs a receiver under load and scrapes it into a Prometheus database, so that dashboards and alerts can be tried on what a receiver really
// exposes. Everything is on loopback and ends with Close.
package live

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/tsdb"
)

// Lab is a receiver with its Redis, three targets, and a Prometheus database.
type Lab struct {
	// DB holds the scrapes.
	DB *tsdb.DB

	dir         string
	events, ops string // URLs
	broken      atomic.Bool
	cleanups    []func()
	client      *http.Client
	lastID      int64
}

const (
	token    = "the-token-that-is-in-force"
	previous = "the-token-of-before"
	path     = "/staging/support/abcdefghijklmnopqrstuvwxyz"
)

// Open starts the lab. Root is the product's checkout; redis-server has to be installed.
func Open(ctx context.Context, root string) (*Lab, error) {
	dir, err := os.MkdirTemp("", "heymarket-live-")
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir, client: &http.Client{Timeout: 10 * time.Second}, lastID: time.Now().UnixMicro()}
	l.cleanup(func() { _ = os.RemoveAll(dir) })
	if err := l.start(ctx, root); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close ends what was started.
func (l *Lab) Close() {
	for i := len(l.cleanups) - 1; i >= 0; i-- {
		l.cleanups[i]()
	}
}

func (l *Lab) cleanup(f func()) { l.cleanups = append(l.cleanups, f) }

func (l *Lab) start(ctx context.Context, root string) error {
	binary := filepath.Join(l.dir, "receiver")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/receiver")
	build.Dir = root
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the receiver: %w: %s", err, out)
	}
	redis, err := l.redis(ctx)
	if err != nil {
		return err
	}
	if err := l.configure(redis); err != nil {
		return err
	}
	events, ops := free(), free()
	l.events, l.ops = "http://"+events+path, "http://"+ops
	if err := l.process(exec.CommandContext(ctx, binary, "--config="+filepath.Join(l.dir, "config.json"), "--listen="+events, "--ops-listen="+ops, "--admin-listen=", "--drain-delay=0s")); err != nil {
		return fmt.Errorf("start the receiver: %w", err)
	}
	if err := l.await(ctx, "the receiver is not ready", func() bool { return l.status(ctx, l.ops+"/readyz") == http.StatusOK }); err != nil {
		return err
	}
	l.DB, err = tsdb.Open(filepath.Join(l.dir, "tsdb"), nil, nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	l.cleanup(func() { _ = l.DB.Close() })
	return nil
}

func (l *Lab) redis(ctx context.Context) (address string, err error) {
	address = free()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	data := filepath.Join(l.dir, "redis")
	if err := os.Mkdir(data, 0o700); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", data, "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction")
	if err := l.process(cmd); err != nil {
		return "", fmt.Errorf("start redis-server: %w", err)
	}
	return address, l.await(ctx, "redis-server does not answer", func() bool {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

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

// target answers the nth request of its life as it is told.
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

// process starts a program that does not outlive this one.
func (l *Lab) process(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return nil
}

func (l *Lab) status(ctx context.Context, url string) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	response, err := l.client.Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

func (l *Lab) await(ctx context.Context, complaint string, ask func() bool) error {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for !ask() {
		select {
		case <-limited.Done():
			return errors.New(complaint)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// free is a loopback address that nobody listens at.
func free() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
