// Package redistest starts real Redis servers for tests, on loopback ports of their own, and ends them with the test.
package redistest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"heymarket.dev/operator/internal/testenv"
)

// Server is one Redis, append-only and without eviction, as the product requires.
type Server struct {
	t    testing.TB
	addr string
	dir  string
	args []string
	// program replaces the options of the Redis process; for Sentinel.
	program []string
	cmd     *exec.Cmd
}

// Start runs a Redis until the test ends. Without redis-server it skips the test, or fails it if HEYMARKET_REQUIRE_ALL
// is set, as `make test` does. args are further options, such as "--maxmemory", "10mb".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("HEYMARKET_REQUIRE_ALL") != "" {
			t.Fatal("redis-server is missing; `make test` installs it, or: apt-get install redis-server")
		}
		t.Skip("left out: redis-server is missing; `make test` installs it and leaves nothing out")
	}
	return start(t, testenv.FreeAddress(t), args...)
}

func start(t testing.TB, address string, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, addr: address, dir: t.TempDir(), args: args}
	s.Run()
	t.Cleanup(s.Kill)
	return s
}

// URL returns the URL for a receiver.
func (s *Server) URL() string { return "redis://" + s.addr }

// Dir returns the directory of the server's files.
func (s *Server) Dir() string { return s.dir }

// Addr returns host and port.
func (s *Server) Addr() string { return s.addr }

// Run starts the server again after Kill, with its data, and waits until it answers.
func (s *Server) Run() {
	s.t.Helper()
	log := s.begin(s.args)
	for deadline := time.Now().Add(10 * time.Second); ; {
		answer, err := s.Do("PING")
		if err == nil && answer == "PONG" {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log)
			s.t.Fatalf("redis-server does not answer: %s %v\n%s", answer, err, text)
		}
		time.Sleep(10 * time.Millisecond) // the server does not report that it is up, so it must be polled
	}
}

// RunLoading starts the server again after Kill, so that loading its data takes perKey for each key. It answers
// -LOADING until then.
func (s *Server) RunLoading(perKey time.Duration) {
	s.t.Helper()
	s.begin(append(slices.Clone(s.args), "--loading-process-events-interval-bytes", "1024",
		"--key-load-delay", strconv.FormatInt(perKey.Microseconds(), 10)))
	s.await("LOADING", "PING")
}

// Freeze suspends the server process: it answers nothing until Thaw, and then everything.
func (s *Server) Freeze() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// begin starts the process and returns the file that it logs to.
func (s *Server) begin(more []string) (log string) {
	s.t.Helper()
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	log = filepath.Join(s.dir, "redis.log")
	place := []string{"--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--logfile", log}
	args := append([]string{
		// With everysec, Redis delays writing its file for up to two seconds while an fsync is in progress, and still
		// answers: a SIGKILL at that moment loses what it has confirmed.
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction",
	}, more...)
	if s.program != nil {
		args = s.program
	}
	args = append(args, place...)
	// Not the test's context: the server must outlive it, for cleanups that still need it.
	s.cmd = exec.CommandContext(context.Background(), "redis-server", args...)
	testenv.EndWithTest(s.cmd)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return log
}

// Kill stops the server as a crash would, by SIGKILL.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Do runs one command with redis-cli and returns its output.
func (s *Server) Do(args ...string) (string, error) {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(context.Background(), "redis-cli", append([]string{"-e", "-h", host, "-p", port}, args...)...).CombinedOutput()
	text := string(out)
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
	}
	return text, err
}

// MustDo is Do for commands that must succeed.
func (s *Server) MustDo(args ...string) string {
	s.t.Helper()
	out, err := s.Do(args...)
	if err != nil {
		s.t.Fatalf("redis-cli %v: %v: %s", args, err, out)
	}
	return out
}

// AppendOnlyFile returns the file that holds every write since the server's first start.
func (s *Server) AppendOnlyFile() string {
	s.t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(names) != 1 {
		s.t.Fatalf("append-only files: %v, %v", names, err)
	}
	return names[0]
}
