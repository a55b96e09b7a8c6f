package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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
func stored(id int64) (event.Identity, event.Event, error) {
	d, err := event.Decode(body(id))
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
	unique int      // where the part of the marker's key begins that differs from event to event
}

// captureScript listens to what the product's store sends to Redis for one event, so that the controls run the same.
func (l *lab) captureScript(r *redis) (script, error) {
	root, err := productRoot()
	if err != nil {
		return script{}, err
	}
	var source []byte
	for _, part := range []string{"attempt.lua", "append.lua"} { // as the product puts them together
		text, err := os.ReadFile(filepath.Join(root, "internal/receiver/stream", part))
		if err != nil {
			return script{}, err
		}
		source = append(source, text...)
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
	in.Scan()                                     // +OK
	digest := fmt.Sprintf("%x", sha1.Sum(source)) // as Redis names scripts
	var calls [][]string
	for range 2 {
		if err := appendOne(s); err != nil {
			return script{}, err
		}
		for in.Scan() {
			if call := monitored(in.Text()); len(call) > 4 && strings.EqualFold(call[0], "EVALSHA") && call[1] == digest {
				calls = append(calls, call[1:])
				break
			}
		}
	}
	if len(calls) != 2 {
		return script{}, errors.New("the store did not call append.lua by EVALSHA; the controls in script.go have to follow")
	}
	a, b := calls[0][2], calls[1][2]
	common := 0
	for common < len(a) && common < len(b) && a[common] == b[common] {
		common++
	}
	return script{source: string(source), args: calls[1], unique: common}, nil
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

// call returns the arguments with a marker's key of the same length that nobody else has.
func (s script) call(id int64) []string {
	args := append([]string(nil), s.args...)
	key := strconv.FormatInt(id, 10)
	room := len(args[2]) - s.unique
	args[2] = args[2][:s.unique] + key[max(0, len(key)-room):] + strings.Repeat("x", max(0, room-len(key)))
	return args
}

// request is the script's call as the generator sends it to Redis itself, each with a marker of its own.
func (s script) request() request {
	args := append([]string{"EVALSHA"}, s.args...)
	args[3] = s.args[2][:s.unique] + strconv.FormatInt(firstID, 10)
	out := fmt.Appendf(nil, "*%d\r\n", len(args))
	id := 0
	for i, a := range args {
		out = fmt.Appendf(out, "$%d\r\n%s\r\n", len(a), a)
		if i == 3 {
			id = len(out) - len("\r\n") - idDigits
		}
	}
	return request{out, id}
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
	args := append([]string(nil), s.args...)
	const random = "__rand_int__"
	args[2] = args[2][:s.unique] + random + strings.Repeat("x", max(0, len(args[2])-s.unique-len(random)))
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

// fill puts n events into a store for one target, as receivers do, and returns how long that took.
func fill(s *stream.Store, n int) error {
	const workers = 128
	errs := make(chan error, workers)
	for w := range workers {
		go func() {
			var err error
			for i := w; i < n && err == nil; i += workers {
				key, e, failed := stored(nextID())
				if err = failed; err == nil {
					_, err = s.Append(context.Background(), key, e, []string{target}, limits)
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
