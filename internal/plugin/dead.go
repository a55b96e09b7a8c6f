package plugin

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/event"
)

const (
	// listLimit is how many dead letters of a target are listed without --limit, and maxListed with it.
	listLimit = 100
	maxListed = 1000
	// maxTaken bounds --limit of replay and discard, as the receiver does.
	maxTaken = 1_000_000_000
)

// deadFlags are the flags of the commands on dead letters.
type deadFlags struct {
	target string
	which  choice
	yes    bool
	canary canaryFlags
	file   string // content that replaces that of the letter; "" keeps it
	asJSON jsonOutput
}

func deadCommand(to *connection) *cobra.Command {
	dead := &cobra.Command{
		Use:   "dead",
		Short: "List, show, edit, replay and discard dead letters: events that a target did not accept",
	}
	dead.AddCommand(listCommand(to), showCommand(to), editCommand(to), replayCommand(to), discardCommand(to))
	return dead
}

func listCommand(to *connection) *cobra.Command {
	f := &deadFlags{which: choice{status: anyStatus, limit: listLimit}}
	cmd := f.command(to, &cobra.Command{
		Use:     "list NAME",
		Short:   "List dead letters, the oldest first, without their content",
		Example: "  kubectl heymarket dead list support --status 422 --since 2h",
	}, func(cmd *cobra.Command, of []letters) error { return list(cmd, of, f.which, bool(f.asJSON)) })
	f.filters(cmd, maxListed)
	f.asJSON.bind(cmd.Flags(), "one JSON object per dead letter and line")
	return cmd
}

func showCommand(to *connection) *cobra.Command {
	f := &deadFlags{}
	cmd := f.command(to, &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one dead letter with its content, which may be personal data",
		Example: "  kubectl heymarket dead show support --id 1700000000000-0",
	}, func(cmd *cobra.Command, of []letters) error {
		letter, err := of[0].show(cmd.Context(), f.which.entry)
		if err == nil && bool(f.asJSON) {
			err = writeJSON(cmd.OutOrStdout(), targetLetter{of[0].target, letter})
		} else if err == nil {
			show(cmd.OutOrStdout(), of[0].target, letter)
		}
		return err
	})
	f.id(cmd)
	f.asJSON.bind(cmd.Flags(), "the dead letter as a JSON object, its content as \"body\"")
	return cmd
}

func replayCommand(to *connection) *cobra.Command {
	f := &deadFlags{which: choice{status: anyStatus}}
	cmd := f.command(to, &cobra.Command{
		Use:   "replay NAME",
		Short: "Deliver dead letters again",
		Long: `Deliver dead letters again: they return to the target's queue under their old event IDs, with a fresh set of attempts.
Choose them by --id, by the flags that list has, or take every one of the target by --all. With --canary 5, the five oldest go
first, and the rest follow only if the target accepts them. With --file, the one of --id is delivered with the content of a file.`,
		Example: `  kubectl heymarket dead replay support --limit 1
  kubectl heymarket dead replay support --id 1700000000000-0 --file edited.json
  kubectl heymarket dead replay support --status 422 --since 2h --canary 5`,
	}, func(cmd *cobra.Command, of []letters) error {
		if f.file != "" {
			edited, err := readEvent(f.file, cmd.InOrStdin())
			if err != nil {
				return fmt.Errorf("--file: %w", err)
			}
			f.which.edited = edited
			return replayEdited(cmd, of[0], f.which)
		}
		if f.canary.count > 0 {
			if goOn, err := f.tryCanary(cmd, of[0]); err != nil || !goOn {
				return err
			}
		}
		return f.change(cmd, of[0], verb{"replay", "Replay", "Replayed"}, of[0].replay, func(p admin.Progress) int { return p.Replayed })
	})
	f.choice(cmd)
	f.canary.bind(cmd.Flags())
	cmd.Flags().StringVar(&f.file, "file", "", "with --id: deliver the event in this file, or - for standard input, instead of its content")
	return cmd
}

func discardCommand(to *connection) *cobra.Command {
	f := &deadFlags{which: choice{status: anyStatus}}
	cmd := f.command(to, &cobra.Command{
		Use:     "discard NAME",
		Short:   "Remove dead letters permanently",
		Example: "  kubectl heymarket dead discard support --id 1700000000000-0",
	}, func(cmd *cobra.Command, of []letters) error {
		return f.change(cmd, of[0], verb{"discard", "Discard", "Discarded"}, of[0].discard, func(p admin.Progress) int { return p.Discarded })
	})
	f.choice(cmd)
	return cmd
}

// choice adds to cmd the flags that select letters to change.
func (f *deadFlags) choice(cmd *cobra.Command) {
	f.filters(cmd, maxTaken)
	f.id(cmd)
	f.everything(cmd)
}

// command adds to cmd what all commands on letters share: a webhook, a target, and a connection. Only list accepts all
// targets.
func (f *deadFlags) command(to *connection, cmd *cobra.Command, run func(*cobra.Command, []letters) error) *cobra.Command {
	cmd.Args = oneName
	cmd.Flags().StringVar(&f.target, "target", "", "name of the target; optional if the webhook has only one")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		return withLetters(cmd, to, args[0], f.target, cmd.Name() == "list", run)
	}
	return cmd
}

func (f *deadFlags) filters(cmd *cobra.Command, most int) {
	cmd.Flags().StringVar(&f.which.eventType, "type", "", "only events of this type, such as message_recieved")
	cmd.Flags().Var(number{&f.which.status, 0, 999}, "status", "only those whose last answer had this HTTP status; 0: those that got no answer")
	cmd.Flags().StringVar(&f.which.reason, "reason", "", "only those whose reason contains this text")
	cmd.Flags().StringVar(&f.which.text, "text", "", "only those whose content contains this text")
	cmd.Flags().Var(moment{&f.which.since}, "since", "only those given up at or after this time: 2h ago as 2h, or a time such as 2026-11-21T12:00:00Z")
	cmd.Flags().Var(moment{&f.which.until}, "until", "only those given up at or before this time, written in the same way")
	cmd.Flags().Var(number{&f.which.limit, 1, most}, "limit", "at most this many, the oldest first")
}

func (f *deadFlags) id(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.which.entry, "id", "", "the one with this ID, as printed by list")
}

func (f *deadFlags) everything(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.which.all, "all", false, "every dead letter of the target; on a terminal, asks first")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "with --all: do not ask")
}

// check finds mistakes before any request to the cluster.
func (f *deadFlags) check(cmd *cobra.Command) error {
	if id := f.which.entry; id != "" && !entryPattern.MatchString(id) {
		return fmt.Errorf("--id: %w", notAnID(id))
	}
	if cmd.Name() == "show" && f.which.entry == "" {
		return errors.New("set --id to the dead letter's ID; `kubectl heymarket dead list` prints them")
	}
	if err := checkType(f.which.eventType); err != nil {
		return err
	}
	if f.file != "" && f.which.entry == "" {
		return errors.New("--file replaces the content of one dead letter: set --id to its ID")
	}
	if cmd.Flags().Lookup("all") == nil {
		return nil
	}
	if err := f.canary.check(f.which, cmd.Flags().Changed("timeout")); err != nil {
		return err
	}
	return f.which.check()
}

var entryPattern = regexp.MustCompile(`^[0-9]{1,20}-[0-9]{1,20}$`)

// checkType rejects a type that is similar to one of Heymarket's: it would find nothing. Others may be new types.
func checkType(name string) error {
	if name == "" || slices.Contains(event.Types(), event.WireType(name)) {
		return nil
	}
	types := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, known := range event.Types() {
		types.AddCommand(&cobra.Command{Use: known, Run: func(*cobra.Command, []string) {}})
	}
	if near := types.SuggestionsFor(name); len(near) > 0 {
		return fmt.Errorf("--type %q is not an event type: did you mean %s?", name, strings.Join(near, " or "))
	}
	return nil
}

// withLetters runs a command on the dead letters of a target, or of all of them if many is set.
func withLetters(cmd *cobra.Command, to *connection, name, target string, many bool, run func(*cobra.Command, []letters) error) error {
	c, err := to.open()
	if err != nil {
		return err
	}
	hook, err := c.webhook(cmd.Context(), name)
	if err != nil {
		return err
	}
	targets, err := chosen(hook, target, many)
	if err != nil {
		return err
	}
	client, end, err := c.reach(cmd.Context(), name, contract.AdminPort)
	if err != nil {
		return err
	}
	defer end()
	client.Timeout = 0 // letters bounds each request itself
	var of []letters
	for _, t := range targets {
		of = append(of, letters{client: client, target: t, place: c, webhook: name})
	}
	return run(cmd, of)
}

// chosen returns the selected targets.
func chosen(hook *v1alpha1.HeymarketWebhook, target string, many bool) ([]string, error) {
	var names []string
	for _, t := range hook.Spec.Targets {
		if t.Name == target {
			return []string{target}, nil
		}
		names = append(names, t.Name)
	}
	switch {
	case target != "":
		return nil, fmt.Errorf("%s has no target %q; its targets are %s", hook.Name, target, strings.Join(names, ", "))
	case len(names) > 1 && !many:
		return nil, fmt.Errorf("set --target to one of the targets: %s", strings.Join(names, ", "))
	}
	return names, nil
}

// targetLetter is a dead letter in JSON: the fields of the administrative API, and the target's name.
type targetLetter struct {
	Target string `json:"target"`
	admin.Letter
}

func list(cmd *cobra.Command, of []letters, which choice, asJSON bool) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TARGET\tID\tTYPE\tGIVEN UP\tATTEMPTS\tSTATUS\tREASON")
	var full []string
	total := 0
	for _, l := range of {
		found, err := l.list(cmd.Context(), which)
		if err != nil {
			return err
		}
		total += len(found)
		if len(found) == which.limit {
			full = append(full, l.target)
		}
		for _, d := range found {
			if asJSON {
				if err := writeJSON(cmd.OutOrStdout(), targetLetter{l.target, d}); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n",
				l.target, d.Entry, printable(d.Type), d.DiedAt.Format(time.RFC3339), d.Attempts, answered(d.Status), printable(d.Reason))
		}
	}
	switch {
	case asJSON:
	case total == 0:
		fmt.Fprintln(cmd.OutOrStdout(), "No dead letters.")
	default:
		_ = w.Flush()
	}
	if len(full) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "There may be more of %s: raise --limit (up to %d), or narrow the list, by --type or --since for example.\n",
			strings.Join(full, ", "), maxListed)
	}
	return nil
}

func show(out io.Writer, target string, d admin.Letter) {
	replayed := ""
	if !d.ReplayedAt.IsZero() {
		replayed = d.ReplayedAt.Format(time.RFC3339)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"Target", target},
		{"ID", d.Entry},
		{"Event", d.Event},
		{"Type", d.Type},
		{"Accepted", d.AcceptedAt.Format(time.RFC3339)},
		{"Replayed", replayed},
		{"Given up", d.DiedAt.Format(time.RFC3339)},
		{"Attempts", fmt.Sprint(d.Attempts)},
		{"Status", answered(d.Status)},
		{"Reason", d.Reason},
		{"Answer", d.Excerpt},
	} {
		if row[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", row[0], printable(row[1]))
		}
	}
	_ = w.Flush()
	if text := admin.Readable(d.Body, d.BodyText); text != "" {
		fmt.Fprintf(out, "\n%s\n", text)
	}
}

func answered(status int) string {
	if status == 0 {
		return "none"
	}
	return fmt.Sprint(status)
}
