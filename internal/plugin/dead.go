package plugin

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/admin"
)

// listLimit is how many dead letters of a target are listed where no --limit is said.
const listLimit = 100

func deadCommand(to *connection) *cobra.Command {
	dead := &cobra.Command{
		Use:   "dead",
		Short: "List, show, replay and discard dead letters: events that a target did not take",
		Args:  cobra.NoArgs,
	}
	var target string
	var which choice
	verb := func(use, short, long, example string, run func(*cobra.Command, []letters) error) *cobra.Command {
		cmd := &cobra.Command{Use: use + " NAME", Short: short, Long: long, Example: example, Args: oneName}
		cmd.Flags().StringVar(&target, "target", "", "name of the target; may be left out where there is only one")
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("status") {
				which.status = -1
			}
			return withLetters(cmd, to, args[0], target, use == "list", run)
		}
		dead.AddCommand(cmd)
		return cmd
	}
	filtered := func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&which.eventType, "type", "", "only events of this type, such as message_recieved")
		cmd.Flags().IntVar(&which.status, "status", -1, "only those whose last answer had this HTTP status; 0: those that got none")
		cmd.Flags().IntVar(&which.limit, "limit", 0, "at most so many, the oldest first")
	}
	one := func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&which.entry, "id", "", "the one with this ID, which list shows")
	}

	filtered(verb("list", "List dead letters, the oldest first, without what is in them", "",
		"  kubectl heymarket dead list support --status 422", func(cmd *cobra.Command, of []letters) error {
			if which.limit == 0 {
				which.limit = listLimit
			}
			return list(cmd, of, which)
		}))
	one(verb("show", "Show one dead letter with its body, which is people's text", "",
		"  kubectl heymarket dead show support --id 1700000000000-0", func(cmd *cobra.Command, of []letters) error {
			if which.entry == "" {
				return errors.New("say which one by --id; `kubectl heymarket dead list` shows them")
			}
			letter, err := of[0].show(cmd.Context(), which.entry)
			if err == nil {
				show(cmd.OutOrStdout(), of[0].target, letter)
			}
			return err
		}))
	replay := verb("replay", "Deliver dead letters anew", `Deliver dead letters anew: they go back into the target's queue under their old event ids, with all attempts before them.
Without --id, --type, --status or --limit that is every one of the target. Begin with a canary: --limit 1 takes the oldest.`,
		"  kubectl heymarket dead replay support --limit 1", func(cmd *cobra.Command, of []letters) error {
			n, err := of[0].replay(cmd.Context(), which)
			return report(cmd, "replayed", of[0].target, n, err)
		})
	filtered(replay)
	one(replay)
	discard := verb("discard", "Remove dead letters for good", "", "  kubectl heymarket dead discard support --id 1700000000000-0",
		func(cmd *cobra.Command, of []letters) error {
			if !which.narrow() && !which.all {
				return errors.New("this would remove every dead letter of the target for good: say --id, --type, --status or --limit, or --all if that is meant")
			}
			n, err := of[0].discard(cmd.Context(), which)
			return report(cmd, "discarded", of[0].target, n, err)
		})
	filtered(discard)
	one(discard)
	discard.Flags().BoolVar(&which.all, "all", false, "every one of the target")
	return dead
}

// withLetters runs a command on the dead letters of a target, or of all of them where many may be meant.
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
	way, err := c.openTunnel(cmd.Context(), name, adminPort)
	if err != nil {
		return err
	}
	defer way.Close()
	var of []letters
	for _, t := range targets {
		of = append(of, letters{client: way.client(), target: t})
	}
	return run(cmd, of)
}

// chosen are the targets that are meant.
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
		return nil, fmt.Errorf("%s has no target %q; it has %s", hook.Name, target, strings.Join(names, ", "))
	case len(names) > 1 && !many:
		return nil, fmt.Errorf("say which target by --target: %s", strings.Join(names, ", "))
	}
	return names, nil
}

func list(cmd *cobra.Command, of []letters, which choice) error {
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
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", l.target, d.Entry, d.Type, d.DiedAt.Format(time.RFC3339), d.Attempts, answered(d.Status), d.Reason)
		}
	}
	if total == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "There are none.")
		return nil
	}
	_ = w.Flush()
	if len(full) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "There may be more of %s: --limit takes up to 1000, --type and --status narrow.\n", strings.Join(full, ", "))
	}
	return nil
}

func show(out io.Writer, target string, d admin.Letter) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"Target", target},
		{"ID", d.Entry},
		{"Event", d.Event},
		{"Type", d.Type},
		{"Accepted", d.AcceptedAt.Format(time.RFC3339)},
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
	if body := d.Body; len(body) > 0 {
		if err := body.Indent(jsontext.WithIndent("  ")); err == nil {
			fmt.Fprintf(out, "\n%s\n", body)
		}
	}
}

// printable keeps what a target answered from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

func answered(status int) string {
	if status == 0 {
		return "none"
	}
	return fmt.Sprint(status)
}

// report says how many letters were taken, also where an error came in between.
func report(cmd *cobra.Command, did, target string, n int, err error) error {
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("nothing was %s: %s has no such dead letter", did, target)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d of %s %s.\n", n, target, did)
	return nil
}
