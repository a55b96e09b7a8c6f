package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"heymarket.dev/operator/internal/receiver/recent"
)

// deliveries tracks the delivery of stored events, by event and target.
type deliveries struct {
	order []string // events
	// targets are those that an event was stored for; missing while unknown.
	targets map[string][]string
	last    map[[2]string]recent.Record
}

// awaited returns the events in results that may be stored for targets.
func awaited(results []sent) *deliveries {
	d := &deliveries{targets: map[string][]string{}, last: map[[2]string]recent.Record{}}
	for _, s := range results {
		if s.result == string(recent.Stored) && s.event != "" && !slices.Contains(d.order, s.event) {
			d.order = append(d.order, s.event)
		}
	}
	return d
}

// note records a record, of any event.
func (d *deliveries) note(r recent.Record) {
	if !slices.Contains(d.order, r.Event) {
		return
	}
	if r.Outcome == recent.Stored {
		d.targets[r.Event] = r.Targets
		return
	}
	if r.Target == "" {
		return // a repeat
	}
	at := [2]string{r.Event, r.Target}
	if before, known := d.last[at]; !known || !final(before.Outcome) {
		d.last[at] = r
	}
}

func final(o recent.Outcome) bool { return o == recent.Delivered || o == recent.DeadLetter }

// settled reports whether the outcome of every event at each target is known.
func (d *deliveries) settled() bool {
	for _, event := range d.order {
		targets, known := d.targets[event]
		if !known {
			return false
		}
		for _, target := range targets {
			if !final(d.last[[2]string{event, target}].Outcome) {
				return false
			}
		}
	}
	return true
}

// await follows a feed until everything is settled or the timeout expires.
func (d *deliveries) await(ctx context.Context, from *feed, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	from.follow(ctx, func(records []recent.Record) bool {
		for _, r := range records {
			d.note(r)
		}
		return !d.settled()
	})
}

// show prints the outcome of each event, and returns an error unless every target has it.
func (d *deliveries) show(out io.Writer, timeout time.Duration) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "EVENT\tTARGET\tSTATUS\tMS\tATTEMPT\tWHAT")
	failed, all := 0, 0
	for _, event := range d.order {
		targets, known := d.targets[event]
		if !known {
			fmt.Fprintf(w, "%s\t?\t\t\t\tno receiver has reported it\n", printable(event))
			failed, all = failed+1, all+1
		}
		for _, target := range targets {
			all++
			r, tried := d.last[[2]string{event, target}]
			if r.Outcome != recent.Delivered {
				failed++
			}
			if !tried {
				fmt.Fprintf(w, "%s\t%s\t-\t-\t-\tno attempt yet\n", printable(event), printable(target))
				continue
			}
			what, _ := next(r)
			fmt.Fprintf(w, "%s\t%s\t%s\t%.1f\t%d\t%s\n", printable(event), printable(target), answered(r.Status), r.TookMS, r.Attempt, printable(what))
		}
	}
	_ = w.Flush()
	if failed > 0 {
		return fmt.Errorf("%d of %d deliveries did not succeed within %s", failed, all, timeout)
	}
	return nil
}

// awaiting starts to follow the feed before the events are sent. The returned function waits until every target has them, and
// prints the outcome of each.
func (f *sendFlags) awaiting(ctx context.Context, c place, name string, stderr io.Writer) (func(out io.Writer, results []sent) error, error) {
	from := newFeed(c, name, nil, stderr)
	if _, err := from.history(ctx, 0); err != nil {
		return nil, err
	}
	return func(out io.Writer, results []sent) error {
		d := awaited(results)
		if len(d.order) == 0 {
			return nil
		}
		d.await(ctx, from, f.timeout)
		fmt.Fprintln(out)
		return d.show(out, f.timeout)
	}, nil
}

// checkWait checks --wait in combination with the other flags.
func (f *sendFlags) checkWait(timeoutGiven bool) error {
	var others []string
	for flag, given := range map[string]bool{"--burst": f.burst > 0, "--bad-token": f.badToken} {
		if given {
			others = append(others, flag)
		}
	}
	switch {
	case f.timeout <= 0:
		return errors.New("--timeout is a time such as 30s")
	case timeoutGiven && !f.wait:
		return errors.New("--timeout bounds --wait: add --wait, or leave it out")
	case f.wait && len(others) > 0:
		return fmt.Errorf("--wait reports each delivery: leave out %s", strings.Join(others, " and "))
	}
	return nil
}
