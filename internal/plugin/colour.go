package plugin

import (
	"io"
	"os"

	"golang.org/x/term"
)

// colour is a way to show text on a terminal.
type colour string

const (
	plain  colour = ""
	green  colour = "\x1b[32m"
	yellow colour = "\x1b[33m"
	red    colour = "\x1b[31m"
	dim    colour = "\x1b[2m"

	endColour   = "\x1b[0m"
	clearScreen = "\x1b[H\x1b[2J"
)

// screen is the terminal that out leads to, on which escape sequences of the plugin itself have an effect; false where it leads elsewhere. What
// is written to it must be made printable before.
func screen(out io.Writer) (io.Writer, bool) {
	if guarded, is := out.(terminal); is {
		out = guarded.Writer
	}
	file, is := out.(*os.File)
	return file, is && term.IsTerminal(int(file.Fd()))
}

// coloured returns a writer and what makes text of a colour: nothing unless out is a terminal on which a person wants colours.
func coloured(out io.Writer) (io.Writer, func(colour, string) string) {
	to, is := screen(out)
	if !is || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return out, func(_ colour, text string) string { return text }
	}
	return to, func(c colour, text string) string {
		if c == plain {
			return text
		}
		return string(c) + text + endColour
	}
}
