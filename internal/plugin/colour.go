package plugin

import (
	"io"
	"os"

	"golang.org/x/term"
)

// colour is a text colour or style on a terminal.
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

// screen returns the terminal behind out, to which the plugin may write its own escape sequences; false if out is not a terminal.
// Text written to it must be made printable first.
func screen(out io.Writer) (io.Writer, bool) {
	if guarded, is := out.(terminal); is {
		out = guarded.Writer
	}
	file, is := out.(*os.File)
	return file, is && term.IsTerminal(int(file.Fd()))
}

// coloured returns a writer and a function that colours text, which does nothing unless out is a terminal with colours enabled.
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
