package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	redisURL     = "redis://redis.heymarket-system.svc:6379/0"
	image        = "registry.example.com/heymarket/operator:v1"
	hostTemplate = "{{.Namespace}}.hooks.example.com"
)

// manager is the operator's process. Its environment is that of config/manager.
type manager struct {
	cmd     *exec.Cmd
	metrics string
	began   time.Time
}

func startManager(ctx context.Context, c *cluster, dir, binary string) (*manager, error) {
	url := filepath.Join(dir, "redis-url")
	if err := os.WriteFile(url, []byte(redisURL), 0o600); err != nil {
		return nil, err
	}
	var ports [2]string
	for i := range ports {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		ports[i] = l.Addr().String()
		_ = l.Close()
	}
	log, err := os.OpenFile(filepath.Join(dir, "manager.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	m := &manager{metrics: "http://" + ports[0] + "/metrics", began: time.Now()}
	m.cmd = exec.CommandContext(ctx, binary, "--redis-url-file="+url, "--receiver-image="+image, "--host-template="+hostTemplate,
		"--metrics-bind-address="+ports[0], "--health-probe-bind-address="+ports[1])
	m.cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "GOMEMLIMIT=512MiB")
	m.cmd.Stderr = log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the manager: %w", err)
	}
	return m, nil
}

// stop ends it as a kubelet does.
func (m *manager) stop() {
	m.signal(syscall.SIGCONT)
	m.signal(syscall.SIGTERM)
	_ = m.cmd.Wait()
}

func (m *manager) signal(s syscall.Signal) { _ = m.cmd.Process.Signal(s) }

// figures are the manager's metrics, summed over all labels. Reconciles that failed do not count; those that ask to be
// repeated later do, as each does until there is an address.
type figures map[string]float64

func (m *manager) figures(ctx context.Context) (figures, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.metrics, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	out := figures{}
	for line := range strings.Lines(string(raw)) {
		for _, metric := range []string{reconciled, depth, active, live, lastGC} {
			if labels, v, ok := sample(line, metric); ok && labels["result"] != "error" {
				out[metric] += v
			}
		}
		if labels, v, ok := sample(line, "rest_client_requests_total"); ok && labels["method"] == http.MethodPost {
			out[posted] += v
		}
	}
	return out, nil
}

const (
	reconciled = "controller_runtime_reconcile_total"
	active     = "controller_runtime_active_workers"
	depth      = "workqueue_depth"
	live       = "go_gc_heap_live_bytes"
	// posted are the manager's events: what else it writes it applies or patches.
	posted = "events"
	lastGC = "go_memstats_last_gc_time_seconds"
)

// writes are those of the API server, with the events of this manager.
func (m *manager) writes(ctx context.Context, c *cluster) (writes, error) {
	out, err := c.writes(ctx)
	if err != nil {
		return nil, err
	}
	f, err := m.figures(ctx)
	if err != nil {
		return nil, err
	}
	out["POST events"] = int(f[posted])
	return out, nil
}

// reconciledAll waits until so many reconciles have been made and none is waiting or in progress.
func (m *manager) reconciledAll(ctx context.Context, n int) error {
	return m.until(ctx, fmt.Sprintf("%d reconciles", n), func(f figures) bool {
		return f[reconciled] >= float64(n) && f[depth] == 0 && f[active] == 0
	})
}

// collected waits for two garbage collections that begin from now on: what is pooled survives the first. The runtime
// forces one every two minutes.
func (m *manager) collected(ctx context.Context) error {
	for range 2 {
		from := float64(time.Now().Unix() + 1)
		if err := m.until(ctx, "a garbage collection", func(f figures) bool { return f[lastGC] > from }); err != nil {
			return err
		}
	}
	return nil
}

func (m *manager) until(ctx context.Context, what string, good func(figures) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	const interval = 250 * time.Millisecond // a scrape costs the manager milliseconds, which would distort the result
	for {
		// It does not answer while it starts.
		if f, err := m.figures(ctx); err == nil && good(f) {
			return nil
		}
		if !pause(ctx, interval) {
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		}
	}
}

// memory is the manager's memory use, in bytes.
type memory struct {
	// resident is the resident set.
	resident int64
	// live is the heap after the last garbage collection.
	live int64
}

func (m *manager) memory(ctx context.Context) (memory, error) {
	f, err := m.figures(ctx)
	if err != nil {
		return memory{}, err
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		return memory{}, err
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		return memory{}, fmt.Errorf("read the resident set: %w", err)
	}
	return memory{resident: kib << 10, live: int64(f[live])}, nil
}

// patience is how long anything may take that is waited for.
const patience = 20 * time.Minute

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
