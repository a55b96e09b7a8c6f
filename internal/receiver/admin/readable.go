package admin

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// Readable is the body of a Letter or Content as people read it: indented, unless deep nesting would make the indentation grow by
// the square of its depth.
func Readable(body jsontext.Value, text string) string {
	const deepest = 32
	if len(body) == 0 {
		return text
	}
	depth, deep := 0, 0
	for _, b := range body { // brackets in strings count as well, which is harmless
		switch b {
		case '{', '[':
			depth++
			deep = max(deep, depth)
		case '}', ']':
			depth--
		}
	}
	indented := slices.Clone(body)
	if deep > deepest || indented.Indent(jsontext.WithIndent("  "), anyText) != nil {
		return string(body)
	}
	return string(indented)
}

// Edited is what a person has made of a Readable body, without the white space between its tokens. What is not JSON is returned
// as it is: the receiver says what is wrong with it.
func Edited(text string) []byte {
	body := jsontext.Value(text)
	if body.Compact(anyText) != nil {
		return []byte(text)
	}
	return body
}
