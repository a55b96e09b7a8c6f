package plugin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"heymarket.dev/operator/internal/receiver/admin"
)

func editCommand(to *connection) *cobra.Command {
	target := ""
	cmd := &cobra.Command{
		Use:   "edit NAME ID",
		Short: "Edit the content of one dead letter, and deliver it",
		Long: `Edit the content of one dead letter, which may be personal data, and deliver it under its old event ID. The editor is that of
$KUBE_EDITOR or $EDITOR. Nothing is sent if the content is unchanged or empty. The event's type, webhook and conversation, and the
recipient whose consent it is about, cannot be changed. If the receiver rejects the edited event, the dead letter stays as it was,
and your file is kept.`,
		Example: "  kubectl heymarket dead edit support 1700000000000-0 --target crm",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("name one HeymarketWebhook and the ID of one of its dead letters")
			}
			return oneName(cmd, args[:1])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			which := choice{entry: args[1], status: anyStatus}
			if !entryPattern.MatchString(which.entry) {
				return notAnID(which.entry)
			}
			var before []byte
			if err := withLetters(cmd, to, args[0], target, false, func(cmd *cobra.Command, of []letters) error {
				target = of[0].target
				letter, err := of[0].show(cmd.Context(), which.entry)
				before = []byte(admin.Readable(letter.Body, letter.BodyText) + "\n")
				return err
			}); err != nil {
				return err
			}
			file, after, err := edit(cmd.Context(), before)
			switch {
			case err != nil:
				return err
			case file == "":
				fmt.Fprintln(cmd.OutOrStdout(), "The content is unchanged or empty: nothing was sent.")
				return nil
			}
			which.edited = admin.Edited(string(after))
			if err := withLetters(cmd, to, args[0], target, false, func(cmd *cobra.Command, of []letters) error {
				return replayEdited(cmd, of[0], which)
			}); err != nil {
				return fmt.Errorf("%w\nYour edited event is kept in %s. Correct it, then run\n  kubectl heymarket dead replay %s --target %s --id %s --file %s", err, file, args[0], target, which.entry, file)
			}
			return os.Remove(file)
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "name of the target; optional if the webhook has only one")
	return cmd
}

func notAnID(id string) error {
	return fmt.Errorf("%q is not the ID of a dead letter, such as 1700000000000-0; `kubectl heymarket dead list` prints them", id)
}

func replayEdited(cmd *cobra.Command, of letters, which choice) error {
	done, err := of.replay(cmd.Context(), which, func(admin.Progress) {})
	return report(cmd, verb{"replay", "Replay", "Replayed"}, of.target, done.Replayed, done.Skipped, err)
}

// edit lets the person edit a text in a file that only they can read. It returns the file and its text if that was changed;
// otherwise the file is gone and its name empty.
func edit(ctx context.Context, text []byte) (file string, edited []byte, err error) {
	temporary, err := os.CreateTemp("", "heymarket-*.json") // mode 0600
	if err != nil {
		return "", nil, err
	}
	file = temporary.Name()
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Close()); err == nil {
		command := editor(ctx, file)
		command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err = command.Run(); err != nil {
			err = fmt.Errorf("the editor failed: %w; set KUBE_EDITOR to another one", err)
		}
	}
	edited, unread := os.ReadFile(file)
	err = errors.Join(err, unread)
	if err != nil || bytes.Equal(edited, text) || len(bytes.TrimSpace(edited)) == 0 {
		return "", nil, errors.Join(err, os.Remove(file))
	}
	return file, edited, nil
}

// editor runs the user's editor on a file. Its variable may contain arguments. While it runs, Ctrl-C goes to the editor.
func editor(ctx context.Context, file string) *exec.Cmd {
	ctx = context.WithoutCancel(ctx)
	chosen := cmp.Or(os.Getenv("KUBE_EDITOR"), os.Getenv("EDITOR"))
	if runtime.GOOS == "windows" {
		return exec.CommandContext(ctx, "cmd", "/C", cmp.Or(chosen, "notepad")+" "+file) //nolint:gosec // the person's own editor
	}
	return exec.CommandContext(ctx, "sh", "-c", cmp.Or(chosen, "vi")+` "$1"`, "sh", file) //nolint:gosec // the person's own editor
}
