package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller"
)

func parseHostTemplate() (*controller.HostTemplate, error) {
	return controller.ParseHostTemplate(hostTemplate)
}

// bench is one run.
type bench struct {
	plan
	binary string
	report report
	began  time.Time
}

func measure(ctx context.Context, p plan, binary string) error {
	b := &bench{plan: p, binary: binary, began: time.Now()}
	whole := newMeter()
	b.report.since = whole
	var failed error
	for i, n := range p.sizes {
		if err := b.size(ctx, n, i == 0); err != nil {
			failed = fmt.Errorf("%d resources: %w", n, err) // The table still holds what was found.
			break
		}
	}
	b.report.took = time.Since(b.began).Round(time.Second)
	b.report.foreign = whole.others()
	table := b.report.markdown()
	fmt.Print("\n", table)
	if p.out != "" {
		if err := os.WriteFile(p.out, []byte(table), 0o644); err != nil { //nolint:gosec // A table is for everyone.
			return errors.Join(failed, err)
		}
	}
	return failed
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%5.0fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// round is an API server with resources, and the manager.
type round struct {
	*cluster
	dir   string
	hooks []*v1alpha1.HeymarketWebhook
	// empty is the manager's memory before there was a resource.
	empty memory
	// manager runs, or has ended.
	manager *manager
	// before is what had been written when the manager began, and made what the control has created since.
	before writes
	made   int
}

// size measures with n resources on an API server of their own. first includes the measurements that are made only once.
func (b *bench) size(ctx context.Context, n int, first bool) (err error) {
	dir, err := os.MkdirTemp("", "size-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b.say("%d resources", n)
	c, err := startCluster(ctx, dir)
	if err != nil {
		return err
	}
	defer c.stop()
	r := &round{cluster: c, dir: dir}
	defer func() {
		if err != nil {
			r.keepLog()
		}
	}()
	if err := b.measureEmpty(ctx, r); err != nil {
		return err
	}
	if r.hooks, err = apply(ctx, c, n); err != nil {
		return fmt.Errorf("create the resources: %w", err)
	}
	turns, err := b.race(ctx, r)
	if err != nil {
		return err
	}
	defer func() { r.manager.stop() }()
	if len(turns.operator) > 0 {
		b.raceRows(n, turns)
	}
	return b.settled(ctx, r, first)
}

func (b *bench) raceRows(n int, t turns) {
	operator, control, ratio := t.medians(effort.speed)
	goal := 0.60
	if n >= 5000 { // an API server that holds much is slower itself
		goal = 0.85
	}
	b.report.add(row{
		what:     fmt.Sprintf("%d resources to all children created", n),
		measured: fmt.Sprintf("%.0f objects/s", operator),
		control:  fmt.Sprintf("the same objects created raw, 16 workers, in %d turns with it: %.0f/s", len(t.operator), control),
		ratio:    fmt.Sprintf("%.2f", ratio), goal: fmt.Sprintf("≥ %.2f", goal), holds: new(ratio >= goal),
	})
	operator, control, ratio = t.medians(effort.cpuEach)
	b.report.add(row{
		what:     "processor time for one object: etcd, API server and client together",
		measured: fmt.Sprintf("%.1f ms", operator), control: fmt.Sprintf("created raw: %.1f ms", control), ratio: fmt.Sprintf("%.2f", ratio),
	})
}

// keepLog shows the end of the manager's log.
func (r *round) keepLog() {
	raw, err := os.ReadFile(filepath.Join(r.dir, "manager.log"))
	if err == nil {
		fmt.Fprintf(os.Stderr, "the manager's log ends with:\n%s\n", raw[max(0, len(raw)-4000):])
	}
}

// measureEmpty measures a manager that has nothing to do.
func (b *bench) measureEmpty(ctx context.Context, r *round) (err error) {
	if r.manager, err = startManager(ctx, r.cluster, r.dir, b.binary); err != nil {
		return err
	}
	defer r.manager.stop()
	if err := r.manager.until(ctx, "the manager", func(f figures) bool { return f[live] > 0 }); err != nil {
		return err
	}
	pause(ctx, 3*time.Second) // Its watches are up.
	if err := b.collect(ctx, r.manager); err != nil {
		return err
	}
	r.empty, err = r.manager.memory(ctx)
	return err
}

// settled measures what a settled operator costs.
func (b *bench) settled(ctx context.Context, r *round, first bool) error {
	n := len(r.hooks)
	if err := r.manager.reconciledAll(ctx, n); err != nil {
		return err
	}
	// What was read from a cache that was late is reconciled once more.
	pause(ctx, 2*time.Second)
	after, err := r.manager.writes(ctx, r.cluster)
	if err != nil {
		return err
	}
	wrote := after.since(r.before)
	settled, err := r.manager.figures(ctx)
	if err != nil {
		return err
	}
	p, err := startPods(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	b.say("pods of %d resources", n)
	if err := p.run(ctx, r.cluster, r.hooks); err != nil {
		return fmt.Errorf("play the Pods: %w", err)
	}
	if err := r.untilReady(ctx); err != nil {
		return err
	}
	toReady, err := r.manager.writes(ctx, r.cluster)
	if err != nil {
		return err
	}
	b.writesRows(r, wrote, toReady.since(after))
	b.report.add(row{what: "rounds until one has settled", measured: fmt.Sprintf("%.2f", settled[reconciled]/float64(n))})
	if err := b.restart(ctx, r); err != nil {
		return err
	}
	with, err := b.memoryRow(ctx, r)
	if err != nil || !first {
		return err
	}
	if err := b.idleRow(ctx, r); err != nil {
		return err
	}
	return b.crowdRows(ctx, r, with)
}

func (r *round) untilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		n, err := ready(ctx, r.cluster)
		if err != nil || n == len(r.hooks) {
			return err
		}
		if !pause(ctx, time.Second) {
			return fmt.Errorf("wait for %d resources to be Ready, there are %d: %w", len(r.hooks), n, context.Cause(ctx))
		}
	}
}

func (b *bench) writesRows(r *round, wrote, toReady writes) {
	n := len(r.hooks)
	b.say("writes until settled: %v; from there until Ready: %v", wrote, toReady)
	children, status := wrote.sum("APPLY"), wrote.sum("PATCH heymarketwebhooks/status")
	all := wrote.sum() - r.made
	total := per(all, n)
	b.report.add(row{
		what:     fmt.Sprintf("API writes until one of %d has settled", n),
		measured: fmt.Sprintf("%.2f: %.2f for children, %.2f status, %.2f others", total, per(children, n), per(status, n), per(all-children-status, n)),
		control:  fmt.Sprintf("%d children + 1 status", childrenEach),
		goal:     "no more", holds: new(total <= childrenEach+1),
	})
	b.report.add(row{
		what:     "further writes until it is Ready, once the cluster has brought up Pods and address",
		measured: fmt.Sprintf("%.2f status, %.2f others", per(toReady.sum("PATCH heymarketwebhooks/status"), n), per(toReady.sum("APPLY", "POST events", "DELETE"), n)),
	})
	found := wrote[conflicts] + toReady[conflicts]
	b.report.add(row{what: "conflicts on the way there", measured: fmt.Sprint(found), goal: "0", holds: new(found == 0)})
}

func per(total, n int) float64 { return float64(total) / float64(n) }

// restart ends the manager and starts it again.
func (b *bench) restart(ctx context.Context, r *round) error {
	r.manager.stop()
	before, err := r.writes(ctx)
	if err != nil {
		return err
	}
	if r.manager, err = startManager(ctx, r.cluster, r.dir, b.binary); err != nil {
		return err
	}
	if err := r.manager.reconciledAll(ctx, len(r.hooks)); err != nil {
		return err
	}
	took := time.Since(r.manager.began)
	pause(ctx, 2*time.Second)
	after, err := r.manager.writes(ctx, r.cluster)
	if err != nil {
		return err
	}
	wrote := after.since(before).sum()
	b.report.add(row{
		what:     fmt.Sprintf("restart at %d resources: from exec until all are reconciled again", len(r.hooks)),
		measured: fmt.Sprintf("%.1f s, %d writes", took.Seconds(), wrote),
		goal:     "0 writes", holds: new(wrote == 0),
	})
	return nil
}

// memoryRow measures a manager that has just been restarted, after the garbage of its start has been collected.
func (b *bench) memoryRow(ctx context.Context, r *round) (memory, error) {
	if err := b.collect(ctx, r.manager); err != nil {
		return memory{}, err
	}
	m, err := r.manager.memory(ctx)
	if err != nil {
		return m, err
	}
	n := int64(len(r.hooks))
	each := float64(m.live-r.empty.live) / float64(n) / 1024
	b.report.add(row{
		what:     fmt.Sprintf("operator memory for one of %d resources, heap after a collection", n),
		measured: fmt.Sprintf("%.1f KiB", each),
		control:  fmt.Sprintf("the resident set grows by %.1f KiB each, from %s to %s", float64(m.resident-r.empty.resident)/float64(n)/1024, mib(r.empty.resident), mib(m.resident)),
		goal:     "≤ 24 KiB", holds: new(each <= 24),
	})
	return m, nil
}

// collect waits for a garbage collection, so that only memory in use is measured.
func (b *bench) collect(ctx context.Context, m *manager) error {
	if b.quick {
		return nil
	}
	b.say("waiting for two garbage collections")
	return m.collected(ctx)
}

func (b *bench) idleRow(ctx context.Context, r *round) error {
	b.say("idle for %s", b.idle)
	before, err := r.manager.writes(ctx, r.cluster)
	if err != nil {
		return err
	}
	cpu := procCPU(r.manager.cmd.Process.Pid)
	pause(ctx, b.idle)
	after, err := r.manager.writes(ctx, r.cluster)
	if err != nil {
		return err
	}
	cpu = procCPU(r.manager.cmd.Process.Pid) - cpu
	wrote := after.since(before).sum()
	if wrote > 0 {
		b.say("writes while idle: %v", after.since(before))
	}
	b.report.add(row{
		what:     fmt.Sprintf("writes to the API server in %s of idleness at %d resources, leases aside", b.idle, len(r.hooks)),
		measured: fmt.Sprint(wrote),
		control:  fmt.Sprintf("the operator asks %d Pods a minute and uses %.2f%% of a processor", 2*len(r.hooks), 100*cpu.Seconds()/b.idle.Seconds()),
		goal:     "0", holds: new(wrote == 0),
	})
	return nil
}

// crowdRows compares the manager's memory without and with Secrets of others, that of one that saw them come and that of
// one that starts among them.
func (b *bench) crowdRows(ctx context.Context, r *round, without memory) error {
	b.say("%d unrelated Secrets of %d KiB", b.secrets, b.secretBytes>>10)
	if err := crowd(ctx, r.cluster, b.secrets, b.secretBytes); err != nil {
		return fmt.Errorf("create unrelated Secrets: %w", err)
	}
	if err := b.collect(ctx, r.manager); err != nil {
		return err
	}
	seen, err := r.manager.memory(ctx)
	if err != nil {
		return err
	}
	r.manager.stop()
	if r.manager, err = startManager(ctx, r.cluster, r.dir, b.binary); err != nil {
		return err
	}
	if err := r.manager.reconciledAll(ctx, len(r.hooks)); err != nil {
		return err
	}
	if err := b.collect(ctx, r.manager); err != nil {
		return err
	}
	among, err := r.manager.memory(ctx)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		what string
		with memory
	}{{"seen to come", seen}, {"there at its start", among}} {
		more := m.with.live - without.live
		b.report.add(row{
			what:     fmt.Sprintf("operator memory with %d unrelated Secrets of %d KiB, %s", b.secrets, b.secretBytes>>10, m.what),
			measured: fmt.Sprintf("%+.2f MiB", float64(more)/(1<<20)),
			control:  fmt.Sprintf("heap after a collection, without them %s; resident set %s and %s", mib(without.live), mib(without.resident), mib(m.with.resident)),
			goal:     "≤ +2 MiB", holds: new(more <= 2<<20),
		})
	}
	return nil
}
