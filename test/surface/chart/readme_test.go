package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const (
	tableBegin = "<!-- Between these two lines is what `make generate` makes of values.yaml. -->\n"
	tableEnd   = "<!-- The end of the values. -->\n"
)

// The README's tables are those of values.yaml: its comments, names and defaults.
func TestReadme(t *testing.T) {
	t.Parallel()
	path := filepath.Join(chartDir, "README.md")
	text := file(t, path)
	before, rest, found := strings.Cut(text, tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		t.Fatalf("%s lacks the line %q or %q", path, tableBegin, tableEnd)
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	var tables strings.Builder
	first := document.Content[0].Content[0]
	first.HeadComment = document.HeadComment + "\n\n" + first.HeadComment // the parser takes what stands at the top for the file's
	rows(t, &tables, "", document.Content[0])
	want := before + tableBegin + tables.String() + "\n" + tableEnd + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("%s is stale; `make generate` writes it (-values.yaml +README.md):\n%s", path, diff)
	}
}

// rows writes a row for every value below a mapping. A mapping whose members have no comments is a value itself.
func rows(t *testing.T, out *strings.Builder, path string, mapping *yaml.Node) {
	t.Helper()
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		section, comment := comments(key.HeadComment)
		if path == "" && section != "" {
			heading, text, _ := strings.Cut(section, ": ")
			fmt.Fprintf(out, "\n### %s\n\n", strings.TrimSuffix(heading, "."))
			if text != "" {
				fmt.Fprintf(out, "%s%s\n\n", strings.ToUpper(text[:1]), text[1:])
			}
			out.WriteString("| value | default | meaning |\n|---|---|---|\n")
		}
		name := path + key.Value
		if value.Kind == yaml.MappingNode && commented(value) {
			if comment != "" { // it is about all of them
				fmt.Fprintf(out, "| `%s` | | %s |\n", name, comment)
			}
			rows(t, out, name+".", value)
			continue
		}
		if comment == "" {
			t.Errorf("values.yaml: %s has no comment", name)
		}
		fmt.Fprintf(out, "| `%s` | `%s` | %s |\n", name, inline(t, value), strings.ReplaceAll(comment, "|", `\|`))
	}
}

// comments separates the heading of a section, which begins with "--", from the description of the value.
func comments(head string) (section, comment string) {
	for paragraph := range strings.SplitSeq(strings.ReplaceAll(head, "\n#\n", "\n\n"), "\n\n") {
		var words []string
		for line := range strings.Lines(paragraph) {
			words = append(words, strings.Fields(strings.TrimPrefix(line, "#"))...)
		}
		joined := strings.Join(words, " ")
		if heading, ok := strings.CutPrefix(joined, "-- "); ok {
			section = heading
		} else if joined != "" && !strings.HasPrefix(joined, "Every value of the chart") {
			comment = joined
		}
	}
	return section, comment
}

func commented(mapping *yaml.Node) bool {
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].HeadComment != "" || mapping.Content[i+1].Kind == yaml.MappingNode && commented(mapping.Content[i+1]) {
			return true
		}
	}
	return false
}

// inline is a value on one line.
func inline(t *testing.T, value *yaml.Node) string {
	t.Helper()
	flat := *value
	flat.HeadComment, flat.LineComment, flat.FootComment = "", "", ""
	var flatten func(n *yaml.Node)
	flatten = func(n *yaml.Node) {
		n.Style |= yaml.FlowStyle
		for _, c := range n.Content {
			flatten(c)
		}
	}
	if flat.Kind != yaml.ScalarNode {
		flatten(&flat)
	}
	text, err := yaml.Marshal(&flat)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
