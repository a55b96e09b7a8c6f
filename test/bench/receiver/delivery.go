package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/event"
)

const inFlight = 32 // the product's default for one target

// delivery drains a backlog into a null target.
func (b *bench) delivery() error {
	null, err := newSink(false)
	if err != nil {
		return err
	}
	b.cleanup(null.close)
	productRedis, err := b.redis("everysec")
	if err != nil {
		return err
	}
	store, err := b.store(productRedis)
	if err != nil {
		return err
	}
	rawRedis, err := b.redis("everysec")
	if err != nil {
		return err
	}
	const stream = "raw:stream"
	raw, err := b.control("raw", rawRedis.addr, stream, null.url, strconv.Itoa(inFlight))
	if err != nil {
		return err
	}
	n := b.few(50_000, 10_000)
	rounds := b.few(max(3, b.rounds-1), 1)

	product := func() (float64, error) {
		if err := fill(store, n, stored, target); err != nil {
			return 0, err
		}
		b.settle()
		mark := b.mark()
		defer b.release(mark)
		timed := null.time(n)
		if _, err := b.startReceiver(productRedis, config.Target{Name: target, URL: null.url, MaxInFlight: inFlight}); err != nil {
			return 0, err
		}
		took, err := timed()
		if err != nil {
			return 0, err
		}
		return float64(n) / took.Seconds(), b.awaitEmpty(productRedis)
	}
	control := func() (float64, error) {
		if _, err := rawRedis.do("DEL", stream); err != nil {
			return 0, err
		}
		if _, err := rawRedis.do("XGROUP", "CREATE", stream, "raw", "0", "MKSTREAM"); err != nil {
			return 0, err
		}
		if err := rawRedis.fillStream(stream, n); err != nil {
			return 0, err
		}
		b.settle()
		timed := null.time(n)
		response, err := http.Get("http://" + raw.addr)
		if err != nil {
			return 0, err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(response.Body)
			return 0, fmt.Errorf("raw loop: %s", text)
		}
		took, err := timed()
		return float64(n) / took.Seconds(), err
	}
	var products, controls []float64
	for i := range 2 * rounds {
		if (i+i/2)%2 == 0 { // product, control, control, product, ...
			v, err := calm(b, forThroughput, product)
			if err != nil {
				return err
			}
			products = append(products, v)
			continue
		}
		v, err := calm(b, forThroughput, control)
		if err != nil {
			return err
		}
		controls = append(controls, v)
	}
	b.deliveryMax = median(products)
	ratio := median(products) / median(controls)
	b.add(row{
		What: fmt.Sprintf("delivery of a backlog of %d to a null target, %d in flight", n, inFlight), Measured: perSecond(median(products)),
		Control: "raw XREADGROUP + POST + XACK: " + perSecond(median(controls)), Ratio: fmt.Sprintf("%.2f", ratio), Goal: "≥ 0.75", Holds: new(ratio >= 0.75),
		Figures: map[string][]float64{"product": products, "raw": controls},
	})

	return nil
}

// remembered weighs what Redis keeps of events that are gone.
func (b *bench) remembered() error {
	n := b.few(250_000, 50_000)
	for _, kind := range []struct {
		what string
		of   func(id int64) (event.Identity, event.Event, error)
		goal int
	}{
		{"Redis memory for one remembered event", subjectless, 115},
		{"the same for a message, with the last state of its subject", stored, 0},
	} {
		r, err := b.redis("everysec")
		if err != nil {
			return err
		}
		s, err := b.store(r)
		if err != nil {
			return err
		}
		each, err := r.weigh(func() error { return fill(s, n, kind.of) }, n)
		if err != nil {
			return err
		}
		x := row{
			What: kind.what, Measured: fmt.Sprintf("%.0f bytes", each),
			Control: fmt.Sprintf("used_memory over %s events of %s/%s", thousands(int64(n)), namespace, name), Figures: map[string][]float64{"bytes": {each}},
		}
		if kind.goal > 0 {
			x.Goal, x.Holds = fmt.Sprintf("≤ %d bytes", kind.goal), new(each <= float64(kind.goal))
		}
		b.add(x)
	}
	return nil
}

// weigh returns by how many bytes f increases the memory of Redis, divided by n.
func (r *redis) weigh(f func() error, n int) (float64, error) {
	before, err := r.usedMemory()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := r.usedMemory()
	return float64(after-before) / float64(n), err
}

// time returns a function that waits until n more events have arrived and returns the time since the first.
func (s *sink) time(n int) func() (time.Duration, error) {
	var count atomic.Int64
	var first time.Time
	done := make(chan time.Duration, 1)
	f := func(_ int64, at time.Time) {
		switch count.Add(1) { // one thread calls this
		case 1:
			first = at
		case int64(n):
			done <- at.Sub(first)
		}
	}
	s.arrived.Store(&f)
	return func() (time.Duration, error) {
		select {
		case took := <-done:
			return took, nil
		case <-time.After(2 * time.Minute):
			return 0, fmt.Errorf("the target has got %d events of %d after two minutes", count.Load(), n)
		}
	}
}

// awaitEmpty waits until everything is settled.
func (b *bench) awaitEmpty(r *redis) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		n, err := r.pending()
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d events are not settled after a minute", n)
		}
	}
}

// fillStream adds n entries of the product's shape to a stream.
func (r *redis) fillStream(stream string, n int) error {
	const workers = 64
	errs := make(chan error, workers)
	for w := range workers {
		go func() {
			var err error
			for i := w; i < n && err == nil; i += workers {
				var e event.Event
				if _, e, err = stored(nextID()); err == nil {
					_, err = r.do("XADD", stream, "*", "id", e.ID, "type", e.Type, "at", strconv.FormatInt(e.AcceptedAt.UnixMilli(), 10), "body", string(e.Body))
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

// capacity is how many events a second go all the way through one receiver to n targets: what intake and delivery need
// for one event adds up, because they share the machine.
func (b *bench) capacity(targets int) (float64, error) {
	if b.ingestMax == 0 {
		busy, err := b.busyTarget()
		if err != nil {
			return 0, err
		}
		r, err := b.redis("everysec")
		if err != nil {
			return 0, err
		}
		p, err := b.startReceiver(r, busy)
		if err != nil {
			return 0, err
		}
		out, err := load{addr: p.addr, request: newRequest(p.addr)}.run(2 * time.Second)
		if err != nil {
			return 0, err
		}
		b.ingestMax = out.perSecond()
	}
	if b.deliveryMax == 0 {
		null, err := newSink(false)
		if err != nil {
			return 0, err
		}
		b.cleanup(null.close)
		r, err := b.redis("everysec")
		if err != nil {
			return 0, err
		}
		s, err := b.store(r)
		if err != nil {
			return 0, err
		}
		const n = 20_000
		if err := fill(s, n, stored, target); err != nil {
			return 0, err
		}
		timed := null.time(n)
		if _, err := b.startReceiver(r, config.Target{Name: target, URL: null.url}); err != nil {
			return 0, err
		}
		took, err := timed()
		if err != nil {
			return 0, err
		}
		b.deliveryMax = n / took.Seconds()
	}
	return 1 / (1/b.ingestMax + float64(targets)/b.deliveryMax), nil
}

// stopwatch measures from the moment at which an event is sent to the moment at which a target has it.
type stopwatch struct {
	first int64
	sent  []atomic.Int64
	took  []time.Duration
}

func newStopwatch(events int) *stopwatch {
	return &stopwatch{first: firstID + lastID.Load() + 1, sent: make([]atomic.Int64, events), took: make([]time.Duration, 0, events)}
}

func (s *stopwatch) send(id int64, at time.Time) {
	if i := id - s.first; i >= 0 && i < int64(len(s.sent)) {
		s.sent[i].Store(at.UnixNano())
	}
}

// arrive is called by one sink only.
func (s *stopwatch) arrive(id int64, at time.Time) {
	if i := id - s.first; i >= 0 && i < int64(len(s.sent)) {
		s.took = append(s.took, time.Duration(at.UnixNano()-s.sent[i].Load()))
	}
}

// through sends at a rate to a receiver and returns the sorted times from sending to arrival at each of the targets.
func (b *bench) through(p *receiverProcess, rate float64, d time.Duration, targets ...*sink) ([]time.Duration, error) {
	watches := make([]*stopwatch, len(targets))
	for i, t := range targets {
		watches[i] = newStopwatch(int(rate*d.Seconds()*1.2) + 1000)
		arrive := watches[i].arrive
		t.arrived.Store(&arrive)
	}
	before := make([]int64, len(targets))
	for i, t := range targets {
		before[i] = t.count.Load()
	}
	out, err := load{addr: p.addr, request: newRequest(p.addr), rate: rate, sent: func(id int64, at time.Time) {
		for _, w := range watches {
			w.send(id, at)
		}
	}}.run(d)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		all := true
		for i, t := range targets {
			all = all && t.count.Load()-before[i] >= int64(out.answered)
		}
		if all {
			break
		}
		if time.Now().After(deadline) {
			return nil, errors.New("not every event has arrived after thirty seconds")
		}
	}
	var took []time.Duration
	for i, t := range targets {
		t.arrived.Store(nil)
		took = append(took, watches[i].took...)
	}
	slices.Sort(took)
	return took, nil
}

// latency measures from sender to target at half of what goes all the way through.
func (b *bench) latency() error {
	most, err := b.capacity(1)
	if err != nil {
		return err
	}
	fast, err := newSink(false)
	if err != nil {
		return err
	}
	b.cleanup(fast.close)
	r, err := b.redis("everysec")
	if err != nil {
		return err
	}
	p, err := b.startReceiver(r, config.Target{Name: target, URL: fast.url})
	if err != nil {
		return err
	}
	if _, err := b.through(p, most/2, b.short(time.Second, 300*time.Millisecond), fast); err != nil { // warm up
		return err
	}
	var p50, p99, p999 []time.Duration
	for range b.rounds {
		b.settle()
		took, err := calm(b, forLatency, func() ([]time.Duration, error) {
			return b.through(p, most/2, b.short(4*time.Second, 2*time.Second), fast)
		})
		if err != nil {
			return err
		}
		p50 = append(p50, percentile(took, 50))
		p99 = append(p99, percentile(took, 99))
		p999 = append(p999, percentile(took, 99.9))
	}
	at := fmt.Sprintf("open loop at %.0f/s, half of what goes all the way through; from sending on", most/2)
	b.add(row{
		What: "accepted → delivered, fast target, p50", Measured: ms(median(p50)), Control: at, Goal: "≤ 3 ms", Holds: new(median(p50) <= 3*time.Millisecond),
		Figures: map[string][]float64{"p50 ms": milliseconds(p50), "p99 ms": milliseconds(p99), "p99.9 ms": milliseconds(p999)},
	})
	b.add(row{
		What: "accepted → delivered, fast target, p99", Measured: ms(median(p99)), Control: at, Goal: "≤ 20 ms",
		Holds: new(median(p99) <= 20*time.Millisecond),
	})
	return nil
}

// deadTarget compares two healthy targets beside a third healthy one with the same two beside one that refuses
// connections, and beside one that takes them and never answers.
func (b *bench) deadTarget() error {
	most, err := b.capacity(3)
	if err != nil {
		return err
	}
	refusing, err := freeAddress()
	if err != nil {
		return err
	}
	hanging, err := newSink(true)
	if err != nil {
		return err
	}
	b.cleanup(hanging.close)
	third, err := newSink(false)
	if err != nil {
		return err
	}
	b.cleanup(third.close)
	type setting struct {
		name    string
		url     string // of the target that the two are beside
		redis   *redis
		product *receiverProcess
		healthy []*sink
		p99     []time.Duration
	}
	timeout := config.Duration(time.Second)
	settings := []*setting{
		{name: "is healthy", url: third.url},
		{name: "refuses", url: "http://" + refusing + "/"},
		{name: "hangs", url: hanging.url},
	}
	for _, s := range settings {
		targets := []config.Target{{Name: "third", URL: s.url, Timeout: timeout}}
		for _, n := range []string{"crm", "bi"} {
			healthy, err := newSink(false)
			if err != nil {
				return err
			}
			b.cleanup(healthy.close)
			s.healthy = append(s.healthy, healthy)
			targets = append(targets, config.Target{Name: n, URL: healthy.url})
		}
		if s.redis, err = b.redis("everysec"); err != nil {
			return err
		}
		if s.product, err = b.startReceiver(s.redis, targets...); err != nil {
			return err
		}
		if _, err := b.through(s.product, most/2, b.short(time.Second, 300*time.Millisecond), s.healthy...); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for round := range b.rounds {
		for i := range settings {
			s := settings[(round+i)%len(settings)]
			b.settle()
			took, err := calm(b, forLatency, func() ([]time.Duration, error) {
				return b.through(s.product, most/2, b.short(3*time.Second, 1500*time.Millisecond), s.healthy...)
			})
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.p99 = append(s.p99, percentile(took, 99))
		}
	}
	control := median(settings[0].p99)
	for _, s := range settings[1:] {
		ratio := float64(median(s.p99)) / float64(control)
		b.add(row{
			What: "p99 of healthy targets beside one that " + s.name, Measured: ms(median(s.p99)),
			Control: fmt.Sprintf("a healthy one in its place, at %.0f/s: %s", most/2, ms(control)), Ratio: fmt.Sprintf("%.2f", ratio), Goal: "≤ 1.10", Holds: new(ratio <= 1.10),
			Figures: map[string][]float64{"healthy ms": milliseconds(settings[0].p99), s.name + " ms": milliseconds(s.p99)},
		})
	}
	return nil
}

// memory looks at a receiver whose target is away and has a long queue.
func (b *bench) memory() error {
	r, err := b.redis("everysec")
	if err != nil {
		return err
	}
	s, err := b.store(r)
	if err != nil {
		return err
	}
	n := b.few(1_000_000, 100_000)
	if err := fill(s, n, stored, target); err != nil {
		return err
	}
	refusing, err := freeAddress()
	if err != nil {
		return err
	}
	p, err := b.startReceiver(r, config.Target{Name: target, URL: "http://" + refusing + "/"})
	if err != nil {
		return err
	}
	time.Sleep(b.short(8*time.Second, 2*time.Second))
	left, err := r.pending()
	if err != nil {
		return err
	}
	now, peak := p.memory()
	b.add(row{
		What: fmt.Sprintf("receiver memory with %s events queued, target away", thousands(left)), Measured: mib(peak),
		Control: "peak; afterwards " + mib(now), Goal: "≤ 64 MiB", Holds: new(peak <= 64<<20 && left >= int64(n)),
		Figures: map[string][]float64{"peak bytes": {float64(peak)}, "bytes": {float64(now)}},
	})
	return nil
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	var out []string
	for ; len(s) > 3; s = s[:len(s)-3] {
		out = append(out, s[len(s)-3:])
	}
	out = append(out, s)
	slices.Reverse(out)
	return strings.Join(out, ",")
}
