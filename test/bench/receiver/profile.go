package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os/signal"
	"syscall"
	"time"

	"heymarket.dev/operator/internal/receiver"
)

// profiledReceiver is the receiver with net/http/pprof beside it, on addr. The product's own ports have no profiles.
// Its arguments are the configuration file and the two addresses of the receiver.
func profiledReceiver(addr string, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: bench control receiver PPROF-ADDRESS CONFIG EVENTS-ADDRESS OPS-ADDRESS")
	}
	go func() { _ = http.ListenAndServe(addr, nil) }()
	events, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	ops, err := net.Listen("tcp", args[2])
	if err != nil {
		return err
	}
	r, err := receiver.New(receiver.Options{
		ConfigFile: args[0], Events: events, Ops: ops, Version: "profiled", Consumer: "profiled", RereadInterval: 2 * time.Second,
		Log: slog.New(slog.NewJSONHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return r.Run(ctx)
}
