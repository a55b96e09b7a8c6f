package plugin

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

func statusCommand(to *connection) *cobra.Command {
	var output output
	everywhere, watch := false, false
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show conditions, targets, backlog and tokens",
		Long: `Show the conditions, targets, backlog and tokens of a webhook. Counts and times come from the receiver Pods, and from the status of
the HeymarketWebhook where none answers; the last line says which. Without a NAME, list the HeymarketWebhooks of the namespace.`,
		Example: `  kubectl heymarket status support --namespace staging
  kubectl heymarket status --all-namespaces`,
		Args: oneNameOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			if everywhere && len(args) > 0 {
				return errors.New("--all-namespaces lists every HeymarketWebhook: leave out the NAME, or name its --namespace instead")
			}
			c, err := to.open()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return repeated(cmd, watch && !output.structured(), func() error { return c.list(cmd.Context(), cmd.OutOrStdout(), output, everywhere) })
			}
			return repeated(cmd, watch && !output.structured(), func() error {
				hook, from, err := c.current(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if output.structured() {
					return output.print(cmd.OutOrStdout(), hook)
				}
				describe(cmd.OutOrStdout(), hook, c.flags(), from, time.Now())
				return nil
			})
		},
	}
	output.bind(cmd.Flags())
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "on a terminal, show it again every 2 seconds until Ctrl-C")
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "list the HeymarketWebhooks of all namespaces")
	return cmd
}

// origin says where the figures of a status come from.
type origin struct {
	// rounded figures are the operator's, which are up to a minute old.
	rounded bool
	// note is a sentence about what is not exact, and why; "" means that everything is.
	note string
}

// update replaces what receivers reported to the operator by what they answer now. err is why none was asked.
func update(status *v1alpha1.HeymarketWebhookStatus, answers []answer[contract.Status], err error) origin {
	var reports []contract.Status
	for _, a := range answers {
		if a.err == nil {
			reports = append(reports, a.value)
		} else if err == nil {
			err = a.err
		}
	}
	if len(reports) == 0 && err != nil {
		return origin{true, "Counts are up to a minute old, and rounded down to one significant digit, because no receiver Pod answered: " + printable(err.Error())}
	}
	merge(status, reports...)
	if err != nil {
		return origin{note: "Circuits, errors and times may be incomplete, because a receiver Pod did not answer: " + printable(err.Error())}
	}
	return origin{}
}

// merge adds the reports of receivers to a status. Counts are common to all receivers.
func merge(status *v1alpha1.HeymarketWebhookStatus, reports ...contract.Status) {
	before := map[string]v1alpha1.TargetStatus{}
	for _, t := range status.Targets {
		before[t.Name] = t
	}
	var targets [][]contract.TargetStatus
	for _, reported := range reports {
		targets = append(targets, reported.Targets)
		mergeTokens(status, reported.Tokens)
	}
	status.Targets = nil
	for _, t := range contract.MergeTargets(targets...) {
		merged := v1alpha1.TargetStatus{
			Name: t.Name, Pending: t.Pending, DeadLetters: t.DeadLetters, Circuit: v1alpha1.Circuit(t.Circuit),
			LastDelivered: later(before[t.Name].LastDelivered, t.LastDelivered), OldestPending: later(nil, t.OldestPending), NextAttempt: later(nil, t.NextAttempt),
		}
		if e := t.LastError; e != nil {
			merged.LastError = &v1alpha1.TargetError{Class: string(e.Class), Since: metav1.NewTime(e.Since)}
		}
		status.Targets = append(status.Targets, merged)
	}
}

func mergeTokens(status *v1alpha1.HeymarketWebhookStatus, tokens []contract.TokenStatus) {
	for _, token := range tokens {
		status.LastEventTime = later(status.LastEventTime, token.LastUsed)
		if status.Token == nil {
			continue
		}
		if token.Name == contract.TokenPrevious {
			status.Token.PreviousLastUsed = later(status.Token.PreviousLastUsed, token.LastUsed)
		} else {
			status.Token.LastUsed = later(status.Token.LastUsed, token.LastUsed)
		}
	}
}

// later returns the later of two times, either of which may be missing.
func later(a *metav1.Time, b time.Time) *metav1.Time {
	if b.IsZero() || a != nil && a.After(b) {
		return a
	}
	return &metav1.Time{Time: b}
}

// describe prints the state of a webhook.
func describe(out io.Writer, hook *v1alpha1.HeymarketWebhook, flags string, from origin, now time.Time) {
	ready := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case !hook.DeletionTimestamp.IsZero():
		fmt.Fprintf(out, "%s in %s is being deleted.", hook.Name, hook.Namespace)
		if ready != nil && ready.Status == metav1.ConditionFalse && ready.ObservedGeneration == hook.Generation {
			fmt.Fprint(out, " "+printable(ready.Message))
		}
		fmt.Fprintln(out)
	case ready == nil:
		fmt.Fprintf(out, "%s in %s has no status yet: is the operator running, and does it watch this namespace?\n", hook.Name, hook.Namespace)
		return
	case ready.ObservedGeneration < hook.Generation:
		fmt.Fprintf(out, "%s in %s was changed, and the operator has not looked at it since. Before the change:\n", hook.Name, hook.Namespace)
	case ready.Status == metav1.ConditionTrue:
		fmt.Fprintf(out, "%s in %s is Ready.\n", hook.Name, hook.Namespace)
	default:
		fmt.Fprintf(out, "%s in %s is not Ready.\n", hook.Name, hook.Namespace)
	}
	if hook.Spec.Paused {
		fmt.Fprintln(out, "It is paused: events are stored, and delivered once spec.paused is false.")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w)
	if hook.Status.URL != "" {
		fmt.Fprintf(w, "URL\t%s\n\t(in full: kubectl heymarket url %s %s)\n", hook.Status.URL, hook.Name, flags)
	}
	if until := hook.Status.PreviousURLUntil; until != nil {
		fmt.Fprintf(w, "\t(the one before is accepted until %s)\n", until.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(w, "Last event\t%s\n", ago(hook.Status.LastEventTime, now))
	_ = w.Flush()
	showConditions(out, hook.Status.Conditions)
	showTargets(out, hook, flags, from.rounded, now)
	showTokens(out, hook.Status.Token, now)
	if from.note != "" {
		fmt.Fprintf(out, "\n%s\n", from.note)
	}
}

func showConditions(out io.Writer, conditions []metav1.Condition) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONDITION\t\tREASON\tMESSAGE")
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionAvailable, v1alpha1.ConditionExposed, v1alpha1.ConditionDurable, v1alpha1.ConditionScaled, v1alpha1.ConditionReachable} {
		if c := meta.FindStatusCondition(conditions, kind); c != nil {
			mark := "ok"
			if c.Status != metav1.ConditionTrue {
				mark = "NOT OK"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", kind, mark, printable(c.Reason), printable(c.Message))
		}
	}
	_ = w.Flush()
}

func showTargets(out io.Writer, hook *v1alpha1.HeymarketWebhook, flags string, rounded bool, now time.Time) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TARGET\tPENDING\tOLDEST\tDEAD LETTERS\tCIRCUIT\tLAST DELIVERED\tERROR\tNEXT ATTEMPT")
	dead := ""
	for _, target := range hook.Spec.Targets {
		seen := false
		for _, s := range hook.Status.Targets {
			if s.Name != target.Name {
				continue
			}
			seen = true
			failing := "-"
			if s.LastError != nil {
				failing = fmt.Sprintf("%s for %s", printable(s.LastError.Class), age(&s.LastError.Since, now))
			}
			next := "-"
			if s.NextAttempt != nil {
				next = "in " + duration.HumanDuration(max(s.NextAttempt.Sub(now), 0))
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, count(s.Pending, rounded), age(s.OldestPending, now),
				count(s.DeadLetters, rounded), printable(string(s.Circuit)), ago(s.LastDelivered, now), failing, next)
			if s.DeadLetters > 0 && dead == "" {
				dead = s.Name
			}
		}
		if !seen {
			fmt.Fprintf(w, "%s\tnot reported yet\n", target.Name)
		}
	}
	_ = w.Flush()
	if dead != "" {
		fmt.Fprintf(out, "Why they were given up: kubectl heymarket dead list %s --target %s %s\n", hook.Name, dead, flags)
	}
}

func showTokens(out io.Writer, tokens *v1alpha1.TokenStatus, now time.Time) {
	if tokens == nil {
		return
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOKEN\tSECRET\tKEY\tLAST USED")
	fmt.Fprintf(w, "current\t%s\t%s\t%s\n", tokens.SecretKeyRef.Name, tokens.SecretKeyRef.Key, ago(tokens.LastUsed, now))
	if previous := tokens.PreviousSecretKeyRef; previous != nil {
		fmt.Fprintf(w, "previous\t%s\t%s\t%s\n", previous.Name, previous.Key, ago(tokens.PreviousLastUsed, now))
	}
	_ = w.Flush()
	if tokens.PreviousSecretKeyRef == nil {
		return
	}
	if tokens.LastUsed != nil && (tokens.PreviousLastUsed == nil || tokens.PreviousLastUsed.Before(tokens.LastUsed)) {
		fmt.Fprintln(out, "Heymarket uses the current token. Once the previous one has been unused for long enough, remove spec.token.previousSecretKeyRef.")
	} else {
		fmt.Fprintln(out, "Heymarket has not used the current token since the previous one: keep spec.token.previousSecretKeyRef.")
	}
}

// count formats a number of events. The status of the resource rounds numbers above nine down to their first
// digit.
func count(n int64, rounded bool) string {
	if n < 10 || !rounded {
		return fmt.Sprint(n)
	}
	text := fmt.Sprint(n)
	return "about " + text[:1] + strings.Repeat("0", len(text)-1)
}

// age returns how long ago t was.
func age(t *metav1.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return duration.HumanDuration(max(now.Sub(t.Time), 0))
}

// ago returns when something was, which receivers report to the minute.
func ago(t *metav1.Time, now time.Time) string {
	if t == nil {
		return "none yet"
	}
	since := "less than a minute"
	if now.Sub(t.Time) >= time.Minute {
		since = age(t, now)
	}
	return since + " ago, at " + t.UTC().Format(time.RFC3339)
}
