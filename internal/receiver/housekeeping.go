package receiver

import (
	"context"
	"slices"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/stream"
)

// keepHouse does from time to time what no event asks for.
func (r *Receiver) keepHouse(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-r.reached:
	}
	for {
		r.checkDurability(ctx)
		r.keepTargets(ctx)
		r.checkDeadLetters()
		wait := housekeeping
		if r.refused.Load() != nil {
			wait = refusedDelay
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (r *Receiver) checkDurability(ctx context.Context) {
	problems, err := r.store.CheckDurability(ctx)
	if err != nil {
		return // whether Redis answers at all is told by those who need it to
	}
	if skew, err := r.store.ClockSkew(ctx); err == nil {
		r.skew.Store(&skew)
		if r.clocksDiffer() {
			problems = append(problems, contract.RedisClockSkew.Message())
		}
	}
	if before := r.unsafe.Swap(&problems); before == nil || !slices.Equal(*before, problems) {
		for _, p := range problems {
			r.Log.Error("accepted events are not safe", "problem", p)
		}
	}
}

// keepTargets writes, even when no event has ever been stored. So it is what finds a Redis that answers and rejects writes.
func (r *Receiver) keepTargets(ctx context.Context) {
	keep := r.inForce.Load().config.Retention.DeadLetters.Std()
	dropped, err := r.store.KeepTargets(ctx, r.targetNames(), targetGrace, keep)
	switch why := stream.Refusal(err); {
	case err == nil:
		r.refused.Store(nil)
	case why == "":
		r.Log.Warn("cannot store in Redis which targets are configured; trying again later", "error", err)
	default:
		if before := r.refused.Swap(&why); before == nil || *before != why {
			r.Log.Error("Redis rejects writes", "problem", why, "error", err)
		}
	}
	for _, d := range dropped {
		r.Log.Warn("the backlog of a target that is gone was dropped", "target", d.Target, "events", d.Events, "grace", targetGrace)
	}
}

// clocksDiffer reports whether the clocks of Redis and of this receiver differed by more than MaxClockSkew at the last check.
func (r *Receiver) clocksDiffer() bool {
	skew := r.skew.Load()
	return skew != nil && skew.Abs() > stream.MaxClockSkew
}

// checkDeadLetters logs which targets have no room for dead letters, and where what no receiver wrote was set aside.
func (r *Receiver) checkDeadLetters() {
	all, err := r.accounts()
	if err != nil {
		return // reported by those who need the accounts
	}
	for name, a := range all {
		if a.DeadLetters >= r.deadLetterLimit() {
			r.Log.Error("a target has as many dead letters as it may have, so events that it rejects wait in its queue; replay or discard some, or raise the limit",
				"target", name, "limit", r.deadLetterLimit())
		}
		if before, known := r.malformed.Swap(name, a.Malformed); known && a.Malformed > before.(int64) || !known && a.Malformed > 0 {
			r.Log.Error("entries or members in Redis that no receiver wrote were set aside", "target", name, "total", a.Malformed)
		}
	}
}
