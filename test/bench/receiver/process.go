package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/delivery"
)

// lab starts everything that is measured, on loopback and with its files in one directory, and ends it all at once.
type lab struct {
	dir      string
	receiver string // the product's binary
	cleanups []func()
	running  []int // process ids
	count    int
}

func newLab() (*lab, error) {
	dir, err := os.MkdirTemp("", "heymarket-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, receiver: filepath.Join(dir, "receiver")}
	l.cleanup(func() { _ = os.RemoveAll(dir) })
	// The flags are those of the image.
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", l.receiver, "heymarket.dev/operator/cmd/receiver")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if build.Dir, err = productRoot(); err != nil {
		return l, err
	}
	if out, err := build.CombinedOutput(); err != nil {
		return l, fmt.Errorf("build the receiver: %w\n%s", err, out)
	}
	return l, nil
}

// productRoot is the directory of the product's module: the receiver is built with its own dependencies, not with ours.
func productRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "heymarket.dev/operator").Output()
	if err != nil {
		return "", fmt.Errorf("find the product's module: %w; run from test/bench/receiver", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (l *lab) cleanup(f func()) { l.cleanups = append(l.cleanups, f) }

// mark and release end what was started in between, so that one measurement leaves nothing to the next.
func (l *lab) mark() int { return len(l.cleanups) }

func (l *lab) release(mark int) {
	for len(l.cleanups) > mark {
		last := len(l.cleanups) - 1
		l.cleanups[last]()
		l.cleanups = l.cleanups[:last]
	}
}

func (l *lab) close() { l.release(0) }

// folder makes a directory of its own for one process.
func (l *lab) folder(kind string) (string, error) {
	l.count++
	dir := filepath.Join(l.dir, fmt.Sprintf("%s-%d", kind, l.count))
	return dir, os.Mkdir(dir, 0o700)
}

// process is a child that is measured from outside.
type process struct {
	cmd  *exec.Cmd
	addr string
}

func (l *lab) start(cmd *exec.Cmd) error {
	// A benchmark that is killed takes its children along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.running = append(l.running, cmd.Process.Pid)
	l.cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		l.running = slices.DeleteFunc(l.running, func(pid int) bool { return pid == cmd.Process.Pid })
	})
	return nil
}

// cpu is the processor time that the process has used, in user and kernel together.
func (p process) cpu() time.Duration { return procCPU(p.cmd.Process.Pid, false) }

// memory returns the process's resident set and its peak since resetPeak, in bytes.
func (p process) memory() (now, peak int64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			peak = kib << 10
		}
	}
	return now, peak
}

// resetPeak makes the peak of memory start from now, see proc(5), clear_refs.
func (p process) resetPeak() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
}

// redis is a real server, with its append-only file on, as the product asks for.
type redis struct {
	process
	client rueidis.Client
}

func (l *lab) redis(fsync string, settings ...string) (*redis, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := l.folder("redis")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("redis-server", append(settings, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--logfile", filepath.Join(dir, "log"),
		"--appendonly", "yes", "--appendfsync", fsync, "--save", "", "--maxmemory-policy", "noeviction",
		"--auto-aof-rewrite-percentage", "0")...) // a rewrite in the midst of a round would hit one side only
	if err := l.start(cmd); err != nil {
		return nil, fmt.Errorf("start redis-server: %w; apt-get install redis-server redis-tools", err)
	}
	if err := awaitPort(addr); err != nil {
		return nil, err
	}
	r := &redis{process: process{cmd, addr}}
	r.client, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, PipelineMultiplex: -1, ForceSingleClient: true})
	if err != nil {
		return nil, err
	}
	l.cleanup(r.client.Close)
	return r, nil
}

func (r *redis) url() string { return "redis://" + r.addr }

// do runs one command and returns its answer.
func (r *redis) do(args ...string) (rueidis.RedisMessage, error) {
	return r.client.Do(context.Background(), r.client.B().Arbitrary(args...).Build()).ToMessage()
}

// usedMemory is the memory of the server's data, as reported by it, in bytes.
func (r *redis) usedMemory() (int64, error) { return r.info("used_memory") }

// network is how many bytes the server has received and sent.
func (r *redis) network() (int64, error) {
	in, err := r.info("total_net_input_bytes")
	if err != nil {
		return 0, err
	}
	out, err := r.info("total_net_output_bytes")
	return in + out, err
}

// info reads one number of INFO.
func (r *redis) info(field string) (int64, error) {
	m, err := r.do("INFO", "everything")
	if err != nil {
		return 0, err
	}
	text, _ := m.ToString()
	_, rest, _ := strings.Cut(text, "\n"+field+":")
	number, _, _ := strings.Cut(rest, "\r")
	return strconv.ParseInt(number, 10, 64)
}

// pending returns the length of the general queue of target. It is asked while deliveries are measured, so it costs the
// server one look at one key, however many others there are.
func (r *redis) pending() (int64, error) {
	m, err := r.do("XLEN", contract.RedisPrefix(namespace, name)+"q:"+target+":"+string(delivery.General))
	if err != nil {
		return 0, err
	}
	return m.AsInt64()
}

// receiverProcess is the product.
type receiverProcess struct {
	process
	ops string
}

// prepare writes the files of a receiver and returns its command and addresses.
func (l *lab) prepare(r *redis, targets []config.Target) (*exec.Cmd, *receiverProcess, error) {
	dir, err := l.folder("receiver")
	if err != nil {
		return nil, nil, err
	}
	events, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	ops, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	file := func(n string) string { return filepath.Join(dir, n) }
	encoded, err := config.Encode(config.Config{
		Webhook: config.Webhook{Namespace: namespace, Name: name}, Paths: []string{path},
		TokenFiles: []string{file("token")}, RedisURLFile: file("redis-url"),
		Targets: targets, Addresses: config.Addresses{AllowLoopback: true}, MaxBacklog: 10_000_000, MaxBacklogBytes: -1,
	})
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(
		os.WriteFile(file("config.json"), encoded, 0o600),
		os.WriteFile(file("token"), []byte(token), 0o600),
		os.WriteFile(file("redis-url"), []byte(r.url()), 0o600),
	); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(l.receiver, "--config", file("config.json"), "--listen", events, "--ops-listen", ops, "--admin-listen", "", "--drain-delay", "0s")
	return cmd, &receiverProcess{process: process{cmd, events}, ops: ops}, nil
}

// startReceiver runs a receiver until it is ready. Its log goes through a pipe, as in a Pod.
func (l *lab) startReceiver(r *redis, targets ...config.Target) (*receiverProcess, error) {
	cmd, out, err := l.prepare(r, targets)
	if err != nil {
		return nil, err
	}
	return out, l.launch(cmd, out)
}

func (l *lab) launch(cmd *exec.Cmd, r *receiverProcess) error {
	log, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := l.start(cmd); err != nil {
		return fmt.Errorf("start the receiver: %w", err)
	}
	go func() {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{log}, make([]byte, 64<<10))
	}()
	return r.awaitReady()
}

// awaitReady polls /readyz as often as that costs nothing.
func (r *receiverProcess) awaitReady() error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(500 * time.Microsecond) {
		response, err := http.Get("http://" + r.ops + "/readyz")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the receiver is not ready: %w", err)
		}
	}
}

// metric returns the sum of a metric over all its labels.
func (r *receiverProcess) metric(name string) (float64, error) {
	response, err := http.Get("http://" + r.ops + "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	var sum float64
	for s := bufio.NewScanner(response.Body); s.Scan(); {
		rest, found := strings.CutPrefix(s.Text(), name)
		if !found || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// control runs this very program as one of the controls, see controls.go.
func (l *lab) control(kind string, args ...string) (process, error) {
	self, err := os.Executable()
	if err != nil {
		return process{}, err
	}
	addr, err := freeAddress()
	if err != nil {
		return process{}, err
	}
	cmd := exec.Command(self, append([]string{"control", kind, addr}, args...)...)
	cmd.Stderr = os.Stderr
	if err := l.start(cmd); err != nil {
		return process{}, err
	}
	return process{cmd, addr}, awaitPort(addr)
}

func awaitPort(addr string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing answers on %s: %w", addr, err)
		}
	}
}
