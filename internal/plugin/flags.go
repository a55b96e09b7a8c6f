package plugin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// given guards the value of a flag. An empty value, as from an unset shell variable, must not mean the same as a missing flag:
// for the commands that replay and discard, that would mean everything.
type given struct {
	pflag.Value
	times      int
	repeatable bool
}

// Set implements pflag.Value.
func (g *given) Set(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return errors.New("it is empty: give it a value or leave it out")
	case strings.TrimSpace(text) != text:
		return errors.New("it begins or ends with white space")
	}
	g.times++
	return g.Value.Set(text)
}

// checkOnce returns an error for a flag that is given more than once. It is not part of Set, because completion parses a command
// line twice.
func checkOnce(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if g, ok := f.Value.(*given); ok && g.times > 1 && !g.repeatable {
			err = fmt.Errorf("--%s is given %d times: give it once", f.Name, g.times)
		}
	})
	return err
}

// guardFlags guards every flag of a command and of those below it.
func guardFlags(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	for _, flags := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
		flags.VisitAll(func(f *pflag.Flag) {
			if _, guarded := f.Value.(*given); !guarded && !(f.Name == "text" && cmd.Name() == "send") { // any text is valid
				f.Value = &given{Value: f.Value, repeatable: f.Value.Type() == "stringArray"}
			}
		})
	}
	for _, sub := range cmd.Commands() {
		guardFlags(sub)
	}
}

// number is a flag with bounds.
type number struct {
	value    *int
	min, max int
}

// Set implements pflag.Value.
func (n number) Set(text string) error {
	v, err := strconv.Atoi(text)
	if err != nil || v < n.min || v > n.max {
		return fmt.Errorf("it must be a number from %d to %d", n.min, n.max)
	}
	*n.value = v
	return nil
}

// String implements pflag.Value. No default is shown: without these flags there is no bound.
func (n number) String() string { return "" }

// Type implements pflag.Value.
func (n number) Type() string { return "int" }

// moment is a flag that is a time, or a duration before now.
type moment struct{ at *time.Time }

// Set implements pflag.Value.
func (m moment) Set(text string) error {
	at, err := time.Parse(time.RFC3339, text)
	if ago, notAgo := time.ParseDuration(text); notAgo == nil && ago >= 0 {
		at, err = time.Now().Add(-ago), nil
	}
	if err != nil || at.Unix() < 0 { // the zero time would mean that the flag is missing
		return errors.New("it must be a duration such as 2h, or a time from 1970 such as 2026-11-21T12:00:00Z")
	}
	*m.at = at
	return nil
}

// String implements pflag.Value.
func (m moment) String() string { return "" }

// Type implements pflag.Value.
func (m moment) Type() string { return "time" }

// rejectUnknown makes a command that only groups others fail for an unknown subcommand, suggesting the nearest one. Cobra would
// print its help and succeed.
func rejectUnknown(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		rejectUnknown(sub)
	}
	if cmd.Runnable() {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}
}

func unknownCommand(under *cobra.Command, name string) error {
	message := fmt.Sprintf("unknown command %q for %q", name, under.CommandPath())
	if near := under.SuggestionsFor(name); len(near) > 0 {
		return fmt.Errorf("%s: did you mean %s?", message, strings.Join(near, " or "))
	}
	return fmt.Errorf("%s: see `%s --help`", message, under.CommandPath())
}

// helpCommand is cobra's, except that an unknown topic is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			of := cmd.Root()
			for _, name := range args {
				var next *cobra.Command
				for _, sub := range of.Commands() {
					if sub.Name() == name {
						next = sub
					}
				}
				if next == nil {
					return unknownCommand(of, name)
				}
				of = next
			}
			return of.Help()
		},
	}
}
