package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"heymarket.dev/operator/api/v1alpha1"
)

func renewURLCommand(to *connection) *cobra.Command {
	var leaked, yes bool
	cmd := &cobra.Command{
		Use:   "renew-url NAME",
		Short: "Replace the secret part of the URL",
		Long: `Replace the secret part of the URL, by raising spec.exposure.urlRevision. The previous URL stays valid for
spec.exposure.previousURLFor, a week by default, so that you have time to enter the new one in the Heymarket app. With --leaked the
previous URL is rejected within about a minute, and so is every event until the new one is entered.`,
		Example: `  kubectl heymarket renew-url support
  kubectl heymarket renew-url support --leaked`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := to.openToChange()
			if err != nil {
				return err
			}
			hook, err := c.webhook(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if leaked && !yes {
				if !isTerminal(cmd.InOrStdin()) {
					return errors.New("--leaked rejects events until the new URL is entered in the Heymarket app: add --yes to confirm")
				}
				if err := confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), "Reject events at the previous URL of "+hook.Name+" from now on?"); err != nil {
					return err
				}
			}
			if err := c.renewURL(cmd.Context(), hook, leaked); err != nil {
				return err
			}
			previous := "the previous one is accepted for " + string(hook.Spec.Exposure.PreviousURLFor)
			if leaked {
				previous = "the previous one is rejected within about a minute. Set spec.exposure.previousURLFor back afterwards"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s gets a new URL; %s.\n"+
				"Copy it into the Heymarket app: `kubectl heymarket url %[1]s %[3]s`. If the resource is kept in Git, set spec.exposure.urlRevision: %[4]d there too.\n",
				hook.Name, previous, c.flags(), hook.Spec.Exposure.URLRevision+1)
			return nil
		},
	}
	cmd.Flags().BoolVar(&leaked, "leaked", false, "reject the previous URL at once, because others know it")
	cmd.Flags().BoolVar(&yes, "yes", false, "with --leaked: do not ask")
	return cmd
}

// renewURL increments the revision, unless the resource has changed since it was read: two people who renew at the same
// time renew once.
func (c *cluster) renewURL(ctx context.Context, hook *v1alpha1.HeymarketWebhook, leaked bool) error {
	exposure := fmt.Sprintf(`"urlRevision":%d`, hook.Spec.Exposure.URLRevision+1)
	if leaked {
		exposure += `,"previousURLFor":"0s"`
	}
	return c.patch(ctx, hook.Name, fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q},"spec":{"exposure":{%s}}}`, hook.ResourceVersion, exposure))
}
