package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/admin"
)

// rotateFlags select the step of a rotation.
type rotateFlags struct {
	to, key      string
	finish, wait bool
	silentFor    time.Duration
}

// rotatePoll is how often --wait looks; the operator updates what it reports about tokens every five minutes.
const rotatePoll = 2 * time.Second

func rotateCommand(to *connection) *cobra.Command {
	var f rotateFlags
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Rotate the token: start, show progress, finish",
		Long: `Rotate the token without rejecting a delivery. --to names the Secret with the new token: from then on both tokens are accepted.
Change the token in the Heymarket app, then run the command without flags to see which one Heymarket uses. --finish withdraws the old
token, and refuses while it may still be in use. With --wait the command reports each step of the rotation when it comes, and ends once
the old token may be withdrawn; with --finish it then withdraws it.`,
		Example: `  kubectl heymarket rotate support --to heymarket-2
  kubectl heymarket rotate support
  kubectl heymarket rotate support --finish
  kubectl heymarket rotate support --to heymarket-2 --finish --wait`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.to != "" && f.finish && !f.wait {
				return errors.New("--to starts a rotation and --finish ends one: set only one of them, or --wait as well")
			}
			c, err := to.openToChange()
			if err != nil {
				return err
			}
			hook, err := c.webhook(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if f.to != "" {
				if err := c.beginRotation(cmd.Context(), out, hook, v1alpha1.TokenReference{Name: f.to, Key: f.key}); err != nil || !f.wait {
					return err
				}
			}
			if hook.Spec.Token.PreviousSecretKeyRef == nil && f.to == "" {
				return fmt.Errorf("no rotation of %s is in progress: start one with --to", hook.Name)
			}
			if f.wait {
				if hook, err = c.awaitSilence(cmd.Context(), out, hook.Name, f.silentFor); err != nil {
					return err
				}
			}
			if f.finish {
				return c.finishRotation(cmd.Context(), out, hook, f.silentFor, time.Now())
			}
			c.showRotation(out, hook, time.Now())
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "start: the Secret with the new token, in the webhook's namespace")
	flags.StringVar(&f.key, "key", "token", "with --to: the key in that Secret")
	flags.BoolVar(&f.finish, "finish", false, "withdraw the old token")
	flags.BoolVar(&f.wait, "wait", false, "report each step, and end once the old token may be withdrawn, after up to --silent-for")
	flags.DurationVar(&f.silentFor, "silent-for", 72*time.Hour, "with --finish or --wait: how long the old token must not have been used; Heymarket may repeat a delivery for days")
	return cmd
}

func (c *cluster) beginRotation(ctx context.Context, out io.Writer, hook *v1alpha1.HeymarketWebhook, next v1alpha1.TokenReference) error {
	before := hook.Spec.Token
	switch {
	case before.SecretKeyRef == next:
		return fmt.Errorf("%s already uses key %q of Secret %q: put the new token into another Secret", hook.Name, next.Key, next.Name)
	case before.PreviousSecretKeyRef != nil:
		return fmt.Errorf("a rotation is in progress: run `kubectl heymarket rotate %s --finish %s` first", hook.Name, c.flags())
	}
	if _, err := c.secret(ctx, next.Name, next.Key, "create the Secret with the new token first"); err != nil {
		return err
	}
	old := before.SecretKeyRef
	patch := fmt.Appendf(nil, `{"spec":{"token":{"secretKeyRef":{"name":%q,"key":%q},"previousSecretKeyRef":{"name":%q,"key":%q}}}}`, next.Name, next.Key, old.Name, old.Key)
	if err := c.patch(ctx, hook.Name, patch); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s accepts both tokens once its receivers have been replaced: `kubectl wait --for=condition=Ready hmw/%[1]s %[2]s`.\n"+
		"Then change the token in the Heymarket app. `kubectl heymarket rotate %[1]s %[2]s` shows which token Heymarket uses.\n", hook.Name, c.flags())
	return nil
}

// mayBeInUse returns why the old token must not be withdrawn yet, nil if it may be.
func mayBeInUse(hook *v1alpha1.HeymarketWebhook, silentFor time.Duration, now time.Time) error {
	old, seen := hook.Spec.Token.PreviousSecretKeyRef, hook.Status.Token
	switch {
	case seen == nil || seen.PreviousSecretKeyRef == nil || *seen.PreviousSecretKeyRef != *old || seen.SecretKeyRef != hook.Spec.Token.SecretKeyRef:
		return errors.New("the operator has not reported the use of these two tokens yet: is it running?")
	case seen.LastUsed == nil:
		return errors.New("the new token has not been used by Heymarket yet: change it in the Heymarket app, and wait for an event")
	case seen.PreviousLastUsed != nil && now.Sub(seen.PreviousLastUsed.Time) < silentFor:
		used := seen.PreviousLastUsed.UTC()
		return fmt.Errorf("the old token was used at %s, and Heymarket may repeat deliveries with it: wait until %s, or set --silent-for to less than %s",
			used.Format(time.RFC3339), used.Add(silentFor).Format(time.RFC3339), silentFor)
	}
	return nil
}

// awaitSilence reports why the old token may still be in use, whenever that changes, and returns the webhook once it is not.
func (c *cluster) awaitSilence(ctx context.Context, out io.Writer, name string, silentFor time.Duration) (*v1alpha1.HeymarketWebhook, error) {
	said := ""
	for {
		hook, why := c.webhook(ctx, name)
		switch problem := (admin.Problem{}); {
		case errors.As(why, &problem):
			return nil, why // it is deleted
		case why != nil: // the next look may succeed
		case hook.Spec.Token.PreviousSecretKeyRef == nil:
			return nil, fmt.Errorf("the rotation of %s was ended meanwhile", name)
		default:
			if why = mayBeInUse(hook, silentFor, time.Now()); why == nil {
				return hook, nil
			}
			ready := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionReady)
			if ready == nil || ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != hook.Generation {
				why = errors.New("the receivers do not all accept both tokens yet: keep the old one in the Heymarket app")
			}
		}
		if text := why.Error(); text != said {
			fmt.Fprintf(out, "%s  %s\n", time.Now().Format(time.TimeOnly), printable(text))
			said = text
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(rotatePoll):
		}
	}
}

func (c *cluster) finishRotation(ctx context.Context, out io.Writer, hook *v1alpha1.HeymarketWebhook, silentFor time.Duration, now time.Time) error {
	if err := mayBeInUse(hook, silentFor, now); err != nil {
		return err
	}
	if err := c.patch(ctx, hook.Name, []byte(`{"spec":{"token":{"previousSecretKeyRef":null}}}`)); err != nil {
		return err
	}
	old := hook.Spec.Token.PreviousSecretKeyRef
	fmt.Fprintf(out, "The old token is withdrawn. Once `kubectl wait --for=condition=Ready hmw/%s %s` returns, delete its key %q of Secret %q.\n", hook.Name, c.flags(), old.Key, old.Name)
	return nil
}

func (c *cluster) showRotation(out io.Writer, hook *v1alpha1.HeymarketWebhook, now time.Time) {
	if hook.Status.Token == nil {
		fmt.Fprintln(out, "The operator has not reported the use of the tokens yet.")
	}
	showTokens(out, hook.Status.Token, now)
	if mayBeInUse(hook, 0, now) == nil {
		fmt.Fprintf(out, "`kubectl heymarket rotate %s --finish %s` does that.\n", hook.Name, c.flags())
	}
}

// patch changes fields of a webhook.
func (c *cluster) patch(ctx context.Context, name string, patch []byte) error {
	err := c.webhooks.Patch(types.MergePatchType).Namespace(c.namespace).Resource(webhookResource).Name(name).
		Param("fieldManager", "kubectl-heymarket").Body(patch).Do(ctx).Error()
	if err != nil {
		return c.explain("change HeymarketWebhook "+name, err)
	}
	return nil
}
