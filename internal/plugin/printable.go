package plugin

import (
	"io"
	"strings"
	"unicode/utf8"
)

// terminal removes terminal control sequences from text: escape sequences and other control characters, including those
// that change the text direction. The plugin prints text from targets, senders and other people's resources.
type terminal struct{ io.Writer }

// Write implements io.Writer.
func (t terminal) Write(p []byte) (int, error) {
	if _, err := io.WriteString(t.Writer, strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return printableRune(r)
	}, string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// printable returns untrusted text in one line.
func printable(text string) string { return strings.Map(printableRune, text) }

// Printable returns an error in one line, without terminal control sequences.
func Printable(err error) string { return printable(err.Error()) }

func printableRune(r rune) rune {
	switch {
	case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0, r == 0x2028, r == 0x2029:
		return ' '
	case r == utf8.RuneError, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return utf8.RuneError
	}
	return r
}
