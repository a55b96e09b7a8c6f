// Command bench-operator measures the operator against the goals that it is held to: the manager as it is shipped, a
// process of its own, beside a real kube-apiserver and etcd. Run it by `make bench-operator`; it needs Linux, the right
// to make a network namespace, the command ip, and KUBEBUILDER_ASSETS. It starts and ends everything that it measures
// itself, in a network namespace that has only loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"heymarket.dev/operator/internal/testenv"
)

// inside is set in the environment of the part that runs in the network namespace: the path of the manager's binary.
const inside = "HEYMARKET_BENCH_MANAGER"

// plan selects the measurements.
type plan struct {
	quick bool
	// sizes are numbers of HeymarketWebhooks; what is measured only once is measured at the first of them.
	sizes []int
	idle  time.Duration
	// secrets is the number of unrelated Secrets, secretBytes the size of one.
	secrets, secretBytes int
	out                  string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-operator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	p := plan{secretBytes: 50 << 10}
	flag.BoolVar(&p.quick, "quick", false, "few of everything, two minutes: to see that it works, not for figures")
	sizes := flag.String("resources", "1000,5000", "`numbers` of HeymarketWebhooks, by comma")
	flag.DurationVar(&p.idle, "idle", 10*time.Minute, "`time` to count requests while nothing changes")
	flag.IntVar(&p.secrets, "secrets", 20000, "`number` of unrelated Secrets of 50 KiB")
	flag.StringVar(&p.out, "out", "", "`file` for the table as Markdown, besides standard output")
	flag.Parse()
	for s := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("-resources: %q is not a number of resources", s)
		}
		p.sizes = append(p.sizes, n)
	}
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if p.quick {
		p.sizes, p.idle, p.secrets, p.secretBytes = []int{100}, time.Minute, 500, 10<<10
	}
	binary := os.Getenv(inside)
	if binary == "" {
		return outside(ctx)
	}
	ctrl.SetLogger(logr.Discard()) // keep the libraries' log out of the table
	klog.SetLogger(logr.Discard())
	for _, line := range []string{"link set lo up", "addr add " + serverAddress + "/32 dev lo", "route add local " + podNetwork + " dev lo"} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s (Debian has it in iproute2): %w: %s", line, err, out)
		}
	}
	return measure(ctx, p, binary)
}

// outside builds the manager, which may need the network, and goes on in a network namespace.
func outside(ctx context.Context) error {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return errors.New("KUBEBUILDER_ASSETS names no directory with kube-apiserver and etcd; make bench-operator builds and sets it")
	}
	dir, err := os.MkdirTemp("", "heymarket-bench-operator-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "manager")
	// The flags are those of the image.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/manager")
	if build.Dir, err = testenv.Root(); err != nil { // with the dependencies of the product, not with ours
		return err
	}
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the manager: %w\n%s", err, out)
	}
	self := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	self.Cancel = func() error { return self.Process.Signal(syscall.SIGTERM) }
	self.WaitDelay = time.Minute // It ends what it has started.
	self.Env = append(os.Environ(), inside+"="+binary, "TMPDIR="+dir)
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if os.Getuid() != 0 {
		self.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		self.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		self.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return self.Run()
}
