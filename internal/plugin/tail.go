package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/recent"
)

// tailFlags select the records to show, and the format.
type tailFlags struct {
	eventType, target, outcome string
	since                      time.Duration
	limit                      int
	follow, content            bool
	asJSON                     jsonOutput
}

func tailCommand(to *connection) *cobra.Command {
	f := tailFlags{limit: defaultHistory, follow: true}
	cmd := &cobra.Command{
		Use:   "tail NAME",
		Short: "Show events and attempts to deliver them, live",
		Long: `Show what the receivers of a webhook do, live: a line for each request that Heymarket sends, and one for each attempt to deliver an
event, with what comes next. It begins with the latest of what the receivers remember: the last 1,000 requests, 200 rejected ones and
2,500 attempts of each Pod, without their content.`,
		Example: `  kubectl heymarket tail support --target crm
  kubectl heymarket tail support --outcome dead_letter --since 1h --follow=false`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			c, err := to.open()
			if err != nil {
				return err
			}
			hook, err := c.webhook(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if f.target != "" {
				if _, err := chosen(hook, f.target, true); err != nil {
					return err
				}
			}
			return f.tail(cmd, c, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.eventType, "type", "", "only events of this type, such as message_recieved")
	flags.StringVar(&f.target, "target", "", "only attempts at this target, and events for it")
	flags.StringVar(&f.outcome, "outcome", "", "only this outcome: "+strings.Join(recent.OutcomeNames(), ", "))
	flags.DurationVar(&f.since, "since", 0, "start with records newer than this, such as 10m")
	flags.Var(number{&f.limit, 0, recent.Kept}, "limit", "start with at most this many past records; default: 20, or all with --since")
	flags.BoolVar(&f.follow, "follow", true, "keep showing new records; --follow=false exits after the past ones")
	flags.BoolVar(&f.content, "show-content", false, "show the content of events, which may be personal data, while it is stored")
	f.asJSON.bind(flags, "one JSON object per line")
	_ = cmd.RegisterFlagCompletionFunc("outcome", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return recent.OutcomeNames(), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		if f.since > 0 && !cmd.Flags().Changed("limit") {
			f.limit = recent.Kept
		}
	}
	return cmd
}

// defaultHistory is how many past records are shown first.
const defaultHistory = 20

func (f *tailFlags) check() error {
	switch {
	case f.outcome != "" && !slices.Contains(recent.OutcomeNames(), f.outcome):
		return fmt.Errorf("--outcome %q is not an outcome: set %s", f.outcome, strings.Join(recent.OutcomeNames(), ", "))
	case bool(f.asJSON) && f.content:
		return errors.New("--show-content is for people: leave out --output, or ask the API for the content of an event")
	case f.since < 0:
		return errors.New("--since is an age such as 10m")
	}
	return checkType(f.eventType)
}

func (f *tailFlags) tail(cmd *cobra.Command, c place, name string) error {
	ctx := cmd.Context()
	query := url.Values{}
	for parameter, value := range map[string]string{"type": f.eventType, "target": f.target, "outcome": f.outcome} {
		if value != "" {
			query.Set(parameter, value)
		}
	}
	from := newFeed(c, name, query, cmd.ErrOrStderr())
	records, err := from.history(ctx, f.limit)
	if err != nil {
		return err
	}
	if f.since > 0 {
		begin := time.Now().Add(-f.since)
		records = slices.DeleteFunc(records, func(r recent.Record) bool { return r.Time.Before(begin) })
	}
	show := func(records []recent.Record) bool {
		for _, r := range records {
			if err = f.show(ctx, cmd.OutOrStdout(), c, r); err != nil {
				return false
			}
		}
		return true
	}
	if !f.asJSON {
		fmt.Fprintln(cmd.OutOrStdout(), tailLine("TIME", "TYPE", "EVENT", "TARGET", "#", "STATUS", "MS", "WHAT"))
	}
	if show(records) && f.follow {
		from.follow(ctx, show)
	}
	return err
}

// show prints one record.
func (f *tailFlags) show(ctx context.Context, out io.Writer, c place, r recent.Record) error {
	if f.asJSON {
		return writeJSON(out, r)
	}
	to, paint := coloured(out)
	if _, err := fmt.Fprintln(to, recordLine(r, paint)); err != nil {
		return err
	}
	if f.content && r.Event != "" && (r.Outcome == recent.Stored || r.Outcome == recent.Retry || r.Outcome == recent.DeadLetter) {
		showContent(ctx, out, c, r)
	}
	return nil
}

// showContent prints the content of an event if a receiver still has it.
func showContent(ctx context.Context, out io.Writer, c place, r recent.Record) {
	var found admin.Content
	if err := askOne(ctx, c, r.Receiver, contract.AdminPort, "/v1/events/"+url.PathEscape(r.Event)+"/content", maxAnswer, &found); err != nil {
		fmt.Fprintf(out, "    %s\n", printable(err.Error()))
		return
	}
	for line := range strings.Lines(admin.Readable(found.Body, found.BodyText)) {
		fmt.Fprintf(out, "    %s\n", strings.TrimSuffix(line, "\n"))
	}
}

func tailLine(at, eventType, event, target, attempt, status, took, what string) string {
	return fmt.Sprintf("%-12s  %-28s  %-30s  %-14s  %2s  %6s  %9s  %s", at, eventType, event, target, attempt, status, took, what)
}

func recordLine(r recent.Record, paint func(colour, string) string) string {
	dash := func(text string) string {
		if text == "" {
			return "-"
		}
		return printable(text)
	}
	attempt, status, took := "", answered(r.Status), fmt.Sprintf("%.1f", r.TookMS)
	if !r.Outcome.OfRequest() {
		attempt = fmt.Sprint(r.Attempt)
		if r.Attempt == 0 {
			attempt, took = "-", "-"
		}
	}
	what, c := next(r)
	return tailLine(r.Time.Local().Format("15:04:05.000"), dash(r.Type), dash(r.Event), printable(r.Target), attempt, status, took, paint(c, printable(what)))
}

// next describes the outcome of a request or an attempt, and what happens next.
func next(r recent.Record) (string, colour) {
	because := ""
	if why := strings.TrimSpace(r.Reason); why != "" {
		because = ": " + why
	} else if r.Error != "" {
		because = ": " + string(r.Error)
	}
	switch r.Outcome {
	case recent.Stored:
		what := "stored for " + strings.Join(r.Targets, ", ")
		if len(r.Filtered) > 0 {
			what += "; filtered for " + strings.Join(r.Filtered, ", ")
		}
		return what, green
	case recent.Duplicate:
		return "duplicate", dim
	case recent.Ignored:
		if len(r.Filtered) > 0 {
			return "ignored: filtered for " + strings.Join(r.Filtered, ", "), dim
		}
		return "ignored: no target wants this type", dim
	case recent.Refused:
		return "refused" + because, red
	case recent.Delivered:
		return "delivered", green
	case recent.Retry:
		return "retry at " + r.RetryAt.Local().Format(time.TimeOnly) + because, yellow
	case recent.DeadLetter:
		return "dead letter" + because, red
	case recent.Interrupted:
		return "interrupted by a shutdown: retry at once", yellow
	case recent.Unsettled:
		return "unsettled: Redis did not confirm, will be delivered again", red
	case recent.Superseded:
		return "superseded by another attempt", dim
	}
	return string(r.Outcome), plain
}
