// Command manager is the operator: it watches HeymarketWebhooks and runs a receiver for each.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"heymarket.dev/operator/internal/controller"
	"heymarket.dev/operator/internal/controller/source"
)

// version is set by -ldflags "-X main.version=…".
var version = "dev"

// Exit codes. Usage errors have a separate one, so that a supervisor can distinguish them from failures.
const (
	exitFailure = 1
	exitUsage   = 2
)

// shutdownTimeout must be shorter than the Pod's grace period.
const shutdownTimeout = 20 * time.Second

func main() {
	os.Exit(realMain(ctrl.SetupSignalHandler(), os.Args[1:], os.Stdout, os.Stderr))
}

// realMain returns the exit code. Every failure is reported in one sentence on stderr.
func realMain(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "check" {
		return checkMain(ctx, args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == "check-uninstall" {
		return uninstallMain(ctx, args[1:], stdout, stderr)
	}
	opts, err := parseOptions(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "manager: %s\n", err)
		return exitUsage
	case opts.version:
		fmt.Fprintln(stdout, versionLine())
		return 0
	}
	logger := logr.FromSlogHandler(opts.logHandler(stderr))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)

	if err := run(ctx, opts, logger); err != nil {
		fmt.Fprintf(stderr, "manager: %s\n", err)
		return exitFailure
	}
	return 0
}

func run(ctx context.Context, opts options, logger logr.Logger) error {
	redis, err := source.OpenRedisFiles(opts.redisURLFile, opts.redisCAFile)
	if err != nil {
		return err
	}
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find a Kubernetes API server: %w; run in a cluster, or set KUBECONFIG", err)
	}
	// The API server's priority and fairness limits clients better than a fixed rate.
	cfg.QPS = -1
	cfg.UserAgent = "heymarket-operator/" + version

	if opts.receiverImage == "" {
		if opts.receiverImage, err = ownImage(ctx, cfg); err != nil {
			return err
		}
	}

	mgr, err := ctrl.NewManager(cfg, opts.manager(logger))
	if err != nil {
		return fmt.Errorf("set up the manager: %w", err)
	}
	liveness := &controller.Liveness{}
	if err := controller.Setup(ctx, mgr, opts.settings(liveness), redis, controller.NewHTTPPodStatus(mgr.GetAPIReader())); err != nil {
		return fmt.Errorf("set up the controller: %w", err)
	}
	if err := controller.RegisterMetrics(metrics.Registry, mgr.GetCache(), version); err != nil {
		return fmt.Errorf("set up metrics: %w", err)
	}
	if err := mgr.AddHealthzCheck("reconciles", liveness.Check); err != nil {
		return fmt.Errorf("add health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", cachesSynced(mgr)); err != nil {
		return fmt.Errorf("add readiness check: %w", err)
	}
	logger.Info("Starting", "version", versionLine(), "receiverImage", opts.receiverImage, "namespaces", opts.namespaces)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

// cachesSynced reports ready once all requested caches are filled. A replica that waits for leadership is ready too: it
// can take over.
func cachesSynced(mgr ctrl.Manager) healthz.Checker {
	return func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("caches are not filled yet")
		}
		return nil
	}
}

func versionLine() string {
	revision := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
		return fmt.Sprintf("heymarket-operator manager %s (revision %s, %s)", version, revision, info.GoVersion)
	}
	return "heymarket-operator manager " + version
}
