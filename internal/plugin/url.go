package plugin

import (
	"context"
	"fmt"

	"github.com/atotto/clipboard"
	"github.com/spf13/cobra"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

func urlCommand(to *connection) *cobra.Command {
	toClipboard := false
	cmd := &cobra.Command{
		Use:   "url NAME",
		Short: "Print the full URL to enter in the Heymarket app",
		Long: `Print the full URL to enter in the Heymarket app. Its last part is a secret: anyone with the URL can reach the receiver, but events
are accepted only with the token.`,
		Example: `  kubectl heymarket url support --namespace staging
  kubectl heymarket url support --copy`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := to.open()
			if err != nil {
				return err
			}
			address, err := c.url(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case !toClipboard:
				fmt.Fprintln(cmd.OutOrStdout(), address)
				return nil
			}
			if err := clipboard.WriteAll(address); err != nil {
				return fmt.Errorf("copy the URL: %w; on Linux this needs xclip, xsel or wl-copy, and a graphical session", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The URL of %s is in the clipboard.\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&toClipboard, "copy", false, "copy the URL to the clipboard instead of printing it")
	return cmd
}

// url returns the full URL of a webhook: a secret.
func (c *cluster) url(ctx context.Context, name string) (string, error) {
	if _, err := c.webhook(ctx, name); err != nil {
		return "", err
	}
	return c.secret(ctx, contract.URLSecretName(name), desired.KeyURL, fmt.Sprintf(
		"the URL is available once the webhook is accepted and its host is known; `kubectl heymarket status %s --namespace %s` shows what is missing", name, c.namespace))
}
