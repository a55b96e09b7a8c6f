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

// completeName completes the first argument by the names of the HeymarketWebhooks in the place that is meant.
func completeName(to *connection) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return to.ask(cmd, names)
	}
}

// completeTarget completes a flag by the names of the targets of the webhook that is the first argument.
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

// completeType completes by the types of events.
func completeType(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return event.Types(), cobra.ShellCompDirectiveNoFileComp
}

// ask returns what f does, or nothing: a shell has no place for an error.
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

// completeNames makes every command that takes a NAME complete it, and every flag that takes a target or a type.
func completeNames(cmd *cobra.Command, to *connection) {
	for _, sub := range cmd.Commands() {
		completeNames(sub, to)
		if sub.Runnable() && sub.ValidArgsFunction == nil && sub.Flags().Lookup("filename") == nil {
			sub.ValidArgsFunction = completeName(to)
		}
		for flag, by := range map[string]completion{"target": completeTarget(to), "type": completeType} {
			if sub.Flags().Lookup(flag) != nil {
				_ = sub.RegisterFlagCompletionFunc(flag, by) // it fails where there is one already
			}
		}
	}
}
