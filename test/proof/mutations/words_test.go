package mutations

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// word returns a string of a language that a regular expression describes, a short one more often than not.
func word(r *rand.Rand, expression string) (string, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("the schema's pattern %q: %w", expression, err)
	}
	var b strings.Builder
	spell(r, &b, parsed.Simplify())
	return b.String(), nil
}

func spell(r *rand.Rand, b *strings.Builder, e *syntax.Regexp) {
	switch e.Op {
	case syntax.OpLiteral:
		b.WriteString(string(e.Rune))
	case syntax.OpCharClass:
		b.WriteRune(letter(r, e.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteRune(rune('a' + r.IntN(26)))
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range e.Sub {
			spell(r, b, sub)
		}
	case syntax.OpAlternate:
		spell(r, b, e.Sub[r.IntN(len(e.Sub))])
	case syntax.OpQuest:
		if r.IntN(3) == 0 {
			spell(r, b, e.Sub[0])
		}
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		n := e.Min
		if e.Op == syntax.OpPlus {
			n = 1
		}
		for r.IntN(2) == 0 && (e.Op != syntax.OpRepeat || e.Max < 0 || n < e.Max) && n < 8 {
			n++
		}
		for range n {
			spell(r, b, e.Sub[0])
		}
	}
}

// letter prefers letters and digits that a person would type, and few different ones, so that names meet each other.
func letter(r *rand.Rand, ranges []rune) rune {
	if r.IntN(4) > 0 {
		for _, c := range []rune{rune('a' + r.IntN(3)), rune('1' + r.IntN(3))} {
			if inRanges(ranges, c) {
				return c
			}
		}
	}
	i := 2 * r.IntN(len(ranges)/2)
	lo, hi := ranges[i], min(ranges[i+1], utf8.MaxRune)
	c := lo + r.Int32N(min(hi-lo+1, 64))
	if !utf8.ValidRune(c) {
		return lo
	}
	return c
}

func inRanges(ranges []rune, c rune) bool {
	for i := 0; i < len(ranges); i += 2 {
		if ranges[i] <= c && c <= ranges[i+1] {
			return true
		}
	}
	return false
}

var (
	// matchesRule finds the pattern in a rule such as self.matches('…') or self.all(k, k.matches('…')).
	matchesRule = regexp.MustCompile(`(?:^|[^!\w])(?:self|k)\.matches\('((?:[^'\\]|\\.)*)'\)`)
	// durationRule finds the bounds in duration(self) >= duration('1m') && duration(self) <= duration('720h'); the first may
	// be missing.
	durationRule = regexp.MustCompile(`^(?:duration\(self\) >= duration\('(\w+)'\) && )?duration\(self\) <= duration\('(\w+)'\)$`)
)

// pattern is the one that a string, or the keys of a map, must match: OpenAPI's, or that of a rule.
func pattern(s *apiextensionsv1.JSONSchemaProps) string {
	if s.Pattern != "" {
		return s.Pattern
	}
	for _, v := range s.XValidations {
		if m := matchesRule.FindStringSubmatch(v.Rule); m != nil {
			if unquoted, err := strconv.Unquote(`"` + strings.ReplaceAll(m[1], `"`, `\"`) + `"`); err == nil {
				return unquoted
			}
			return strings.ReplaceAll(m[1], `\\`, `\`)
		}
	}
	return ""
}

// durations are the bounds of a string that is a duration.
func durations(s *apiextensionsv1.JSONSchemaProps) (lo, hi time.Duration, ok bool) {
	for _, v := range s.XValidations {
		if m := durationRule.FindStringSubmatch(v.Rule); m != nil {
			lo, err := time.ParseDuration(cmp.Or(m[1], "0s"))
			hi, err2 := time.ParseDuration(m[2])
			return lo, hi, err == nil && err2 == nil
		}
	}
	return 0, 0, false
}
