package main

import (
	"errors"
	"fmt"
	"time"

	"heymarket.dev/operator/internal/receiver/config"
)

// build is a receiver's binary that is compared with another one.
type build struct {
	binary                    string
	redis                     *redis
	server                    *receiverProcess
	rate, cpu                 []float64 // of intake: events a second, µs of the receiver for one
	redisCPU                  []float64 // µs of Redis for one event taken in
	drained, drainCPU, drainR []float64 // of a backlog: the same three
}

// against compares this receiver with the one of -against, each on a Redis of its own, in turns.
func (b *bench) against() error {
	if b.other == "" {
		return errors.New("-against names no binary of a receiver")
	}
	busy, err := b.busyTarget()
	if err != nil {
		return err
	}
	null, err := newSink(false)
	if err != nil {
		return err
	}
	b.cleanup(null.close)
	this := b.receiver
	defer func() { b.receiver = this }()
	builds := []*build{{binary: this}, {binary: b.other}}
	for _, c := range builds {
		b.receiver = c.binary
		if c.redis, err = b.redis("everysec"); err != nil {
			return err
		}
		if c.server, err = b.startReceiver(c.redis, busy); err != nil {
			return err
		}
	}
	for round := range b.rounds + 1 {
		for i := range builds {
			c := builds[(round+i)%len(builds)]
			b.receiver = c.binary
			b.settle()
			used := c.redis.cpu()
			in, err := closed(c.server.process)(b.short(2*time.Second, time.Second))
			if err != nil {
				return err
			}
			redisEach := float64(c.redis.cpu()-used) / 1e3 / in.events
			out, err := b.drain(null)
			if err != nil {
				return err
			}
			if round == 0 { // warms up
				continue
			}
			c.rate, c.cpu, c.redisCPU = append(c.rate, in.rate), append(c.cpu, in.cpu), append(c.redisCPU, redisEach)
			c.drained, c.drainCPU, c.drainR = append(c.drained, out.rate), append(c.drainCPU, out.cpu), append(c.drainR, out.redis)
		}
	}
	add := func(what, format string, of func(*build) []float64) {
		now, other := of(builds[0]), of(builds[1])
		b.add(row{
			What: what, Measured: fmt.Sprintf(format, median(now)), Control: b.other + ": " + fmt.Sprintf(format, median(other)),
			Ratio: fmt.Sprintf("%.2f", median(now)/median(other)), Figures: map[string][]float64{"this": now, "other": other},
		})
	}
	add("ingest", "%.0f/s", func(c *build) []float64 { return c.rate })
	add("ingest: CPU of the receiver for one event", "%.1f µs", func(c *build) []float64 { return c.cpu })
	add("ingest: CPU of Redis for one event", "%.1f µs", func(c *build) []float64 { return c.redisCPU })
	add("delivery of a backlog", "%.0f/s", func(c *build) []float64 { return c.drained })
	add("delivery: CPU of the receiver for one event", "%.1f µs", func(c *build) []float64 { return c.drainCPU })
	add("delivery: CPU of Redis for one event", "%.1f µs", func(c *build) []float64 { return c.drainR })
	return nil
}

// drained is the cost of delivering a backlog: events a second, and µs of receiver and Redis for one.
type drained struct{ rate, cpu, redis float64 }

// drain lets a receiver, started for it, deliver a backlog.
func (b *bench) drain(null *sink) (drained, error) {
	mark := b.mark()
	defer b.release(mark)
	r, err := b.redis("everysec")
	if err != nil {
		return drained{}, err
	}
	s, err := b.store(r)
	if err != nil {
		return drained{}, err
	}
	n := b.few(20_000, 5_000)
	if err := fill(s, n, stored, target); err != nil {
		return drained{}, err
	}
	b.settle()
	timed, used := null.time(n), r.cpu()
	p, err := b.startReceiver(r, config.Target{Name: target, URL: null.url, MaxInFlight: inFlight})
	if err != nil {
		return drained{}, err
	}
	took, err := timed()
	if err != nil {
		return drained{}, err
	}
	if err := b.awaitEmpty(r); err != nil {
		return drained{}, err
	}
	each := func(v float64) float64 { return v / 1e3 / float64(n) }
	return drained{float64(n) / took.Seconds(), each(float64(p.cpu())), each(float64(r.cpu() - used))}, nil
}
