package plugin

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/recent"
)

const (
	// watchInterval is the refresh interval of --watch.
	watchInterval = 2 * time.Second
	// rateMinutes is the number of minutes over which rates are computed, including the current one.
	rateMinutes = 5
)

func statsCommand(to *connection) *cobra.Command {
	watch, asJSON := false, jsonOutput(false)
	cmd := &cobra.Command{
		Use:   "stats NAME",
		Short: "Show rates, backlog, the oldest event and latencies of a webhook",
		Long: `Show what the receivers of a webhook counted since they began, with rates and latencies of the last 5 minutes, and what waits for each
target. A p50 over several Pods is their weighted mean, and a p99 that of the slowest Pod.`,
		Example: "  kubectl heymarket stats support --watch",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := to.open()
			if err != nil {
				return err
			}
			if _, err := c.webhook(cmd.Context(), args[0]); err != nil {
				return err
			}
			return stats(cmd, c, args[0], watch, bool(asJSON))
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "on a terminal, show the figures again every 2 seconds until Ctrl-C")
	asJSON.bind(cmd.Flags(), "the figures of each receiver")
	return cmd
}

func stats(cmd *cobra.Command, c place, name string, watch, asJSON bool) error {
	out := cmd.OutOrStdout()
	return repeated(cmd, watch && !asJSON, func() error {
		all, err := ask(cmd.Context(), c, name)
		if err != nil {
			return err
		}
		if !asJSON {
			showStats(out, name, all, time.Now())
			return nil
		}
		return writeJSON(out, all)
	})
}

// repeated calls show once or, on a terminal with watch set, every watchInterval on a cleared screen, until the command is
// interrupted.
func repeated(cmd *cobra.Command, watch bool, show func() error) error {
	to, live := screen(cmd.OutOrStdout())
	for {
		if watch && live {
			fmt.Fprint(to, clearScreen)
		}
		if err := show(); err != nil || !watch || !live {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
}

// ask returns the figures of every receiver.
func ask(ctx context.Context, c place, name string) ([]admin.Stats, error) {
	answers, err := askAll[admin.Stats](ctx, c, name, contract.AdminPort, "/v1/stats")
	if err != nil {
		return nil, err
	}
	all := []admin.Stats{}
	for _, a := range answers {
		if a.err != nil {
			return nil, a.err
		}
		a.value.Receiver = a.receiver
		all = append(all, a.value)
	}
	return all, nil
}

// sums are the totals over several receivers.
type sums struct {
	recent.Requests
	latency recent.Latency
	recent  recent.Requests // of the last rateMinutes
	targets map[string]*targetSums
	order   []string
}

type targetSums struct {
	recent.Counts
	latency   recent.Latency
	delivered uint64 // in the last rateMinutes
}

func addUp(all []admin.Stats, now time.Time) sums {
	s := sums{targets: map[string]*targetSums{}}
	begin := now.Truncate(time.Minute).Add(-(rateMinutes - 1) * time.Minute)
	add := func(to *recent.Requests, stored, duplicate, ignored, refused uint64) {
		to.Stored, to.Duplicate, to.Ignored, to.Refused = to.Stored+stored, to.Duplicate+duplicate, to.Ignored+ignored, to.Refused+refused
	}
	for _, one := range all {
		add(&s.Requests, one.Requests.Stored, one.Requests.Duplicate, one.Requests.Ignored, one.Requests.Refused)
		s.latency = s.latency.With(one.Latency)
		for _, t := range one.Targets {
			sum := s.targets[t.Name]
			if sum == nil {
				sum = &targetSums{}
				s.targets[t.Name], s.order = sum, append(s.order, t.Name)
			}
			sum.Counts = sum.Counts.With(t.Counts)
			sum.latency = sum.latency.With(t.Latency)
		}
		for _, m := range one.Minutes {
			if m.At.Before(begin) {
				continue
			}
			add(&s.recent, m.Stored, m.Duplicate, m.Ignored, m.Refused)
			for name, counts := range m.Targets {
				if sum := s.targets[name]; sum != nil {
					sum.delivered += counts.Delivered
				}
			}
		}
	}
	return s
}

func showStats(out io.Writer, name string, all []admin.Stats, now time.Time) {
	s := addUp(all, now)
	since, problem := now, ""
	var reports [][]contract.TargetStatus
	for _, one := range all {
		if one.Since.Before(since) {
			since = one.Since
		}
		reports = append(reports, one.Waiting)
		problem = cmp.Or(problem, one.Error)
	}
	waiting := map[string]contract.TargetStatus{}
	for _, t := range contract.MergeTargets(reports...) {
		waiting[t.Name] = t
	}
	span := max(min(now.Sub(now.Truncate(time.Minute))+(rateMinutes-1)*time.Minute, now.Sub(since)), time.Second)
	rate := func(n uint64) string { return fmt.Sprintf("%.2f", float64(n)/span.Seconds()) }
	ms := func(l recent.Latency, value float64) string {
		if l.Count == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", value)
	}
	fmt.Fprintf(out, "%s: receivers %d, the oldest for %s. Rates and latencies are of the last %d minutes.\n\n", name, len(all), duration.HumanDuration(now.Sub(since)), rateMinutes)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REQUESTS\tCOUNT\tPER SECOND\tP50 MS\tP99 MS")
	for _, row := range []struct {
		name          string
		count, recent uint64
	}{
		{"stored", s.Stored, s.recent.Stored},
		{"duplicate", s.Duplicate, s.recent.Duplicate},
		{"ignored", s.Ignored, s.recent.Ignored},
		{"refused", s.Refused, s.recent.Refused},
	} {
		fmt.Fprintf(w, "%s\t%d\t%s", row.name, row.count, rate(row.recent))
		if row.name == "stored" {
			fmt.Fprintf(w, "\t%s\t%s", ms(s.latency, s.latency.P50MS), ms(s.latency, s.latency.P99MS))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TARGET\tDELIVERED\tPER SECOND\tFAILED\tP50 MS\tP99 MS\tPENDING\tOLDEST\tDEAD LETTERS\tCIRCUIT")
	for _, target := range s.order {
		t, pending, oldest, dead, circuit := s.targets[target], "?", "?", "?", "?"
		if state, known := waiting[target]; known {
			pending, oldest, dead, circuit = fmt.Sprint(state.Pending), "-", fmt.Sprint(state.DeadLetters), string(state.Circuit)
			if !state.OldestPending.IsZero() {
				oldest = duration.HumanDuration(max(now.Sub(state.OldestPending), 0))
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(target), t.Delivered, rate(t.delivered), t.Failed,
			ms(t.latency, t.latency.P50MS), ms(t.latency, t.latency.P99MS), pending, oldest, dead, printable(circuit))
	}
	_ = w.Flush()
	if problem != "" {
		fmt.Fprintf(out, "What waits is not known: %s\n", printable(problem))
	}
}
