package receiver

import (
	"context"
	"log/slog"
	"time"

	"heymarket.dev/operator/internal/receiver/stream"
)

// runMaintenance performs the periodic tasks.
func (r *Receiver) runMaintenance(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-r.reached:
	}
	ticker := time.NewTicker(maintenanceInterval)
	defer ticker.Stop()
	for {
		r.keepTargets(ctx)
		r.checkDeadLetters()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// readClock compares the clock of Redis with this receiver's, and reports whether they differ.
func (r *Receiver) readClock(ctx context.Context) bool {
	if skew, err := r.store.ClockSkew(ctx); err == nil {
		r.skew.Store(&skew)
	}
	return r.clocksDiffer()
}

func (r *Receiver) keepTargets(ctx context.Context) {
	keep := r.inForce.Load().config.Retention.DeadLetters.Std()
	dropped, err := r.store.KeepTargets(ctx, r.targetNames(), targetGrace, keep)
	if err != nil {
		level := slog.LevelWarn
		if r.storeFails(err) { // which has been logged
			level = slog.LevelDebug
		}
		r.Log.Log(ctx, level, "cannot update the list of targets in Redis, retrying in a minute", "error", err)
	}
	for _, d := range dropped {
		r.Log.Warn("dropped the backlog of a removed target", "target", d.Target, "events", d.Events, "grace_ms", targetGrace.Milliseconds())
	}
}

// clocksDiffer reports whether the clocks of Redis and of this receiver differed by more than MaxClockSkew at the last check.
func (r *Receiver) clocksDiffer() bool {
	skew := r.skew.Load()
	return skew != nil && skew.Abs() > stream.MaxClockSkew
}

// checkDeadLetters logs which targets have reached their dead letter limit, and where entries that no receiver wrote were set
// aside.
func (r *Receiver) checkDeadLetters() {
	all, err := r.accounts()
	if err != nil {
		return // reported by the users of the accounts
	}
	limit := r.inForce.Load().config.Retention.DeadLetterLimit
	for name, a := range all {
		if a.DeadLetters >= limit {
			r.Log.Error("a target has reached its dead letter limit, so events that it rejects wait in its queue; replay or discard some, or raise the limit",
				"target", name, "limit", limit)
		}
		if before, known := r.malformed.Swap(name, a.Malformed); known && a.Malformed > before.(int64) || !known && a.Malformed > 0 {
			r.Log.Error("moved aside entries in Redis that no receiver wrote", "target", name, "total", a.Malformed)
		}
	}
}
