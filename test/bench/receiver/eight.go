package main

import (
	"fmt"
	"strconv"
	"time"

	"heymarket.dev/operator/internal/receiver/config"
)

// fanOut is a receiver with a number of targets, each fast, on a Redis of its own.
type fanOut struct {
	names  []string
	sinks  []*sink
	redis  *redis
	server *receiverProcess
	waits  float64 // bytes in Redis for one event that waits for all of them
	spent  []spent
}

// spent is the cost of one event from intake to the last of its targets.
type spent struct {
	network float64       // bytes that Redis receives and sends
	cpu     time.Duration // of receiver and Redis
}

// eightTargets compares an event that eight targets want with one for one target.
func (b *bench) eightTargets() error {
	one, err := b.fanOut(1)
	if err != nil {
		return err
	}
	eight, err := b.fanOut(8)
	if err != nil {
		return err
	}
	most, err := b.capacity(len(eight.names))
	if err != nil {
		return err
	}
	rate := most / 2
	for range b.rounds {
		for _, f := range []*fanOut{one, eight} {
			b.settle()
			s, err := calm(b, forThroughput, func() (spent, error) { return b.spend(f, rate) })
			if err != nil {
				return err
			}
			f.spent = append(f.spent, s)
		}
	}
	add := func(what, unit string, one, eight []float64) {
		ratio := median(eight) / median(one)
		b.add(row{
			What: "an event for 8 targets: " + what, Measured: fmt.Sprintf("%.0f %s", median(eight), unit),
			Control: fmt.Sprintf("for 1 target: %.0f %s", median(one), unit), Ratio: fmt.Sprintf("%.2f", ratio), Goal: "≤ 2.50", Holds: new(ratio <= 2.5),
			Figures: map[string][]float64{"8 " + unit: eight, "1 " + unit: one},
		})
	}
	add("Redis memory while it waits", "bytes", []float64{one.waits}, []float64{eight.waits})
	add(fmt.Sprintf("network of Redis, at %.0f/s", rate), "bytes", one.each(spent.bytes), eight.each(spent.bytes))
	add("CPU of receiver and Redis, intake to last delivery", "µs", one.each(spent.micros), eight.each(spent.micros))
	return nil
}

func (s spent) bytes() float64  { return s.network }
func (s spent) micros() float64 { return float64(s.cpu) / 1e3 }

func (f *fanOut) each(of func(spent) float64) (out []float64) {
	for _, s := range f.spent {
		out = append(out, of(s))
	}
	return out
}

// fanOut weighs events for n targets, and starts a receiver that has them.
func (b *bench) fanOut(n int) (*fanOut, error) {
	f := &fanOut{}
	var targets []config.Target
	for i := range n {
		s, err := newSink(false)
		if err != nil {
			return nil, err
		}
		b.cleanup(s.close)
		f.names, f.sinks = append(f.names, "target-"+strconv.Itoa(i)), append(f.sinks, s)
		targets = append(targets, config.Target{Name: f.names[i], URL: s.url})
	}
	scales, err := b.redis("everysec")
	if err != nil {
		return nil, err
	}
	s, err := b.store(scales)
	if err != nil {
		return nil, err
	}
	events := b.few(20_000, 5_000)
	if f.waits, err = scales.weigh(func() error { return fill(s, events, stored, f.names...) }, events); err != nil {
		return nil, err
	}
	if f.redis, err = b.redis("everysec"); err != nil {
		return nil, err
	}
	f.server, err = b.startReceiver(f.redis, targets...)
	return f, err
}

// spend sends at a rate until every target has every event.
func (b *bench) spend(f *fanOut, rate float64) (spent, error) {
	network, err := f.redis.network()
	if err != nil {
		return spent{}, err
	}
	cpu := f.redis.cpu() + f.server.cpu()
	took, err := b.through(f.server, rate, b.short(3*time.Second, time.Second), f.sinks...)
	if err != nil {
		return spent{}, err
	}
	events := len(took) / len(f.sinks)
	cpu = f.redis.cpu() + f.server.cpu() - cpu
	after, err := f.redis.network()
	return spent{float64(after-network) / float64(events), cpu / time.Duration(events)}, err
}
