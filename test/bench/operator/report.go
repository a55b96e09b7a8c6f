package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// row is one line of the table.
type row struct {
	what, measured, control, ratio, goal string
	// holds is nil where the line is for information only.
	holds *bool
	// others is the share of the processors that others used while this was measured.
	others float64
}

// report is the result of a run.
type report struct {
	took time.Duration
	// foreign is the share of the machine that others used meanwhile.
	foreign float64
	rows    []row
	since   meter
}

// meter measures how much of the machine others use from a moment on.
type meter struct {
	began     time.Time
	busy, own time.Duration
}

func newMeter() meter { return meter{time.Now(), machineCPU(), familyCPU()} }

func (m meter) others() float64 {
	used := (machineCPU() - m.busy) - (familyCPU() - m.own)
	return max(0, float64(used)/float64(time.Since(m.began))/float64(runtime.NumCPU()))
}

// others reports how much others used, marked where a figure is not to be quoted for that.
func others(share float64) string {
	text := fmt.Sprintf("%.0f %%", 100*share)
	if share > 0.05 {
		text += " (disturbed)"
	}
	return text
}

// add keeps the row, and shows it at once: a run takes long. What others used is counted from the row before; rows that
// come together were measured together.
func (r *report) add(x row) {
	if n := len(r.rows); n > 0 && time.Since(r.since.began) < time.Second {
		x.others = r.rows[n-1].others
	} else {
		x.others, r.since = r.since.others(), newMeter()
	}
	r.rows = append(r.rows, x)
	fmt.Fprintf(os.Stderr, "        %s: %s (%s) %s\n", x.what, x.measured, x.control, x.ratio)
}

// markdown renders the table, which reads the same on a terminal.
func (r *report) markdown() string {
	cells := [][]string{{"what", "measured", "control", "ratio", "goal", "holds", "others"}}
	for _, x := range r.rows {
		mark := ""
		if x.holds != nil {
			mark = map[bool]string{true: "yes", false: "NO"}[*x.holds]
		}
		cells = append(cells, []string{x.what, x.measured, x.control, x.ratio, x.goal, mark, others(x.others)})
	}
	width := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, took %s; others used %s of the processors meanwhile\n\n",
		time.Now().Format(time.DateOnly), machine(), r.took, others(r.foreign))
	for i, line := range cells {
		for j, c := range line {
			b.WriteString("| " + c + strings.Repeat(" ", width[j]-utf8.RuneCountInString(c)+1))
		}
		b.WriteString("|\n")
		if i == 0 {
			for _, w := range width {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

func machine() string {
	model := ""
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(raw), "model name\t: ")
		model, _, _ = strings.Cut(rest, "\n")
	}
	return fmt.Sprintf("%d × %s, %s, everything on one machine", runtime.NumCPU(), model, runtime.Version())
}

// median of values, which it leaves as they are.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

const clockTicks = 100 // USER_HZ, the same on every Linux that Go runs on

// machineCPU is the time that all processors together have been busy since the machine started.
func machineCPU() time.Duration {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var total int64
	for i, field := range strings.Fields(line) {
		switch n, _ := strconv.ParseInt(field, 10, 64); i {
		case 1, 2, 3, 6, 7, 8: // user, nice, system, irq, softirq, steal
			total += n
		}
	}
	return time.Duration(total) * time.Second / clockTicks
}

// procCPU is the processor time of one process.
func procCPU(pid int) time.Duration {
	own, _ := cpuOf(strconv.Itoa(pid))
	return own
}

// familyCPU is the processor time of this process and of its children.
func familyCPU() time.Duration {
	total := ownCPU()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return total
	}
	for _, p := range processes {
		raw, err := os.ReadFile(p + "/stat")
		if err != nil {
			continue // It has ended.
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			own, _ := cpuOf(filepath.Base(p))
			total += own
		}
	}
	return total
}

// ownCPU is the processor time of this process and of its children that have ended.
func ownCPU() time.Duration {
	own, children := cpuOf("self")
	return own + children
}

// cpuOf reads utime, stime, cutime and cstime, see proc(5).
func cpuOf(pid string) (own, children time.Duration) {
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, 0
	}
	_, rest, _ := strings.Cut(string(raw), ") ") // the name before it may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return 0, 0
	}
	ticks := func(i int) time.Duration {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return time.Duration(n) * time.Second / clockTicks
	}
	return ticks(11) + ticks(12), ticks(13) + ticks(14)
}
