// Package forward delivers stored events: a worker for every target and lane takes, sends and settles, independently of the
// others. A slow or failing target does not affect other targets.
package forward

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/retry"
)

// Queue leases the events of one target and lane. The implementation is stream.Queue.
type Queue interface {
	// Take leases up to limit events, with up to about bytes of bodies, and returns when the next retry is due (negative: none).
	// A positive lease also takes over events that have been held for that long without being settled.
	Take(ctx context.Context, limit int, bytes int64, lease time.Duration) (leases []delivery.Lease, nextDue time.Duration, err error)
	// Done, Later and Dead settle a lease; false means that another consumer has.
	Done(ctx context.Context, l delivery.Lease) (bool, error)
	Later(ctx context.Context, l delivery.Lease, attempt int, delay time.Duration) (bool, error)
	Dead(ctx context.Context, l delivery.Lease, o delivery.Outcome, reason string) (bool, error)
	// Extend renews a lease; false means that it has been settled or now belongs to another attempt.
	Extend(ctx context.Context, l delivery.Lease) (bool, error)
	// Tidy removes consumers that have been silent for that long and hold no events.
	Tidy(ctx context.Context, silent time.Duration) error
}

// Sender makes one attempt. The implementation is target.Target.
type Sender interface {
	Send(ctx context.Context, e event.Event, attempt int) delivery.Outcome
}

// Observer is notified of attempts; the receiver's metrics implement it.
type Observer interface {
	// Attempted is called after each attempt.
	Attempted(target string, o delivery.Outcome, took time.Duration)
	// Settled is called once for each event that leaves its queue, with its age since it entered the queue: accepted or replayed.
	Settled(target string, v retry.Verdict, age time.Duration)
	// Finished is called when an attempt is settled, or cannot be. It must not block.
	Finished(Attempt)
}

// Attempt is one attempt with the decision that followed. It contains only values that may be logged.
type Attempt struct {
	Target, Event, Type string
	// Number counts from 1; 0: the event was given up without an attempt, and Outcome is meaningless.
	Number  int
	Outcome delivery.Outcome
	Took    time.Duration
	// Decision is what happens next. Interrupted means that a shutdown cut the attempt short, so it does not count.
	Decision    retry.Decision
	Interrupted bool
	// Settled reports that the queue has recorded the decision; false with a SettleErr, or if another consumer has settled the
	// event.
	Settled   bool
	SettleErr error
}

// The timing of a worker. The poll finds events that other receivers have stored or lost; Wake announces this receiver's own
// events.
const (
	pollInterval    = time.Second
	errorInterval   = time.Second // between attempts to reach a failing queue
	takeTimeout     = time.Millisecond
	takeShare       = 4 // this fraction of all slots is worth a take while there is a backlog
	leaseMargin     = 15 * time.Second
	tidyInterval    = 10 * time.Minute
	consumerSilence = time.Hour
	settleInterval  = 200 * time.Millisecond
	// settleTimeout is shorter than leaseMargin: after that the event belongs to another consumer.
	settleTimeout = 12 * time.Second
)

// Options configure a Worker. All fields but Check, StoreFails and ClocksDiffer are required.
type Options struct {
	// Target is the name of the target, for logs and metrics.
	Target string
	Lane   delivery.Lane
	// Timeout bounds one attempt; the lease of an event is longer by leaseMargin.
	Timeout time.Duration
	// MaxInFlight bounds concurrent attempts.
	MaxInFlight int
	// MaxBytes bounds the bodies of concurrent attempts together; the last one to start may exceed it.
	MaxBytes int64
	Policy   retry.Policy
	// Gate is shared by all lanes of the target.
	Gate   *Gate
	Sender Sender
	// Check, when set, returns why an event can never be sent, or nil. Such an event is given up without an attempt.
	Check func(context.Context, event.Event) error
	// StoreFails, when set, reports whether an error of a queue means that the store itself fails, which is logged once for all
	// workers. Then a worker does not log its queue's failure as well.
	StoreFails func(error) bool
	// ClocksDiffer, when set, reports that the age of events is unknown. Then no event is given up because of its age.
	ClocksDiffer func() bool
	Observer     Observer
	Log          *slog.Logger
}

// Worker delivers the events of one target and lane.
type Worker struct {
	Options
	queue Queue
	wake  chan struct{}
	slots *slots
	busy  sync.WaitGroup
	held  *held
	// next passes a lease to a goroutine that has finished an attempt, and idle counts those goroutines. A goroutine of its own for
	// each attempt would grow its stack twice, at a tenth of the attempt's processor time.
	next chan delivery.Lease
	idle atomic.Int64
}

// NewWorker returns a Worker that does nothing before Run.
func NewWorker(q Queue, o Options) *Worker {
	return &Worker{Options: o, queue: q, wake: make(chan struct{}, 1), slots: newSlots(o.MaxInFlight), held: newHeld(), next: make(chan delivery.Lease)}
}

// Wake signals that the worker's queue has a new event. It never blocks.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default: // a wake-up is pending
	}
}

// Run takes, sends and settles until taking ends, then waits for the attempts in flight. They end at the latest when sending
// ends; an event whose attempt is cut short returns to its queue at once, so that another receiver takes it.
func (w *Worker) Run(taking, sending context.Context) {
	lease := w.Timeout + leaseMargin
	extending, stop := context.WithCancel(context.WithoutCancel(taking))
	go w.extendLeases(extending, lease)
	defer stop()
	defer w.busy.Wait()
	defer close(w.next)
	var lastReclaim, lastTidy time.Time
	worthwhile := 1
	for {
		free := w.slots.claim(taking, worthwhile, takeTimeout)
		if free == 0 {
			return
		}
		room := w.MaxBytes - w.held.bytes()
		if room <= 0 {
			w.slots.release(free)
			w.held.await(taking)
			continue
		}
		admitted, wait := w.Gate.Admit(free, time.Now())
		if admitted == 0 {
			w.slots.release(free)
			sleep(taking, wait)
			continue
		}
		var reclaim time.Duration
		if time.Since(lastReclaim) >= lease/4 {
			reclaim, lastReclaim = lease, time.Now()
		}
		// Not cancelled when taking ends: an event leased to a consumer that has stopped listening is stuck for a whole lease.
		leases, nextDue, err := w.queue.Take(context.WithoutCancel(taking), admitted, room, reclaim)
		for _, l := range leases {
			w.start(sending, l)
		}
		w.Gate.Return(admitted - len(leases))
		w.slots.release(free - len(leases))
		worthwhile = 1
		if time.Since(lastTidy) >= tidyInterval && err == nil {
			lastTidy = time.Now()
			if err := w.queue.Tidy(taking, consumerSilence); err != nil {
				w.logFailed(taking, "cannot clean up consumers, retrying", err)
			}
		}
		switch {
		case err != nil && taking.Err() != nil:
			return
		case err != nil:
			w.logFailed(taking, "cannot take events from the queue, retrying", err)
			sleep(taking, errorInterval)
		case len(leases) < admitted: // the queue is empty for now
			w.awaitWork(taking, nextDue)
		default: // there is a backlog: a take for each single free slot would cost more than the rest
			worthwhile = w.MaxInFlight / takeShare
		}
	}
}

// logFailed logs a failed queue operation that will be retried. While the store is known to fail, one line about that suffices.
func (w *Worker) logFailed(ctx context.Context, message string, err error, args ...any) {
	level := slog.LevelWarn
	if w.StoreFails != nil && w.StoreFails(err) {
		level = slog.LevelDebug
	}
	w.Log.Log(ctx, level, message, append(args, "target", w.Target, "lane", w.Lane, "error", err)...)
}

func (w *Worker) awaitWork(ctx context.Context, nextDue time.Duration) {
	wait := pollInterval
	if nextDue >= 0 {
		wait = min(wait, nextDue)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w.wake:
	case <-timer.C:
	}
}

func (w *Worker) start(ctx context.Context, l delivery.Lease) {
	w.held.add(l)
	if w.idle.Add(-1) >= 0 {
		w.next <- l
		return
	}
	w.idle.Add(1)
	w.busy.Go(func() {
		for more := true; more; l, more = <-w.next {
			w.deliver(ctx, l)
			w.held.end(l)
			w.idle.Add(1) // before its slot is free, so that there are never more goroutines than slots
			w.slots.release(1)
		}
	})
}

func (w *Worker) deliver(ctx context.Context, l delivery.Lease) {
	if err := w.check(context.WithoutCancel(ctx), l.Event); err != nil {
		w.Gate.Return(1)
		l.Attempt-- // this one was not made
		w.finish(ctx, l, l.Attempt, Attempt{Number: l.Attempt, Decision: retry.Decision{Verdict: retry.GiveUp, Reason: err.Error()}})
		return
	}
	e, attempt := l.Event, l.Attempt
	begin := time.Now()
	outcome := w.send(ctx, e, attempt)
	took := time.Since(begin)

	age := time.Since(e.QueuedAt())
	if w.ClocksDiffer != nil && w.ClocksDiffer() {
		age = 0
	}
	decision := w.Policy.Decide(attempt, age, outcome, rand.Float64())
	interrupted := ctx.Err() != nil && !outcome.Delivered()
	if interrupted {
		// Shutdown cut the attempt short: it does not count, and the next receiver may start at once.
		decision, attempt = retry.Decision{Verdict: retry.Again}, attempt-1
		w.Gate.Return(1)
	} else {
		w.Gate.Report(outcome, time.Now())
		w.Observer.Attempted(w.Target, outcome, took)
	}
	w.finish(ctx, l, attempt, Attempt{Number: l.Attempt, Outcome: outcome, Took: took, Decision: decision, Interrupted: interrupted})
}

// check calls Check, if set, and send calls Sender's Send. Both convert a panic into a failure: an event that causes one would
// otherwise crash this receiver, and then the next.
func (w *Worker) check(ctx context.Context, e event.Event) (err error) {
	if w.Check == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = event.Panicked(v)
		}
	}()
	return w.Check(ctx, e)
}

func (w *Worker) send(ctx context.Context, e event.Event, attempt int) (o delivery.Outcome) {
	defer func() {
		if v := recover(); v != nil {
			o = delivery.Outcome{Err: event.Panicked(v)}
		}
	}()
	return w.Sender.Send(ctx, e, attempt)
}

// finish logs a decision and settles the event accordingly. attempt is how many attempts count.
func (w *Worker) finish(ctx context.Context, l delivery.Lease, attempt int, a Attempt) {
	e, decision := l.Event, a.Decision
	w.logAttempt(e, l.Attempt, a.Outcome, decision, a.Took)

	settled, err := w.settle(ctx, l, attempt, a.Outcome, decision)
	a.Target, a.Event, a.Type, a.Settled, a.SettleErr = w.Target, e.ID, e.Type, settled, err
	w.Observer.Finished(a)
	switch {
	case err != nil:
		w.Log.Error("cannot acknowledge a delivery attempt; the event will be delivered again with the same ID",
			"target", w.Target, "event", e.ID, "error", err)
	case settled && decision.Verdict != retry.Again:
		w.Observer.Settled(w.Target, decision.Verdict, time.Since(e.QueuedAt()))
		if e.Conversation != "" {
			w.Wake() // the next event of the conversation can be leased
		}
	case decision.Delay < pollInterval:
		w.Wake() // the worker may otherwise sleep for longer than that
	}
}

// settle records the decision about an attempt in the queue. It retries a few times on errors, because a delivered event that is
// not settled would be delivered again. Shutdown does not interrupt it.
func (w *Worker) settle(ctx context.Context, l delivery.Lease, attempt int, o delivery.Outcome, d retry.Decision) (settled bool, err error) {
	ctx = context.WithoutCancel(ctx)
	begin := time.Now()
	if settled, err = w.settleOnce(ctx, l, attempt, o, d); err == nil {
		return settled, nil
	}
	ctx, cancel := context.WithDeadline(ctx, begin.Add(settleTimeout))
	defer cancel()
	for try := 1; ; try++ {
		sleep(ctx, settleInterval<<try)
		if ctx.Err() != nil {
			return settled, err
		}
		if settled, err = w.settleOnce(ctx, l, attempt, o, d); err == nil {
			return settled, nil
		}
	}
}

func (w *Worker) settleOnce(ctx context.Context, l delivery.Lease, attempt int, o delivery.Outcome, d retry.Decision) (settled bool, err error) {
	switch d.Verdict {
	case retry.Done:
		return w.queue.Done(ctx, l)
	case retry.Again:
		return w.queue.Later(ctx, l, attempt+1, d.Delay)
	case retry.GiveUp:
		return w.queue.Dead(ctx, l, o, d.Reason)
	}
	return false, nil
}

func (w *Worker) logAttempt(e event.Event, attempt int, o delivery.Outcome, d retry.Decision, took time.Duration) {
	level, message := slog.LevelInfo, "delivered"
	switch d.Verdict {
	case retry.Again:
		level, message = slog.LevelWarn, "attempt failed, retrying later"
	case retry.GiveUp:
		level, message = slog.LevelError, "given up"
	case retry.Done:
	}
	if !w.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{ // no fractions, see Requests in package logs
		slog.String("target", w.Target), slog.String("event", e.ID), slog.String("type", e.Type),
		slog.Int("attempt", attempt), slog.Int("status", o.Status), slog.Int64("took_us", took.Microseconds()),
	}
	if o.Err != nil {
		attrs = append(attrs, slog.String("error", o.Err.Error()))
	}
	if d.Verdict == retry.Again {
		attrs = append(attrs, slog.Int64("again_in_ms", d.Delay.Milliseconds()))
	}
	if d.Reason != "" {
		attrs = append(attrs, slog.String("reason", d.Reason))
	}
	line := slog.NewRecord(time.Now(), level, message, 0) // LogAttrs would look up its caller, which costs as much as the line
	line.AddAttrs(attrs...)
	_ = w.Log.Handler().Handle(context.Background(), line)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
