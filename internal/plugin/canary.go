package plugin

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"heymarket.dev/operator/internal/receiver/admin"
)

// maxCanary bounds --canary: these letters are replayed and watched one by one.
const maxCanary = 100

// canaryFlags make a replay start with a few letters, which the target must accept before the rest follows.
type canaryFlags struct {
	count   int
	timeout time.Duration
}

func (c *canaryFlags) bind(flags *pflag.FlagSet) {
	flags.Var(number{&c.count, 1, maxCanary}, "canary", "replay this many first, and the rest only if the target accepts all of them")
	flags.DurationVar(&c.timeout, "timeout", time.Minute, "with --canary: how long to wait for the target")
}

func (c *canaryFlags) check(which choice, timeoutGiven bool) error {
	switch {
	case c.count == 0 && timeoutGiven:
		return errors.New("--timeout bounds --canary: add --canary, or leave it out")
	case c.count > 0 && which.entry != "":
		return errors.New("--id names one dead letter: leave out --canary")
	case c.count > 0 && which.limit > 0 && which.limit <= c.count:
		return errors.New("--limit leaves nothing for after the canary: raise it, or leave out --canary")
	case c.count > 0 && c.timeout <= 0:
		return errors.New("--timeout is a time such as 30s")
	}
	return nil
}

// tryCanary replays the first letters and waits for the target. It reports whether the rest should follow, and deducts the canary
// from their limit.
func (f *deadFlags) tryCanary(cmd *cobra.Command, of letters) (goOn bool, err error) {
	first := f.which
	first.all, first.limit = false, f.canary.count
	found, err := of.list(cmd.Context(), first)
	if err != nil {
		return false, err
	}
	if len(found) == 0 {
		return false, fmt.Errorf("no dead letter of target %s matches: nothing to replay", of.target)
	}
	from := newFeed(of.place, of.webhook, nil, cmd.ErrOrStderr())
	if _, err := from.history(cmd.Context(), 0); err != nil {
		return false, err
	}
	d := awaited(nil)
	for _, l := range found {
		if _, err := of.replay(cmd.Context(), choice{entry: l.Entry, status: anyStatus}, func(admin.Progress) {}); err != nil {
			return false, err
		}
		d.order, d.targets[l.Event] = append(d.order, l.Event), []string{of.target}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Replayed %s of target %s as a canary.\n", deadLetters(len(found)), of.target)
	d.await(cmd.Context(), from, f.canary.timeout)
	if err := d.show(cmd.OutOrStdout(), f.canary.timeout); err != nil {
		return false, fmt.Errorf("the canary failed, so the rest was not replayed: %w", err)
	}
	if f.which.limit > 0 {
		f.which.limit -= len(found)
	}
	first.limit = 1
	rest, err := of.list(cmd.Context(), first)
	return len(rest) > 0, err
}
