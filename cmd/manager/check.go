package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/validation"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/check"
	"heymarket.dev/operator/internal/controller"
)

// checkOptions are the parsed flags of `manager check`.
type checkOptions struct {
	namespace   string
	name        string
	host        string
	port        string
	pullSecrets []string
	timeout     time.Duration
}

// checkMain is `manager check`: its exit code and last sentence report whether an installed operator works.
func checkMain(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parseCheckOptions(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "manager check: %s\n", err)
		return exitUsage
	}
	if err := runCheck(ctx, opts, stdout); err != nil {
		fmt.Fprintf(stderr, "manager check: %s\n", err)
		return exitFailure
	}
	fmt.Fprintln(stdout, "The operator works.")
	return 0
}

func runCheck(ctx context.Context, opts checkOptions, stdout io.Writer) error {
	ctrl.SetLogger(logr.Discard()) // the result is printed to stdout
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find a Kubernetes API server: %w; run in a cluster, or set KUBECONFIG", err)
	}
	cfg.UserAgent = "heymarket-operator-check/" + version
	c, err := client.New(cfg, client.Options{Scheme: controller.Scheme()})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+opts.port)
	if err != nil {
		return fmt.Errorf("--port: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, opts.timeout)
	defer cancel()
	return check.Check{
		Client: c, Namespace: opts.namespace, Name: opts.name, Listener: listener, Target: net.JoinHostPort(opts.host, opts.port),
		ImagePullSecrets: opts.pullSecrets, Out: stdout,
	}.Run(ctx)
}

// parseCheckOptions returns flag.ErrHelp after printing the flags on request. Any other error names the flag and the remedy.
func parseCheckOptions(args []string, out io.Writer) (checkOptions, error) {
	var o checkOptions
	var pullSecrets string
	f := flag.NewFlagSet("manager check", flag.ContinueOnError)
	f.SetOutput(io.Discard) // The caller prints the error, in one sentence.
	f.StringVar(&o.namespace, "namespace", "", "`namespace` for the temporary HeymarketWebhook; the operator must watch it. Required.")
	f.StringVar(&o.name, "name", "heymarket-check", "`name` of the temporary HeymarketWebhook and of the Secret with its token. Existing objects of this name are deleted.")
	f.StringVar(&o.host, "host", "", "`address` of this Pod, where receivers deliver to. Required.")
	f.StringVar(&o.port, "port", "8080", "`port` to take deliveries at.")
	f.StringVar(&pullSecrets, "image-pull-secrets", "", "comma separated `list` of Secrets in the namespace with which the receiver's image is pulled.")
	f.DurationVar(&o.timeout, "timeout", 3*time.Minute, "`time` limit of the check; cleaning up may take a minute more.")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(out)
			fmt.Fprintln(out, "manager check sends events through a temporary HeymarketWebhook, and exits with status 0 if they are delivered as expected. Flags:")
			f.PrintDefaults()
			return o, flag.ErrHelp
		}
		return o, fmt.Errorf("%w; see manager check --help for the flags", err)
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; everything is set by flags, see manager check --help", f.Arg(0))
	}
	if len(validation.IsDNS1123Label(o.namespace)) > 0 {
		return o, fmt.Errorf("--namespace is %q; set the name of a namespace that the operator looks after", o.namespace)
	}
	if len(validation.IsDNS1035Label(o.name)) > 0 || len(o.name) > 52 {
		return o, fmt.Errorf("--name is %q; set at most 52 lower-case letters, digits and '-', beginning with a letter", o.name)
	}
	if net.ParseIP(o.host) == nil {
		return o, fmt.Errorf("--host is %q; set the IP address of this Pod", o.host)
	}
	if o.timeout <= 0 {
		return o, fmt.Errorf("--timeout is %s; set a time such as 3m", o.timeout)
	}
	for name := range strings.SplitSeq(pullSecrets, ",") {
		if name != "" {
			o.pullSecrets = append(o.pullSecrets, name)
		}
	}
	return o, nil
}
