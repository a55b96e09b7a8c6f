package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func pauseCommand(to *connection) *cobra.Command {
	return to.setPaused(&cobra.Command{
		Use:   "pause NAME",
		Short: "Stop deliveries: events are accepted and stored until resume",
		Long: `Stop deliveries, by spec.paused: events are accepted and stored, and delivered after resume. The backlog of a target is bounded;
at its bound, Heymarket gets 429 and sends again later.`,
		Example: "  kubectl heymarket pause support",
	}, true, "%[1]s is paused: events are stored, and delivered after `kubectl heymarket resume %[1]s %[2]s`.\n")
}

func resumeCommand(to *connection) *cobra.Command {
	return to.setPaused(&cobra.Command{
		Use:     "resume NAME",
		Short:   "Deliver again what was stored since pause",
		Example: "  kubectl heymarket resume support",
	}, false, "%[1]s is resumed: stored events are being delivered; `kubectl heymarket status %[1]s %[2]s` shows the backlog.\n")
}

// setPaused completes a command that sets spec.paused.
func (c *connection) setPaused(cmd *cobra.Command, paused bool, done string) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = oneName, completeName(c)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if c.dev {
			return errors.New("this changes a resource in a cluster: leave out --dev, or edit spec.paused in the manifest and start dev again")
		}
		cluster, err := c.openCluster()
		if err != nil {
			return err
		}
		if err := cluster.setPaused(cmd.Context(), args[0], paused); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), done, args[0], cluster.flags())
		return nil
	}
	return cmd
}

func (c *cluster) setPaused(ctx context.Context, name string, paused bool) error {
	if _, err := c.webhook(ctx, name); err != nil {
		return err
	}
	return c.patch(ctx, name, fmt.Appendf(nil, `{"spec":{"paused":%t}}`, paused))
}
