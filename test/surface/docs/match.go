package docs

import (
	"regexp"
	"strings"
)

// Wildcard in an expected output stands for anything, line breaks included.
const Wildcard = "…"

// Matches reports whether an output matches the page's: wildcards match anything, and any amount of white space is equal.
func Matches(want, got string) bool {
	var pattern strings.Builder
	pattern.WriteString(`(?s)\A`)
	for i, part := range strings.Split(strings.TrimSpace(want), Wildcard) {
		if i > 0 {
			pattern.WriteString(".*")
		}
		words := strings.Fields(part)
		for j, word := range words {
			words[j] = regexp.QuoteMeta(word)
		}
		text := strings.Join(words, `\s+`)
		if part != strings.TrimLeft(part, " \n\t") {
			text = `\s*` + text
		}
		if part != strings.TrimRight(part, " \n\t") {
			text += `\s*`
		}
		pattern.WriteString(text)
	}
	pattern.WriteString(`\z`)
	return regexp.MustCompile(pattern.String()).MatchString(strings.TrimSpace(got))
}
