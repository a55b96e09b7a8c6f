// Package receiverprocess runs receivers for tests as a cluster does: as processes, with the files that a Pod would mount.
package receiverprocess

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/testenv"
)

// Pod is one receiver, which may be ended and started again. Make it with New.
type Pod struct {
	// Events and Operations are the addresses that it listens on.
	Events, Operations string
	// Env is added to the test's own environment.
	Env []string
	// Log gets what it prints; nil drops it.
	Log io.Writer

	t      testing.TB
	binary string
	dir    string
	cmd    *exec.Cmd
	cgroup memoryFiles
}

// Raced is the flag of Build for a receiver that looks for data races. One that it finds fails the test.
const Raced = "-race"

// Build compiles the receiver with these flags of go build besides, and returns the path of the binary.
func Build(t testing.TB, flags ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "receiver")
	args := append([]string{"build", "-o", binary}, flags...)
	build := exec.CommandContext(t.Context(), "go", append(args, "./cmd/receiver")...)
	build.Dir = root(t) // with the dependencies of the product, not with those of its tests
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the receiver: %v\n%s", err, out)
	}
	return binary
}

func root(t testing.TB) string {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// New returns a Pod of the binary, without files and not started.
func New(t testing.TB, binary string) *Pod {
	t.Helper()
	return &Pod{Events: testenv.FreeAddress(t), Operations: testenv.FreeAddress(t), t: t, binary: binary, dir: t.TempDir()}
}

// Write makes or replaces a file at once, as the kubelet does, and returns its path.
func (p *Pod) Write(name, content string) string {
	p.t.Helper()
	file := filepath.Join(p.dir, name)
	if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		p.t.Fatal(err)
	}
	return file
}

// Configure writes the configuration, to which it adds the Redis, and that targets may be on loopback.
func (p *Pod) Configure(c config.Config, redisURL string) {
	p.t.Helper()
	c.RedisURLFile = p.Write("redis-url", redisURL)
	c.Addresses.AllowLoopback = true
	raw, err := config.Encode(c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Write("config.json", string(raw))
}

// Start runs it with these flags besides, until End or the end of the test. It does not wait for it to be ready.
func (p *Pod) Start(flags ...string) {
	p.t.Helper()
	args := append([]string{
		"--config", filepath.Join(p.dir, "config.json"), "--listen", p.Events, "--ops-listen", p.Operations, "--admin-listen", "", "--drain-delay", "0s",
	}, flags...)
	races := filepath.Join(p.dir, "race")
	if p.cmd == nil {
		p.t.Cleanup(func() {
			p.End(os.Kill)
			p.reportRaces(races)
		})
	}
	program, args := p.confined(p.binary, args)
	p.cmd = exec.CommandContext(context.Background(), program, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.Log, p.Log
	testenv.EndWithTest(p.cmd)
	p.cmd.Env = append(append(os.Environ(), "GORACE=log_path="+races), p.Env...)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// reportRaces fails the test where a receiver that was built with Raced has found a data race: it writes each into a file as it happens.
func (p *Pod) reportRaces(prefix string) {
	files, err := filepath.Glob(prefix + ".*")
	if err != nil {
		p.t.Error(err)
	}
	for _, file := range files {
		report, err := os.ReadFile(file) //nolint:gosec // in a folder of this test
		if err != nil {
			p.t.Error(err)
		}
		p.t.Errorf("a receiver has a data race:\n%s", report)
	}
}

// AwaitReady waits until it is ready, 20 seconds at most.
func (p *Pod) AwaitReady() {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		status, said := p.Get("/readyz")
		if status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the receiver is not ready: %d %s", status, said)
		}
	}
}

// End sends it the signal, and waits for its end.
func (p *Pod) End(by os.Signal) {
	_ = p.cmd.Process.Signal(by)
	_ = p.cmd.Wait() // the exit status is that of the requested signal
}

// PID is the number of its process.
func (p *Pod) PID() int { return p.cmd.Process.Pid }

// Get asks it for one of its pages for operations, and returns the answer's status, 0 if there is none, and body.
func (p *Pod) Get(path string) (status int, body string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+p.Operations+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	status, body, _ = do(http.DefaultClient, req)
	return status, body
}

// Post sends it an event by the client, and returns the answer's status and body.
func (p *Pod) Post(client *http.Client, path, contentType, event string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+p.Events+path, strings.NewReader(event))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", contentType)
	return do(client, req)
}

func do(client *http.Client, req *http.Request) (status int, body string, err error) {
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}
