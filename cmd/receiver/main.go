// Command receiver accepts the events of one Heymarket webhook and delivers them to its targets. The operator runs it in a Pod;
// on a laptop it needs only a configuration file and a Redis.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver"
	"heymarket.dev/operator/internal/receiver/logs"
)

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:]))
}

const usage = `receiver accepts the events of one Heymarket webhook and delivers them to its targets.

Usage: receiver --config FILE [flags]
       receiver echo [--listen ADDRESS]   a target to try with: records what it receives
`

func run(args []string) int {
	if len(args) > 0 && args[0] == "echo" {
		return runEcho(args[1:])
	}
	flags := flag.NewFlagSet("receiver", flag.ContinueOnError)
	configFile := flags.String("config", "", "configuration `file`, as the operator writes it")
	events := flags.String("listen", port("", contract.EventsPort), "`address` for events")
	ops := flags.String("ops-listen", port("", contract.OperationsPort), "`address` for /healthz, /readyz, /metrics and /status")
	admin := flags.String("admin-listen", port("127.0.0.1", contract.AdminPort), "`address` of the administrative API; anyone who can reach it can read, replay and discard dead letters; empty for none")
	connections := flags.Int("max-connections", receiver.DefaultMaxConnections, "how many connections to serve at once; beyond that, the one that has waited longest without a complete request makes room")
	level := flags.String("log-level", "info", "debug, info, warn or error, unless the configuration sets it")
	drain := flags.Duration("drain-delay", receiver.DefaultDrainDelay, "how long to keep serving after SIGTERM, until load balancers have removed the Pod")
	reread := flags.Duration("reread-interval", 2*time.Second, "how often to look for changed files")
	removeKeys := flags.Bool("remove-keys", false, "remove every key of the webhook from Redis, and report on the ops port, instead of taking events; no receiver of the webhook may be running")
	showVersion := flags.Bool("version", false, "print the version and exit")
	flags.SetOutput(io.Discard) // the error is printed in one sentence, below
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(os.Stdout)
		fmt.Print(usage, "\nFlags:\n")
		flags.PrintDefaults()
		return 0
	case err != nil:
		return fail(2, "%v; see receiver --help for the flags", err)
	}
	if *showVersion {
		fmt.Println(version)
		return 0
	}
	logLevel := new(slog.LevelVar)
	if err := logLevel.UnmarshalText([]byte(*level)); err != nil {
		return fail(2, "--log-level %q is not one of debug, info, warn, error", *level)
	}
	switch {
	case flags.NArg() > 0:
		return fail(2, "unexpected argument %q; everything is set by flags, see --help", flags.Arg(0))
	case *configFile == "":
		return fail(2, "--config is missing; name the configuration file")
	case *connections <= 0:
		return fail(2, "--max-connections must be positive, such as %d", receiver.DefaultMaxConnections)
	case *reread <= 0:
		return fail(2, "--reread-interval must be positive, such as 2s")
	}
	tuneMemory()
	log, flush := logs.New(os.Stdout, logLevel)
	defer flush()
	// The consumer's name: a Pod's host name is unique, and the start time distinguishes a restarted container from its
	// predecessor.
	host, _ := os.Hostname()
	o := receiver.Options{
		ConfigFile: *configFile, Version: version, MaxConnections: *connections, DrainDelay: *drain, RereadInterval: *reread,
		Consumer: fmt.Sprintf("%s-%x", host, time.Now().UnixNano()),
		Log:      log, Level: logLevel, Getenv: os.Getenv,
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	var listen net.ListenConfig
	if o.Ops, err = listen.Listen(context.Background(), "tcp", *ops); err != nil {
		return fail(1, "--ops-listen: %v; is another receiver running here?", err)
	}
	if *removeKeys {
		if err := receiver.RemoveKeys(ctx, o); err != nil {
			return fail(1, "%v", err)
		}
		return 0
	}
	if o.Events, err = listen.Listen(context.Background(), "tcp", *events); err != nil {
		return fail(1, "--listen: %v; is another receiver running here?", err)
	}
	if *admin != "" {
		if o.Admin, err = listen.Listen(context.Background(), "tcp", *admin); err != nil {
			return fail(1, "--admin-listen: %v; is another receiver running here?", err)
		}
	}
	r, err := receiver.New(o)
	if err != nil {
		return fail(1, "%v", err)
	}
	if err := r.Run(ctx); err != nil {
		return fail(1, "%v", err)
	}
	return 0
}

func port(host string, number int) string { return net.JoinHostPort(host, strconv.Itoa(number)) }

// tuneMemory trades a few MiB for CPU time: the live heap is small, so the collector would run constantly. With a large heap the
// limit makes it run more often, before a container's limit is reached. The environment takes precedence.
func tuneMemory() {
	const percent, limit = 400, 96 << 20
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}

func fail(code int, format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "receiver: "+format+"\n", args...)
	return code
}
