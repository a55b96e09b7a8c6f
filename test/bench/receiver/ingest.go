package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/ingest"
)

// busyTarget takes connections and never answers, so a receiver that has it only stores.
func (l *lab) busyTarget() (config.Target, error) {
	s, err := newSink(true)
	if err != nil {
		return config.Target{}, err
	}
	l.cleanup(s.close)
	return config.Target{Name: target, URL: s.url, Timeout: config.Duration(10 * time.Minute)}, nil
}

// sample is one round of one contender.
type sample struct {
	rate, events float64
	cpu, mallocs float64 // of the server, for one event; cpu in µs
}

// closed keeps p busy in a closed loop, and measures the processor time that it uses.
func closed(p process) func(time.Duration) (sample, error) {
	return func(d time.Duration) (sample, error) {
		used := p.cpu()
		r, err := load{addr: p.addr, request: newRequest(p.addr)}.run(d)
		events := float64(r.answered)
		return sample{rate: r.perSecond(), events: events, cpu: float64(p.cpu()-used) / 1e3 / events}, err
	}
}

// costed counts what the receiver allocates while run keeps it busy.
func (r *receiverProcess) costed(run func(time.Duration) (sample, error)) func(time.Duration) (sample, error) {
	return func(d time.Duration) (sample, error) {
		before, err := r.metric("go_memstats_mallocs_total")
		if err != nil {
			return sample{}, err
		}
		s, err := run(d)
		if err != nil {
			return sample{}, err
		}
		after, err := r.metric("go_memstats_mallocs_total")
		s.mallocs = (after - before) / s.events
		return s, err
	}
}

// ingest compares the product's intake with three controls, and measures it at half of its maximum.
func (b *bench) ingest() error {
	busy, err := b.busyTarget()
	if err != nil {
		return err
	}
	productRedis, err := b.redis("everysec")
	if err != nil {
		return err
	}
	product, err := b.startReceiver(productRedis, busy)
	if err != nil {
		return err
	}
	scriptRedis, err := b.redis("everysec")
	if err != nil {
		return err
	}
	script, err := b.captureScript(scriptRedis)
	if err != nil {
		return err
	}
	bareServer, err := b.control("bare")
	if err != nil {
		return err
	}
	asynqRedis, err := b.redis("everysec")
	if err != nil {
		return err
	}
	asynqServer, err := b.control("asynq", asynqRedis.addr)
	if err != nil {
		return err
	}

	contenders := []struct {
		name     string
		run      func(time.Duration) (sample, error)
		got, cpu []float64
	}{
		{name: "product", run: product.costed(closed(product.process))},
		{name: "redis-benchmark", run: func(d time.Duration) (sample, error) {
			rate, err := script.benchmark(scriptRedis, d, 20_000)
			return sample{rate: rate}, err
		}},
		{name: "bare", run: closed(bareServer)},
		{name: "asynq", run: closed(asynqServer)},
	}
	for _, c := range contenders { // warm up: heaps, connections, script caches
		if _, err := c.run(b.short(time.Second, 200*time.Millisecond)); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	var mallocs []float64
	product.resetPeak()
	for round := range b.rounds {
		for i := range contenders {
			c := &contenders[(round+i)%len(contenders)] // no one is always first
			b.settle()
			s, err := calm(b, forThroughput, func() (sample, error) { return c.run(b.short(2*time.Second, time.Second)) })
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.got, c.cpu = append(c.got, s.rate), append(c.cpu, s.cpu)
			if c.name == "product" {
				mallocs = append(mallocs, s.mallocs)
			}
		}
	}
	_, peak := product.memory()

	rate := median(contenders[0].got)
	b.ingestMax = rate
	for i, goal := range []struct {
		what, control string
		ratio         float64
	}{
		{"ingest, 64 connections, stored before 200", "the same script by redis-benchmark -c 50 -P 1", 0.70},
		{"ingest", "bare net/http handler that reads the body", 0.45},
		{"ingest", "sixty lines on asynq 0.26, TaskID as the key", 1.35},
	} {
		c := contenders[i+1]
		control := median(c.got)
		b.add(row{
			What: goal.what, Measured: perSecond(rate), Control: goal.control + ": " + perSecond(control),
			Ratio: fmt.Sprintf("%.2f", rate/control), Goal: fmt.Sprintf("≥ %.2f", goal.ratio), Holds: new(rate/control >= goal.ratio),
			Figures: map[string][]float64{"product": contenders[0].got, c.name: c.got},
		})
	}
	cpu, bareCPU := contenders[0].cpu, contenders[2].cpu
	ratio := median(cpu) / median(bareCPU)
	b.add(row{
		What: "receiver CPU for one event, ingest side", Measured: fmt.Sprintf("%.1f µs", median(cpu)),
		Control: fmt.Sprintf("the bare handler's for a request: %.1f µs", median(bareCPU)), Ratio: fmt.Sprintf("%.2f", ratio),
		Goal: "≤ 1.80", Holds: new(ratio <= 1.8), Figures: map[string][]float64{"µs": cpu, "bare µs": bareCPU},
	})
	b.add(row{
		What: "allocations for one event, whole process with net/http and logging", Measured: fmt.Sprintf("%.1f", median(mallocs)),
		Figures: map[string][]float64{"allocations": mallocs},
	})
	b.add(row{
		What: "receiver memory at peak ingest", Measured: mib(peak), Goal: "≤ 64 MiB", Holds: new(peak <= 64<<20),
		Figures: map[string][]float64{"bytes": {float64(peak)}},
	})
	return b.openLoop(product, load{addr: scriptRedis.addr, request: script.request()})
}

// openLoop measures latencies at half of the maximum, and beside them those of Redis alone, under the same script, at the
// same rate, from the same generator.
func (b *bench) openLoop(product *receiverProcess, redis load) error {
	contenders := []struct {
		load           load
		p50, p99, p999 []time.Duration
	}{
		{load: load{addr: product.addr, request: newRequest(product.addr)}},
		{load: redis},
	}
	for range b.rounds {
		for i := range contenders {
			c := &contenders[i]
			c.load.rate = b.ingestMax / 2
			b.settle()
			r, err := calm(b, forLatency, func() (result, error) { return c.load.run(b.short(4*time.Second, 2*time.Second)) })
			if err != nil {
				return err
			}
			c.p50 = append(c.p50, r.percentile(50))
			c.p99 = append(c.p99, r.percentile(99))
			c.p999 = append(c.p999, r.percentile(99.9))
		}
	}
	whole, alone := contenders[0], contenders[1]
	add := func(what string, whole, alone []time.Duration, goal string, holds func(ratio float64) bool) {
		ratio := float64(median(whole)) / float64(median(alone))
		r := row{
			What: what, Measured: ms(median(whole)), Ratio: fmt.Sprintf("%.2f", ratio), Goal: goal,
			Control: fmt.Sprintf("Redis alone, the same script and rate, %.0f/s, half of the maximum: %s", b.ingestMax/2, ms(median(alone))),
			Figures: map[string][]float64{"product ms": milliseconds(whole), "Redis ms": milliseconds(alone)},
		}
		if goal != "" {
			r.Holds = new(holds(ratio))
		}
		b.add(r)
	}
	add("ingest p50", whole.p50, alone.p50, "", nil)
	add("ingest p99", whole.p99, alone.p99, "≤ 2.50", func(ratio float64) bool { return ratio <= 2.5 })
	add("ingest p99.9", whole.p999, alone.p999, "≤ 20 ms", func(float64) bool { return median(whole.p999) <= 20*time.Millisecond })
	return nil
}

// cost counts allocations of the intake inside this process: the handler with a store that does nothing, and with the
// product's.
func (b *bench) cost() error {
	r, err := b.redis("everysec")
	if err != nil {
		return err
	}
	s, err := b.store(r)
	if err != nil {
		return err
	}
	n := b.few(50_000, 10_000)
	alone, aloneTook, err := handlerCost(storeFunc(func(_ context.Context, _ event.Identity, e event.Event, _ []string) (event.Judgement, string, error) {
		return event.New, e.ID, nil
	}), n)
	if err != nil {
		return err
	}
	whole, _, err := handlerCost(storeFunc(func(ctx context.Context, id event.Identity, e event.Event, targets []string) (event.Judgement, string, error) {
		appended, err := s.Append(ctx, id, e, targets, limits)
		return appended.Judgement, appended.ID, err
	}), n)
	if err != nil {
		return err
	}
	b.add(row{
		What: "allocations for one event, ingest side: handler and store", Measured: fmt.Sprintf("%.1f", whole),
		Control: fmt.Sprintf("handler alone %.1f, in %s", alone, aloneTook.Round(10*time.Nanosecond)), Goal: "≤ 13", Holds: new(whole < 13.05), // the process allocates besides

		Figures: map[string][]float64{"handler": {alone}, "handler and store": {whole}, "handler ns": {float64(aloneTook)}},
	})
	return nil
}

type storeFunc func(context.Context, event.Identity, event.Event, []string) (event.Judgement, string, error)

func (f storeFunc) Append(ctx context.Context, id event.Identity, e event.Event, targets []string) (event.Judgement, string, error) {
	return f(ctx, id, e, targets)
}

type silent struct{}

func (silent) Answered(ingest.Report) {}

// discard is a ResponseWriter that only remembers the status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

func handlerCost(s ingest.Store, n int) (allocations float64, took time.Duration, err error) {
	h := ingest.NewHandler(s, silent{}, ingest.Settings{
		Namespace: namespace, Name: name, Paths: []string{path}, Tokens: [][]byte{[]byte(token)},
		Targets: []ingest.Target{{Name: target}}, MaxBodyBytes: 1 << 20,
	})
	w := &discard{header: http.Header{}}
	req, err := http.NewRequest(http.MethodPost, "http://localhost"+path, nil)
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.RemoteAddr = "127.0.0.1:40000"
	template := newRequest("")
	raw := bytes.Clone(template.bytes)
	start := bytes.Index(raw, headerEnd) + len(headerEnd)
	reader := bytes.NewReader(nil)
	req.Body, req.ContentLength = io.NopCloser(reader), int64(len(raw)-start)
	once := func() {
		template.stamp(raw)
		reader.Reset(raw[start:])
		h.ServeHTTP(w, req)
	}
	once()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	for range n {
		once()
	}
	took = time.Since(begin) / time.Duration(n)
	runtime.ReadMemStats(&after)
	if w.status != 0 && w.status != http.StatusOK { // net/http makes a 200 of an answer that is never begun
		return 0, 0, fmt.Errorf("the handler answers %d", w.status)
	}
	return float64(after.Mallocs-before.Mallocs) / float64(n), took, nil
}

// start measures from exec to ready.
func (b *bench) start() error {
	busy, err := b.busyTarget()
	if err != nil {
		return err
	}
	r, err := b.redis("everysec")
	if err != nil {
		return err
	}
	var took []time.Duration
	var idle []float64
	for i := range b.few(15, 3) {
		cmd, product, err := b.prepare(r, []config.Target{busy})
		if err != nil {
			return err
		}
		mark := b.mark()
		begin := time.Now()
		if err := b.launch(cmd, product); err != nil {
			return err
		}
		took = append(took, time.Since(begin))
		if i == 0 {
			time.Sleep(b.short(4*time.Second, time.Second))
			now, _ := product.memory()
			idle = append(idle, float64(now))
		}
		b.release(mark)
	}
	size := int64(0)
	if info, err := os.Stat(filepath.Clean(b.receiver)); err == nil {
		size = info.Size()
	}
	b.add(row{
		What: "receiver from exec to ready", Measured: ms(median(took)), Control: "the binary is " + mib(size), Goal: "≤ 100 ms",
		Holds: new(median(took) <= 100*time.Millisecond), Figures: map[string][]float64{"ms": milliseconds(took)},
	})
	b.add(row{
		What: "receiver memory, idle", Measured: mib(int64(idle[0])), Goal: "≤ 16 MiB", Holds: new(idle[0] <= 16<<20),
		Figures: map[string][]float64{"bytes": idle},
	})
	return nil
}
