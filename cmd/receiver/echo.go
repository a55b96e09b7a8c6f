package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"heymarket.dev/operator/internal/echo"
)

// runEcho serves the quickstart's target, so that trying the operator needs no other image.
func runEcho(args []string) int {
	flags := flag.NewFlagSet("receiver echo", flag.ContinueOnError)
	address := flags.String("listen", ":8080", "`address` for requests")
	flags.SetOutput(io.Discard) // the error is printed in one sentence, below
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(os.Stdout)
		fmt.Print("receiver echo is a target to try with: it records what it receives, and lists it at GET /received.\n\nFlags:\n")
		flags.PrintDefaults()
		return 0
	case err != nil:
		return fail(2, "%v; see receiver echo --help for the flags", err)
	case flags.NArg() > 0:
		return fail(2, "unexpected argument %q; see receiver echo --help", flags.Arg(0))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", *address)
	if err != nil {
		return fail(1, "--listen: %v; does something else listen here?", err)
	}
	if err := echo.Serve(ctx, l); err != nil {
		return fail(1, "%v", err)
	}
	return 0
}
