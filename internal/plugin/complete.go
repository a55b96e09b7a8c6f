package plugin

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"heymarket.dev/operator/internal/receiver/event"
)

// completionTime bounds how long a shell waits for names.
const completionTime = 3 * time.Second

type completion = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// completeName completes the first argument with the names of the HeymarketWebhooks in the selected place.
func completeName(to *connection) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return to.ask(cmd, names)
	}
}

// completeTarget completes a flag with the names of the targets of the webhook in the first argument.
func completeTarget(to *connection) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return to.ask(cmd, func(ctx context.Context, c place) (names []string, err error) {
			hook, err := c.webhook(ctx, args[0])
			if err != nil {
				return nil, err
			}
			for _, t := range hook.Spec.Targets {
				names = append(names, t.Name)
			}
			return names, nil
		})
	}
}

// completeType completes event types.
func completeType(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return event.Types(), cobra.ShellCompDirectiveNoFileComp
}

// ask returns the result of f, or nothing after an error, which a shell cannot show.
func (c *connection) ask(cmd *cobra.Command, f func(context.Context, place) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	found, err := c.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, err := f(ctx, found)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNames adds completion to every command that takes a NAME, and every flag that takes a target or a
// type.
func completeNames(cmd *cobra.Command, to *connection) {
	for _, sub := range cmd.Commands() {
		completeNames(sub, to)
		if sub.Runnable() && sub.ValidArgsFunction == nil && sub.Flags().Lookup("filename") == nil {
			sub.ValidArgsFunction = completeName(to)
		}
		for flag, by := range map[string]completion{"target": completeTarget(to), "type": completeType} {
			if sub.Flags().Lookup(flag) != nil {
				_ = sub.RegisterFlagCompletionFunc(flag, by) // it fails if there is one already
			}
		}
	}
}
