package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// How much of the machine others may use during a measurement before it is repeated, as a share of all processors.
// Throughput averages a disturbance out; a 99th percentile is made of it.
const (
	forThroughput = 0.05
	forLatency    = 0.01
)

// calm measures by f, and again as long as others use more than limit meanwhile and there is patience left; then the
// least disturbed attempt counts. What is compared here shares one machine with everything else on it: a compiler that
// runs beside one round and not beside the other would decide the ratio.
func calm[T any](b *bench, limit float64, f func() (T, error)) (T, error) {
	var best T
	least := math.Inf(1)
	for {
		m := b.meter()
		v, err := f()
		if err != nil {
			return v, err
		}
		took, foreign := time.Since(m.began), m.others()
		if foreign < least {
			best, least = v, foreign
		}
		if least <= limit || b.patience <= 0 {
			b.foreign = append(b.foreign, least)
			return best, nil
		}
		b.patience -= took + time.Second
		time.Sleep(time.Second)
	}
}

// meter measures how much of the machine others use from a moment on.
type meter struct {
	lab       *lab
	began     time.Time
	busy, own time.Duration
}

func (l *lab) meter() meter { return meter{l, time.Now(), machineCPU(), l.ownCPU()} }

// others is the share of all processors that has gone to whom the bench has not started.
func (m meter) others() float64 {
	used := (machineCPU() - m.busy) - (m.lab.ownCPU() - m.own)
	return max(0, float64(used)/float64(time.Since(m.began))/float64(runtime.NumCPU()))
}

// machineCPU is the time that all processors together have been busy since the machine started.
func machineCPU() time.Duration {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var ticks int64
	for i, field := range strings.Fields(line) {
		n, _ := strconv.ParseInt(field, 10, 64)
		switch i {
		case 1, 2, 3, 6, 7, 8: // user, nice, system, irq, softirq, steal
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / clockTicks
}

// ownCPU is the CPU time that this process has used, with all that it has started and that still runs or has been waited for.
func (l *lab) ownCPU() time.Duration {
	total := procCPU(os.Getpid(), true)
	for _, pid := range l.running {
		total += procCPU(pid, true)
	}
	return total
}

// procCPU is the processor time of one process, on request with that of its children that have ended.
func procCPU(pid int, children bool) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), ") ") // the name before it may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return 0
	}
	last := 13
	if children {
		last = 15
	}
	var ticks int64
	for _, field := range fields[11:last] { // utime, stime, cutime, cstime: see proc(5)
		n, _ := strconv.ParseInt(field, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks
}

const clockTicks = 100 // USER_HZ, the same on every Linux that Go runs on
