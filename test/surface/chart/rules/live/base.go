package live

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/tsdb"
)

// lab is a folder, processes and a Prometheus database, which end with Close.
type lab struct {
	// DB holds the scrapes.
	DB *tsdb.DB

	dir      string
	cleanups []func()
	client   *http.Client
}

func (l *lab) open() (err error) {
	l.client = &http.Client{Timeout: 10 * time.Second}
	if l.dir, err = os.MkdirTemp("", "heymarket-live-"); err != nil {
		return err
	}
	l.cleanup(func() { _ = os.RemoveAll(l.dir) })
	if l.DB, err = tsdb.Open(filepath.Join(l.dir, "tsdb"), nil, nil, tsdb.DefaultOptions(), nil); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	l.cleanup(func() { _ = l.DB.Close() })
	return nil
}

// Close ends what was started.
func (l *lab) Close() {
	for _, cleanup := range slices.Backward(l.cleanups) {
		cleanup()
	}
}

func (l *lab) cleanup(f func()) { l.cleanups = append(l.cleanups, f) }

// Build builds a program of the product's checkout, root, into a folder and returns its path.
func Build(ctx context.Context, root, folder, program string) (path string, err error) {
	path = filepath.Join(folder, filepath.Base(program))
	build := exec.CommandContext(ctx, "go", "build", "-o", path, program)
	build.Dir = root
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", program, err, out)
	}
	return path, nil
}

// process starts a program that does not outlive this one.
func (l *lab) process(cmd *exec.Cmd) error {
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

func (l *lab) status(ctx context.Context, url string) int {
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

func (l *lab) await(ctx context.Context, complaint string, ask func() bool) error {
	limited, cancel := context.WithTimeout(ctx, time.Minute)
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

// free is a loopback address on which no program listens.
func free() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
