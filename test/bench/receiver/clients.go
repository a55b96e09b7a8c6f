package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// client calls the product's append script in one way.
type client struct {
	name string
	call func(ctx context.Context, s script, id int64) error
}

// clients compares Redis clients for Go under the product's append script, in both ways of syncing.
func (b *bench) clients() error {
	for _, fsync := range []string{"everysec", "always"} {
		if err := b.compareClients(fsync); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) compareClients(fsync string) error {
	r, err := b.redis(fsync)
	if err != nil {
		return err
	}
	s, err := b.captureScript(r)
	if err != nil {
		return err
	}
	all, err := b.openClients(r)
	if err != nil {
		return err
	}
	got := make([][]clientResult, len(all))
	for round := range b.rounds + 1 {
		for i := range all {
			i = (i + round) % len(all)
			b.settle()
			result, err := calm(b, forThroughput, func() (clientResult, error) {
				return hammer(all[i], s, b.short(1500*time.Millisecond, 500*time.Millisecond))
			})
			if err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
			if round > 0 { // the first one warms up
				got[i] = append(got[i], result)
			}
		}
	}
	pick := func(rs []clientResult, f func(clientResult) float64) []float64 {
		var out []float64
		for _, r := range rs {
			out = append(out, f(r))
		}
		return out
	}
	for i, c := range all {
		rate := pick(got[i], func(r clientResult) float64 { return r.rate })
		p50 := pick(got[i], func(r clientResult) float64 { return float64(r.p50) / 1e6 })
		p99 := pick(got[i], func(r clientResult) float64 { return float64(r.p99) / 1e6 })
		cpu := pick(got[i], func(r clientResult) float64 { return r.cpu })
		allocations := pick(got[i], func(r clientResult) float64 { return r.allocations })
		b.report.Clients = append(b.report.Clients, row{
			What: "fsync " + fsync + ": " + c.name, Measured: perSecond(median(rate)),
			Control: fmt.Sprintf("%.2f ms / %.2f ms", median(p50), median(p99)),
			Ratio:   fmt.Sprintf("%.1f µs, %.1f", median(cpu), median(allocations)),
			Figures: map[string][]float64{"calls/s": rate, "p50 ms": p50, "p99 ms": p99, "µs": cpu, "allocations": allocations},
		})
	}
	return nil
}

func (b *bench) openClients(r *redis) ([]client, error) {
	plain := goredis.NewClient(&goredis.Options{Addr: r.addr, PoolSize: connections})
	b.cleanup(func() { _ = plain.Close() })
	pipelined := goredis.NewClient(&goredis.Options{Addr: r.addr})
	b.cleanup(func() { _ = pipelined.Close() })
	auto, err := pipelined.AutoPipeline()
	if err != nil {
		return nil, err
	}
	goRedis := func(c interface {
		EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *goredis.Cmd
	},
	) func(context.Context, script, int64) error {
		return func(ctx context.Context, s script, id int64) error {
			keys, args := s.split(id)
			anys := make([]any, len(args))
			for i, a := range args {
				anys[i] = a
			}
			n, err := c.EvalSha(ctx, s.args[0], keys, anys...).Int()
			return oneOf(n, err)
		}
	}
	withOptions := func(o rueidis.ClientOption) (func(context.Context, script, int64) error, error) {
		o.InitAddress, o.DisableCache, o.PipelineMultiplex, o.RingScaleEachConn = []string{r.addr}, true, -1, 9
		o.ReadBufferEachConn, o.WriteBufferEachConn = 64<<10, 64<<10
		c, err := rueidis.NewClient(o)
		if err != nil {
			return nil, err
		}
		b.cleanup(c.Close)
		return func(ctx context.Context, s script, id int64) error {
			keys, args := s.split(id)
			n, err := c.Do(ctx, c.B().Evalsha().Sha1(s.args[0]).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()).AsInt64()
			return oneOf(int(n), err)
		}, nil
	}
	ours, err := withOptions(rueidis.ClientOption{})
	if err != nil {
		return nil, err
	}
	delayed, err := withOptions(rueidis.ClientOption{MaxFlushDelay: 20 * time.Microsecond})
	if err != nil {
		return nil, err
	}
	store, err := b.store(r)
	if err != nil {
		return nil, err
	}
	return []client{
		{"go-redis 9.23, pool of 64", goRedis(plain)},
		{"go-redis 9.23, AutoPipeline", goRedis(auto)},
		{"rueidis 1.0.79, one connection", ours},
		{"the same, MaxFlushDelay 20 µs", delayed},
		{"the product's store on rueidis, event decoded from a body", func(ctx context.Context, _ script, id int64) error {
			key, e, err := stored(id)
			if err != nil {
				return err
			}
			_, err = store.Append(ctx, key, e, []string{target}, limits)
			return err
		}},
	}, nil
}

func oneOf(n int, err error) error {
	if err == nil && n != 1 {
		return fmt.Errorf("the script answers %d", n)
	}
	return err
}

// split returns keys and arguments of a call for the event with an id.
func (s script) split(id int64) (keys, args []string) {
	call := s.call(id)
	return call[2 : 2+len(call)-2-s.plain()], call[len(call)-s.plain():]
}

// plain is the number of arguments that are no keys.
func (s script) plain() int {
	keys := 0
	for _, digit := range s.args[1] {
		keys = keys*10 + int(digit-'0')
	}
	return len(s.args) - 2 - keys
}

type clientResult struct {
	rate, cpu, allocations float64 // calls a second, µs a call, allocations a call
	p50, p99               time.Duration
}

// hammer calls from 64 goroutines for d. Everything in this process meanwhile is the client.
func hammer(c client, s script, d time.Duration) (clientResult, error) {
	const goroutines = 64
	ctx := context.Background()
	latencies := make([][]time.Duration, goroutines)
	for i := range latencies {
		latencies[i] = make([]time.Duration, 0, 1<<14)
	}
	var failure atomic.Pointer[error]
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	used := ownCPU()
	begin := time.Now()
	end := begin.Add(d)
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for now := time.Now(); now.Before(end); {
				if err := c.call(ctx, s, nextID()); err != nil {
					failure.Store(&err)
					return
				}
				then := now
				now = time.Now()
				latencies[g] = append(latencies[g], now.Sub(then))
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	cpu := ownCPU() - used
	runtime.ReadMemStats(&after)
	if err := failure.Load(); err != nil {
		return clientResult{}, *err
	}
	flat := slices.Concat(latencies...)
	if len(flat) == 0 {
		return clientResult{}, errors.New("no call was answered")
	}
	slices.Sort(flat)
	n := float64(len(flat))
	return clientResult{
		rate: n / took.Seconds(), cpu: float64(cpu) / 1e3 / n, allocations: float64(after.Mallocs-before.Mallocs) / n,
		p50: percentile(flat, 50), p99: percentile(flat, 99),
	}, nil
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
