package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller"
)

// uninstallTimeout bounds the question whether webhooks are left.
const uninstallTimeout = time.Minute

// uninstallMain is `manager check-uninstall`: it fails while HeymarketWebhooks exist. The chart runs it before an uninstallation that
// removes the CustomResourceDefinition: webhooks would go with it, and those with deletionPolicy Delete need the operator for that.
func uninstallMain(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var namespaces string
	f := flag.NewFlagSet("manager check-uninstall", flag.ContinueOnError)
	f.SetOutput(io.Discard) // The caller says what is wrong, in one sentence.
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
	cfg, err := ctrl.GetConfig()
	if err == nil {
		err = checkUninstall(ctx, cfg, in)
	}
	if err != nil {
		fmt.Fprintf(stderr, "manager check-uninstall: %s\n", err)
		return exitFailure
	}
	fmt.Fprintln(stdout, "No HeymarketWebhook is left.")
	return 0
}

// checkUninstall returns an error that says what to do if a HeymarketWebhook exists in the given namespaces; none means all.
func checkUninstall(ctx context.Context, cfg *rest.Config, namespaces []string) error {
	ctx, cancel := context.WithTimeout(ctx, uninstallTimeout)
	defer cancel()
	c, err := client.New(cfg, client.Options{Scheme: controller.Scheme()})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	for _, ns := range namespaces {
		var hooks v1alpha1.HeymarketWebhookList
		err := c.List(ctx, &hooks, client.InNamespace(ns), client.Limit(1))
		switch {
		case meta.IsNoMatchError(err): // The CustomResourceDefinition is gone already.
			return nil
		case err != nil:
			return fmt.Errorf("list HeymarketWebhooks: %w", err)
		case len(hooks.Items) > 0:
			return fmt.Errorf("HeymarketWebhook %s/%s exists, and the release would remove it with the CustomResourceDefinition, because crds.keep is false. "+
				"Delete all while the operator runs, with kubectl delete heymarketwebhooks --all --all-namespaces, and uninstall again; "+
				"or keep them with helm upgrade --reset-then-reuse-values --set crds.keep=true", hooks.Items[0].Namespace, hooks.Items[0].Name)
		}
	}
	return nil
}
