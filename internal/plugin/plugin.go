// Package plugin is `kubectl heymarket`: operations on HeymarketWebhooks that kubectl alone does not offer. It acts with the
// rights of its user, and prints no secret except the URL, and that only on request.
package plugin

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Command returns the plugin with all its commands. Errors of Execute are for people: one sentence with the remedy.
func Command(version string) *cobra.Command {
	var to connection
	root := &cobra.Command{
		Use:   "kubectl-heymarket",
		Short: "Inspect and operate HeymarketWebhooks",
		Long: `Inspect and operate HeymarketWebhooks: URLs, state, live events, test events, dead letters.

It uses your own rights in the cluster. status needs to read HeymarketWebhooks; pause, resume, rotate and renew-url also to patch them;
url and send also to read Secrets; dead, tail, stats, console, doctor, and send with --wait or --via pod also to list Pods and to create
pods/portforward. dev needs none. The flags that kubectl has for choosing cluster and user, such as --as and --request-timeout, work
here as well.`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl heymarket"},
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	to.bind(flags)
	flags.BoolVar(&to.dev, "dev", false, "the webhook that kubectl heymarket dev runs on this machine, instead of one in a cluster")
	root.AddCommand(urlCommand(&to), renewURLCommand(&to), statusCommand(&to), deadCommand(&to), sendCommand(&to), tailCommand(&to), statsCommand(&to), devCommand(&to, version), consoleCommand(&to), doctorCommand(&to), pauseCommand(&to), resumeCommand(&to), rotateCommand(&to))
	completeNames(root, &to)
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SetOut(terminal{cmd.OutOrStdout()})
		cmd.SetErr(terminal{cmd.ErrOrStderr()})
		return checkOnce(cmd.Flags())
	}
	rejectUnknown(root)
	guardFlags(root)
	return root
}

// oneNameOrNone is for commands that take the name of a HeymarketWebhook, or apply to all of them.
func oneNameOrNone(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return oneName(cmd, args)
}

// oneName is for commands whose one argument is the name of a HeymarketWebhook.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || strings.TrimSpace(args[0]) == "" {
		return fmt.Errorf("name one HeymarketWebhook, as in `%s support`; `kubectl get hmw` lists them", cmd.CommandPath())
	}
	return nil
}
