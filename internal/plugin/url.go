package plugin

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

func urlCommand(to *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "url NAME",
		Short: "Print the full URL, to be typed into the Heymarket app",
		Long: `Print the full URL, to be typed into the Heymarket app. Its last part is a secret: whoever has it can knock at the receiver,
though without the token nothing comes of it.`,
		Example: "  kubectl heymarket url support --namespace staging",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := to.open()
			if err != nil {
				return err
			}
			address, err := c.url(cmd.Context(), args[0])
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), address)
			}
			return err
		},
	}
}

// url is the full URL of a webhook: a secret.
func (c *cluster) url(ctx context.Context, name string) (string, error) {
	if _, err := c.webhook(ctx, name); err != nil {
		return "", err
	}
	return c.secret(ctx, contract.URLSecretName(name), desired.KeyURL, fmt.Sprintf(
		"the URL is known once the webhook is accepted and its host is; `kubectl heymarket status %s --namespace %s` says what is missing", name, c.namespace))
}
