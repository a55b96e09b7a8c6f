package plugin

import (
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
)

func statusCommand(to *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "status NAME",
		Short: "Tell how it stands: conditions, targets, backlog, tokens",
		Long: `Tell how it stands: conditions, targets, backlog, tokens. It is what the status of the HeymarketWebhook says, in other words: its
figures are a minute old at most, and of a number above nine only the first digit is told.`,
		Example: "  kubectl heymarket status support --namespace staging",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := to.open()
			if err != nil {
				return err
			}
			hook, err := c.webhook(cmd.Context(), args[0])
			if err == nil {
				tell(cmd.OutOrStdout(), hook, c.flags(), time.Now())
			}
			return err
		},
	}
}

// tell writes how a webhook stands.
func tell(out io.Writer, hook *v1alpha1.HeymarketWebhook, flags string, now time.Time) {
	ready := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case !hook.DeletionTimestamp.IsZero():
		fmt.Fprintf(out, "%s in %s is being deleted.", hook.Name, hook.Namespace)
		if ready != nil && ready.Status == metav1.ConditionFalse && ready.ObservedGeneration == hook.Generation {
			fmt.Fprint(out, " "+printable(ready.Message))
		}
		fmt.Fprintln(out)
	case ready == nil:
		fmt.Fprintf(out, "%s in %s has no status yet: is the operator running, and does it look after this namespace?\n", hook.Name, hook.Namespace)
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
	tellConditions(out, hook.Status.Conditions)
	tellTargets(out, hook, flags, now)
	tellTokens(out, hook.Status.Token, now)
}

func tellConditions(out io.Writer, conditions []metav1.Condition) {
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

func tellTargets(out io.Writer, hook *v1alpha1.HeymarketWebhook, flags string, now time.Time) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TARGET\tPENDING\tDEAD LETTERS\tCIRCUIT\tLAST DELIVERED")
	dead := ""
	for _, target := range hook.Spec.Targets {
		seen := false
		for _, s := range hook.Status.Targets {
			if s.Name != target.Name {
				continue
			}
			seen = true
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, about(s.Pending), about(s.DeadLetters), s.Circuit, ago(s.LastDelivered, now))
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

func tellTokens(out io.Writer, tokens *v1alpha1.TokenStatus, now time.Time) {
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
		fmt.Fprintln(out, "Heymarket uses the current token. Once the previous one has not been used for as long as you care, remove spec.token.previousSecretKeyRef.")
	} else {
		fmt.Fprintln(out, "Heymarket has not used the current token since the previous one: keep spec.token.previousSecretKeyRef.")
	}
}

// about writes a figure of the status: above nine only its first digit is known.
func about(n int64) string {
	if n < 10 {
		return fmt.Sprint(n)
	}
	text := fmt.Sprint(n)
	return "about " + text[:1] + strings.Repeat("0", len(text)-1)
}

func ago(t *metav1.Time, now time.Time) string {
	if t == nil {
		return "never seen"
	}
	return fmt.Sprintf("%s ago, at %s", duration.HumanDuration(max(now.Sub(t.Time), 0)), t.UTC().Format(time.RFC3339))
}
