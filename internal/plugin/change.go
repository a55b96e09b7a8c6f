package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"heymarket.dev/operator/internal/receiver/admin"
)

// verb names a replay or discard.
type verb struct{ plain, capital, past string }

type changeLetters func(context.Context, choice, func(admin.Progress)) (admin.Progress, error)

// change replays or discards, and prints the counts even after an error.
func (f *deadFlags) change(cmd *cobra.Command, of letters, v verb, do changeLetters, taken func(admin.Progress) int) error {
	if f.which.all && !f.yes && isTerminal(cmd.InOrStdin()) {
		count, err := of.count(cmd.Context())
		if err != nil {
			return err
		}
		question := fmt.Sprintf("%s all %s of target %s?", v.capital, deadLetters(count), of.target)
		if err := confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), question); err != nil {
			return err
		}
	}
	done, err := do(cmd.Context(), f.which, func(p admin.Progress) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s %s so far.\n", v.past, deadLetters(taken(p)))
	})
	return report(cmd, v, of.target, taken(done), done.Skipped, err)
}

func report(cmd *cobra.Command, v verb, target string, taken, skipped int, err error) error {
	if taken > 0 || err == nil && skipped > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s of target %s.\n", v.past, deadLetters(taken), target)
	}
	switch {
	case err != nil:
		return err
	case skipped > 0:
		return fmt.Errorf("%s cannot be replayed because Redis holds no complete event of them: discard them by --id", deadLetters(skipped))
	case taken == 0:
		return fmt.Errorf("no dead letter of target %s matches: nothing to %s", target, v.plain)
	}
	return nil
}

func deadLetters(n int) string {
	if n == 1 {
		return "1 dead letter"
	}
	return fmt.Sprintf("%d dead letters", n)
}

// isTerminal reports whether in is a terminal, where a person can answer a question.
func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// confirm asks a question, and returns an error unless the answer is yes.
func confirm(in io.Reader, out io.Writer, question string) error {
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}
