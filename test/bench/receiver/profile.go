package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"heymarket.dev/operator/internal/receiver"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/logs"
)

// profile records where a receiver spends its time while it takes events in and delivers them as fast as it can, for the
// compiler: go build optimizes a command by the default.pgo that stands beside its main.
func (b *bench) profile() error {
	null, err := newSink(false)
	if err != nil {
		return err
	}
	b.cleanup(null.close)
	r, err := b.redis("everysec")
	if err != nil {
		return err
	}
	cmd, product, err := b.prepare(r, []config.Target{{Name: target, URL: null.url}})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	pprof, err := freeAddress()
	if err != nil {
		return err
	}
	product.cmd = exec.Command(self, "control", "receiver", pprof, cmd.Args[2], product.addr, product.ops)
	if err := b.launch(product.cmd, product); err != nil {
		return err
	}
	seconds := b.few(20, 2)
	profile := make(chan error, 1)
	root, err := productRoot()
	if err != nil {
		return err
	}
	file := filepath.Join(root, "cmd/receiver/default.pgo")
	if b.quick {
		file = filepath.Join(b.dir, "default.pgo") // too short to build by
	}
	go func() {
		profile <- download("http://"+pprof+"/debug/pprof/profile?seconds="+strconv.Itoa(seconds), file)
	}()
	for range seconds/2 + 1 { // alternating full intake and delivery of the rest
		if _, err := (load{addr: product.addr, request: newRequest(product.addr)}).run(time.Second); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	if err := <-profile; err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	b.add(row{What: fmt.Sprintf("profile of %d s for the compiler", seconds), Measured: fmt.Sprintf("%d KiB", info.Size()>>10), Control: "cmd/receiver/default.pgo"})
	return nil
}

func download(url, file string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}

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
	log, flush := logs.New(os.Stdout, slog.LevelInfo) // as the product does
	defer flush()
	r, err := receiver.New(receiver.Options{
		ConfigFile: args[0], Events: events, Ops: ops, Version: "profiled", Consumer: "profiled", RereadInterval: 2 * time.Second,
		Log: log,
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return r.Run(ctx)
}
