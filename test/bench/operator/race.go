package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// turn is how long the operator runs before it is the control's turn, which gets half as much, because it is expected to
// be the faster one and is to last as long. The machine's other work changes from minute to minute; two neighbouring
// turns see the same of it.
func (b *bench) turn() time.Duration {
	if b.quick {
		return 2 * time.Second
	}
	return 8 * time.Second
}

// effort is the work of one of the two in one turn.
type effort struct {
	objects float64
	took    time.Duration
	// cpu is the processor time of everything that takes part: etcd, API server, manager and this program.
	cpu time.Duration
}

func (e effort) speed() float64   { return e.objects / e.took.Seconds() }
func (e effort) cpuEach() float64 { return e.cpu.Seconds() * 1000 / max(e.objects, 1) }

// turns are those of the two that were neighbours.
type turns struct{ operator, control []effort }

func (t turns) medians(of func(effort) float64) (operator, control, ratio float64) {
	var a, b, quotients []float64
	for i := range t.operator {
		a, b = append(a, of(t.operator[i])), append(b, of(t.control[i]))
		quotients = append(quotients, a[i]/b[i])
	}
	return median(a), median(b), median(quotients)
}

// race lets the manager make the children of all resources, and a control the same objects raw, in turns: while one
// runs, the other stands still. The manager's turns are counted from its first reconcile on.
func (b *bench) race(ctx context.Context, r *round) (out turns, err error) {
	objects, err := controls(r.hooks)
	if err != nil {
		return out, err
	}
	if err := each(ctx, namespaces(len(r.hooks)), func(ctx context.Context, i int) error {
		return r.namespace(ctx, fmt.Sprintf("raw-team-%d", i))
	}); err != nil {
		return out, err
	}
	there, err := r.children(ctx)
	if err != nil {
		return out, err
	}
	if r.before, err = r.writes(ctx); err != nil {
		return out, err
	}
	if r.manager, err = startManager(ctx, r.cluster, r.dir, b.binary); err != nil {
		return out, err
	}
	if err := r.manager.until(ctx, "the first reconcile", func(f figures) bool { return f[reconciled] > 0 }); err != nil {
		return out, err
	}
	wanted := len(r.hooks) * childrenEach
	deadline := time.Now().Add(patience)
	for last := 0; ctx.Err() == nil && time.Now().Before(deadline); {
		begin, cpu := time.Now(), familyCPU()
		pause(ctx, b.turn())
		r.manager.signal(syscall.SIGSTOP)
		own := effort{took: time.Since(begin), cpu: familyCPU() - cpu}
		raw, err := r.control(ctx, b.turn()/2, &objects)
		if err != nil {
			return out, err
		}
		// What the manager had asked for when it was stopped has come about meanwhile, and is its own.
		now, err := r.children(ctx)
		if err != nil {
			return out, err
		}
		now -= there + r.made
		own.objects, last = float64(now-last), now
		r.manager.signal(syscall.SIGCONT)
		if now >= wanted { // A turn that ends early is not counted.
			return out, nil
		}
		if raw.objects > 0 {
			out.operator, out.control = append(out.operator, own), append(out.control, raw)
			b.say("%d of %d children; operator %.0f/s, control %.0f/s", now, wanted, own.speed(), raw.speed())
		}
	}
	return out, fmt.Errorf("%d children have not come about in %s", wanted, patience)
}

// control creates objects for so long and takes them from the list.
func (r *round) control(ctx context.Context, turn time.Duration, objects *[]creation) (effort, error) {
	var taken atomic.Int64
	begin, cpu := time.Now(), familyCPU()
	err := each(ctx, workers, func(ctx context.Context, _ int) error {
		for time.Since(begin) < turn {
			i := int(taken.Add(1)) - 1
			if i >= len(*objects) {
				return nil
			}
			if err := r.create(ctx, (*objects)[i]); err != nil {
				return fmt.Errorf("create raw: %w", err)
			}
		}
		return nil
	})
	n := min(int(taken.Load()), len(*objects))
	*objects = (*objects)[n:]
	r.made += n
	return effort{objects: float64(n), took: time.Since(begin), cpu: familyCPU() - cpu}, err
}
