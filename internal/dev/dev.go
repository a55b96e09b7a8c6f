// Package dev runs one webhook on this machine, from a manifest for a cluster: admitted as by an API server, turned into
// children by the operator, served by the receiver, with an in-memory Redis. Only the addresses of targets are replaced.
package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/dev/memory"
	"heymarket.dev/operator/internal/echo"
	"heymarket.dev/operator/internal/receiver"
)

// Options configure Start.
type Options struct {
	Manifest *Manifest
	// Forward maps targets to URLs that replace their addresses; the key "" applies to all others.
	Forward map[string]string
	// Echo delivers to a target in this process instead, which records the events.
	Echo bool
	// RedisURL is a Redis to use; empty means an in-memory one.
	RedisURL string
	// Listen is the address for events, such as 127.0.0.1:8080; empty means a free port of loopback.
	Listen  string
	Version string
	// Log receives the receiver's log.
	Log slog.Handler
}

// Running is a running webhook. It holds all data that another process needs to reach it.
type Running struct {
	// Webhook is the resource with its defaults.
	Webhook *v1alpha1.HeymarketWebhook `json:"webhook"`
	// URL is the full URL for events, and Token a token that it accepts: both are secret.
	URL   string `json:"url"`
	Token string `json:"token"`
	// Address, Admin and Ops are the addresses (host:port) for events, of the administrative API, and of the operations port.
	Address string `json:"address"`
	Admin   string `json:"admin"`
	Ops     string `json:"ops"`
	// MadeTokens are the fields whose tokens were generated because the manifest does not contain them.
	MadeTokens []string `json:"-"`
	// Echo is the target in this process; nil without Options.Echo. EchoURL lists the requests that it received.
	Echo    *echo.Target `json:"-"`
	EchoURL string       `json:"-"`
	// InMemory reports that stored events are lost when the process ends.
	InMemory bool `json:"inMemory"`

	ended  chan error
	stop   context.CancelFunc
	closed []func()
}

// Children returns the objects that the operator would apply, in its order, for a webhook whose URL has a newly generated
// secret part.
func Children(m *Manifest) ([]desired.Wanted, error) {
	objects, _, err := build(m, desired.NewSegment(), "redis://redis.example.com:6379/0")
	return objects.Children, err
}

// Start serves the webhook until Close. It returns once events are accepted.
func Start(ctx context.Context, o Options) (_ *Running, err error) {
	r := &Running{Webhook: o.Manifest.Webhook, ended: make(chan error, 1)}
	defer func() {
		if err != nil {
			r.tidy()
		}
	}()
	values, made, err := o.Manifest.secrets()
	if err != nil {
		return nil, err
	}
	ref := r.Webhook.Spec.Token.SecretKeyRef
	r.MadeTokens, r.Token = made, string(trimmed(values[ref.Name+"/"+ref.Key]))
	if o.RedisURL == "" {
		if o.RedisURL, err = r.startRedis(); err != nil {
			return nil, err
		}
	}
	if o.Echo {
		if o.Forward, err = r.startEcho(ctx); err != nil {
			return nil, err
		}
	}
	segment := desired.NewSegment()
	_, c, err := build(o.Manifest, segment, o.RedisURL)
	if err != nil {
		return nil, err
	}
	if err := forwardTo(c.Targets, o.Forward); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "heymarket-dev-")
	if err != nil {
		return nil, err
	}
	r.closed = append(r.closed, func() { _ = os.RemoveAll(dir) })
	file, err := write(dir, c, o.RedisURL, values)
	if err != nil {
		return nil, err
	}
	if err := r.serve(ctx, o, file); err != nil {
		return nil, err
	}
	r.URL = "http://" + r.Address + desired.PathPrefix(r.Webhook) + segment
	return r, r.awaitReady(ctx)
}

func (r *Running) startRedis() (string, error) {
	redis, err := memory.Start()
	if err != nil {
		return "", err
	}
	r.InMemory = true
	r.closed = append(r.closed, redis.Close)
	return redis.URL(), nil
}

// startEcho serves the target, and returns its addresses in the form of Options.Forward: one path per target.
func (r *Running) startEcho(ctx context.Context) (map[string]string, error) {
	l, err := listen(ctx, "")
	if err != nil {
		return nil, err
	}
	r.Echo = &echo.Target{}
	server := &http.Server{Handler: r.Echo, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // it ends with Close
	r.closed = append(r.closed, func() { _ = server.Close() })
	forward := map[string]string{}
	for _, t := range r.Webhook.Spec.Targets {
		forward[t.Name] = fmt.Sprintf("http://%s/%s", l.Addr(), t.Name)
	}
	r.EchoURL = fmt.Sprintf("http://%s/received", l.Addr())
	return forward, nil
}

// serve starts the receiver. It outlives ctx until Close, so that it can shut down in order.
func (r *Running) serve(ctx context.Context, o Options, file string) error {
	options := receiver.Options{
		ConfigFile: file, Version: o.Version, Consumer: "dev-" + rand.Text(), RereadInterval: time.Second, Log: slog.New(o.Log),
	}
	var listeners []net.Listener
	for _, l := range []struct {
		to      *net.Listener
		address string
	}{{&options.Events, o.Listen}, {&options.Ops, ""}, {&options.Admin, ""}} {
		listener, err := listen(ctx, l.address)
		if err != nil {
			return err
		}
		r.closed = append(r.closed, func() { _ = listener.Close() })
		listeners, *l.to = append(listeners, listener), listener
	}
	r.Address, r.Ops, r.Admin = listeners[0].Addr().String(), listeners[1].Addr().String(), listeners[2].Addr().String()
	serving, err := receiver.New(options)
	if err != nil {
		return err
	}
	var running context.Context
	running, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		r.ended <- serving.Run(running)
		close(r.ended)
	}()
	return nil
}

// listen listens on loopback only: nothing served here authenticates its clients.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("--listen %q is not a loopback address and port, such as 127.0.0.1:8080", address)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}

// awaitReady waits until the receiver accepts events.
func (r *Running) awaitReady(ctx context.Context) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Ops+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), r.Close())
		case err := <-r.ended:
			r.tidy()
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Status returns the receiver's status.
func (r *Running) Status(ctx context.Context) (s contract.Status, err error) {
	return s, get(ctx, "http://"+r.Ops+contract.StatusPath, &s)
}

// Ended receives the error with which the receiver stopped by itself.
func (r *Running) Ended() <-chan error { return r.ended }

// Close lets the receiver finish requests and attempts in flight, and removes everything.
func (r *Running) Close() error {
	var err error
	if r.stop != nil {
		r.stop()
		err = <-r.ended
		r.stop = nil
	}
	r.tidy()
	return err
}

// tidy undoes the actions of Start, the latest first.
func (r *Running) tidy() {
	for len(r.closed) > 0 {
		last := len(r.closed) - 1
		r.closed[last]()
		r.closed = r.closed[:last]
	}
}
