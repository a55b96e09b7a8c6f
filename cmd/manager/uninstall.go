package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/check"
	"heymarket.dev/operator/internal/controller"
)

// uninstallTimeout bounds the check for remaining webhooks.
const uninstallTimeout = time.Minute

// uninstallMain is `manager check-uninstall`: it fails while HeymarketWebhooks exist. The chart runs it before an uninstallation
// that removes the CustomResourceDefinition: that would delete the webhooks, and those with deletionPolicy Delete need the
// operator for it.
func uninstallMain(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var namespaces string
	f := flag.NewFlagSet("manager check-uninstall", flag.ContinueOnError)
	f.SetOutput(io.Discard) // The caller prints the error, in one sentence.
	f.StringVar(&namespaces, "namespaces", "", "comma separated `list` of the namespaces to look in. Default: all.")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		f.SetOutput(stderr)
		fmt.Fprintln(stderr, "manager check-uninstall fails while HeymarketWebhooks exist. Flags:")
		f.PrintDefaults()
		return 0
	}
	in, listErr := namespaceList("namespaces", namespaces)
	if err = errors.Join(err, listErr); err != nil || f.NArg() > 0 {
		fmt.Fprintf(stderr, "manager check-uninstall: wrong flags or arguments: %v; see manager check-uninstall --help\n", err)
		return exitUsage
	}
	if err := checkUninstall(ctx, in); err != nil {
		fmt.Fprintf(stderr, "manager check-uninstall: %s\n", err)
		return exitFailure
	}
	fmt.Fprintln(stdout, "No HeymarketWebhook is left.")
	return 0
}

func checkUninstall(ctx context.Context, namespaces []string) error {
	ctx, cancel := context.WithTimeout(ctx, uninstallTimeout)
	defer cancel()
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find a Kubernetes API server: %w", err)
	}
	c, err := client.New(cfg, client.Options{Scheme: controller.Scheme()})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return check.NoWebhookLeft(ctx, c, namespaces)
}
