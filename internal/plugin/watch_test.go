package plugin

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/spf13/cobra"
)

// On a terminal --watch continues until it is interrupted or fails; elsewhere it shows once, so that a pipe ends.
func TestRepeated(t *testing.T) {
	t.Parallel()
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		out   io.Writer
		watch bool
		at    int // the call that fails; 0: none does
		want  int
		err   error
	}{
		"a terminal, watching":     {terminal{tty}, true, 0, 2, nil},
		"a terminal, not watching": {terminal{tty}, false, 0, 1, nil},
		"a pipe":                   {io.Discard, true, 0, 1, nil},
		"an error at first":        {terminal{tty}, true, 1, 1, broken},
		"an error later":           {terminal{tty}, true, 2, 2, broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			cmd := &cobra.Command{}
			cmd.SetContext(ctx)
			cmd.SetOut(tc.out)
			calls := 0
			err := repeated(cmd, tc.watch, func() error {
				if calls++; calls == 2 {
					interrupt()
				}
				if calls == tc.at {
					return broken
				}
				return nil
			})
			if calls != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("called %d times, %v; want %d, %v", calls, err, tc.want, tc.err)
			}
		})
	}
}
