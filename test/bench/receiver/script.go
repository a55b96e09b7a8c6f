package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/stream"
)

// target is the name of the target in all measurements that need one only.
const target = "crm"

var limits = stream.Limits{Window: 96 * time.Hour, Backlog: 10_000_000}

// store connects the product's store to r.
func (l *lab) store(r *redis) (*stream.Store, error) {
	s := stream.New(namespace, name, "bench")
	if err := s.Connect(context.Background(), r.url(), nil); err != nil {
		return nil, err
	}
	l.cleanup(s.Close)
	return s, nil
}

// stored is the event that a receiver makes of body(id).
func stored(id int64) (event.Identity, event.Event, error) { return decoded(body(id)) }

// subjectless is an event of a type that has no state which could return.
func subjectless(id int64) (event.Identity, event.Event, error) {
	return decoded(fmt.Appendf(nil, `{"type":"bench","id":41872,"token":%q,"event_data":{"id":%d}}`, token, id))
}

func decoded(body []byte) (event.Identity, event.Event, error) {
	d, err := event.Decode(body)
	if err != nil {
		return event.Identity{}, event.Event{}, err
	}
	key := d.Identity(namespace, name)
	return key, event.Event{ID: key.ID(), Type: d.Type, AcceptedAt: time.Now(), Body: d.Body}, nil
}

// script is the product's append script with the arguments that it is really called with.
type script struct {
	source string
	args   []string // of EVALSHA: the digest, the number of keys, keys, arguments
	unique int      // where the part of the first two keys begins that differs from event to event
}

// The keys that each event has for itself: its marker, and the memory of its subject.
const firstOwn, lastOwn = 2, 3

// captureScript listens to what the product's store sends to Redis for one event, so that the controls run the same.
func (l *lab) captureScript(r *redis) (script, error) {
	sources := map[string]string{}
	for _, source := range stream.Scripts() {
		sources[fmt.Sprintf("%x", sha1.Sum([]byte(source)))] = source // as Redis names scripts
	}
	s, err := l.store(r)
	if err != nil {
		return script{}, err
	}
	if err := appendOne(s); err != nil { // the first call loads the script
		return script{}, err
	}
	monitor, err := net.Dial("tcp", r.addr)
	if err != nil {
		return script{}, err
	}
	defer func() { _ = monitor.Close() }()
	_ = monitor.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := monitor.Write([]byte("MONITOR\r\n")); err != nil {
		return script{}, err
	}
	in := bufio.NewScanner(monitor)
	in.Buffer(nil, 1<<20)
	in.Scan() // +OK
	if err := appendOne(s); err != nil {
		return script{}, err
	}
	for in.Scan() {
		call := monitored(in.Text())
		if len(call) <= 1+lastOwn || !strings.EqualFold(call[0], "EVALSHA") || sources[call[1]] == "" {
			continue
		}
		out := script{source: sources[call[1]], args: call[1:], unique: len(contract.RedisPrefix(namespace, name) + "d:")}
		if !strings.Contains(strings.Join(out.call(firstID), ""), "\x00") { // digests are bytes, and a command line ends at a zero
			return out, nil
		}
		if err := appendOne(s); err != nil {
			return script{}, err
		}
	}
	return script{}, errors.New("the store did not append by EVALSHA; the controls in script.go have to follow")
}

func appendOne(s *stream.Store) error {
	key, e, err := stored(nextID())
	if err != nil {
		return err
	}
	_, err = s.Append(context.Background(), key, e, []string{target}, limits)
	return err
}

// monitored reads one line of MONITOR; nil for a command that a script ran.
func monitored(line string) []string {
	_, rest, found := strings.Cut(line, "] ")
	if !found || strings.Contains(line[:len(line)-len(rest)], " lua]") {
		return nil
	}
	var out []string
	for rest != "" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil
		}
		arg, err := strconv.Unquote(quoted)
		if err != nil {
			return nil
		}
		out = append(out, arg)
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	return out
}

// own returns the arguments with id in the keys that each event has for itself, as long as these are.
func (s script) own(id string) []string {
	args := slices.Clone(s.args)
	for i := firstOwn; i <= lastOwn; i++ {
		room := len(args[i]) - s.unique
		args[i] = args[i][:s.unique] + id[max(0, len(id)-room):] + strings.Repeat("x", max(0, room-len(id)))
	}
	return args
}

// call returns the arguments for an event that no one else has.
func (s script) call(id int64) []string { return s.own(strconv.FormatInt(id, 10)) }

// request is the script's call as the generator sends it to Redis itself, each for an event of its own.
func (s script) request() request {
	first := strconv.FormatInt(firstID, 10)
	args := append([]string{"EVALSHA"}, s.own(first)...)
	out := request{bytes: fmt.Appendf(nil, "*%d\r\n", len(args))}
	for i, a := range args {
		out.bytes = fmt.Appendf(out.bytes, "$%d\r\n", len(a))
		if i-1 >= firstOwn && i-1 <= lastOwn {
			out.ids = append(out.ids, len(out.bytes)+s.unique)
		}
		out.bytes = append(out.bytes, a+"\r\n"...)
	}
	return out
}

// benchmark runs redis-benchmark with the script for about d and returns its requests a second.
func (s script) benchmark(r *redis, d time.Duration, guess float64) (float64, error) {
	loaded, err := r.do("SCRIPT", "LOAD", s.source)
	if err != nil {
		return 0, err
	}
	if digest, _ := loaded.ToString(); digest != s.args[0] {
		return 0, errors.New("append.lua is not the script that the store runs")
	}
	args := s.own("__rand_int__")
	_, port, _ := net.SplitHostPort(r.addr)
	n := strconv.Itoa(int(guess * d.Seconds()))
	cmd := exec.Command("redis-benchmark", append([]string{
		"-h", "127.0.0.1", "-p", port, "-c", "50", "-P", "1", "-r", "2000000000", "-n", n, "--csv", "EVALSHA",
	}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w; apt-get install redis-tools", err)
	}
	// The last line is "<command>","<rps>","<avg>","<min>","<p50>","<p95>","<p99>","<max>", the command unescaped.
	const columns = 7
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields := strings.Split(lines[len(lines)-1], `","`)
	if len(fields) <= columns {
		return 0, fmt.Errorf("redis-benchmark says: %s", out)
	}
	return strconv.ParseFloat(fields[len(fields)-columns], 64)
}

// fill puts n events into a store for the named targets, as receivers do. With none they are only remembered.
func fill(s *stream.Store, n int, of func(id int64) (event.Identity, event.Event, error), targets ...string) error {
	const workers = 128
	errs := make(chan error, workers)
	for w := range workers {
		go func() {
			var err error
			for i := w; i < n && err == nil; i += workers {
				key, e, failed := of(nextID())
				if err = failed; err == nil {
					_, err = s.Append(context.Background(), key, e, targets, limits)
				}
			}
			errs <- err
		}()
	}
	var err error
	for range workers {
		err = errors.Join(err, <-errs)
	}
	return err
}
