package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// row is one line of the table.
type row struct {
	What     string `json:"what"`
	Measured string `json:"measured"`
	Control  string `json:"control,omitempty"`
	Ratio    string `json:"ratio,omitempty"`
	Goal     string `json:"goal,omitempty"`
	// Holds is nil where the line is for information only.
	Holds *bool `json:"holds,omitempty"`
	// Others is the share of the processors that others used while this was measured.
	Others float64 `json:"others"`
	// Figures are the numbers behind the line: each round's, where there were rounds.
	Figures map[string][]float64 `json:"figures,omitempty"`
}

// report is the result of a run.
type report struct {
	Began   time.Time `json:"began"`
	Took    string    `json:"took"`
	Machine string    `json:"machine"`
	Quick   bool      `json:"quick,omitempty"`
	Rounds  int       `json:"rounds"`
	// Others is the share of the processors that others used during the run.
	Others  float64 `json:"others"`
	Rows    []row   `json:"rows"`
	Clients []row   `json:"clients,omitempty"`
}

func (r row) mark() string {
	switch {
	case r.Holds == nil:
		return ""
	case *r.Holds:
		return "yes"
	}
	return "NO"
}

// others reports how much others used, marked where a figure is not to be quoted for that.
func others(share float64) string {
	text := fmt.Sprintf("%.0f %%", 100*share)
	if share > forThroughput {
		text += " (disturbed)"
	}
	return text
}

// table renders rows for a terminal, or as Markdown, which is the same with bars.
func table(header []string, rows [][]string) string {
	width := make([]int, len(header))
	for _, cells := range append([][]string{header}, rows...) {
		for i, c := range cells {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	line := func(cells []string) {
		for i, c := range cells {
			b.WriteString("| " + c + strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+1))
		}
		b.WriteString("|\n")
	}
	line(header)
	for i := range header {
		b.WriteString("|" + strings.Repeat("-", width[i]+2))
	}
	b.WriteString("|\n")
	for _, cells := range rows {
		line(cells)
	}
	return b.String()
}

func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, took %s, %d rounds, medians; others used %s of the processors meanwhile\n\n",
		r.Began.Format(time.DateTime), r.Machine, r.Took, r.Rounds, others(r.Others))
	if len(r.Rows) > 0 {
		var cells [][]string
		for _, x := range r.Rows {
			cells = append(cells, []string{x.What, x.Measured, x.Control, x.Ratio, x.Goal, x.mark(), others(x.Others)})
		}
		b.WriteString(table([]string{"what", "measured", "control", "ratio", "goal", "holds", "others"}, cells))
	}
	if len(r.Clients) > 0 {
		var cells [][]string
		for _, x := range r.Clients {
			cells = append(cells, []string{x.What, x.Measured, x.Control, x.Ratio})
		}
		b.WriteString("\n" + table([]string{"Redis client, 64 goroutines under the append script", "throughput", "latency p50 / p99", "client CPU, allocations per call"}, cells))
	}
	return b.String()
}

// write keeps the report as JSON and as Markdown.
func (r report) write(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(strings.TrimSuffix(file, filepath.Ext(file))+".md", []byte(r.markdown()), 0o644)
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
func median[T int64 | float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }

func perSecond(v float64) string { return fmt.Sprintf("%.0f/s", v) }

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

func milliseconds(ds []time.Duration) []float64 {
	out := make([]float64, len(ds))
	for i, d := range ds {
		out[i] = float64(d) / 1e6
	}
	return out
}
