package docs

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/reference/conditions.md instead of comparing it")

const conditionsBegin = "<!-- What follows is made of the comments in api/v1alpha1/conditions.go by `make generate`. -->\n"

// TestConditions compares the page on conditions and reasons with the constants from which it is generated.
func TestConditions(t *testing.T) {
	t.Parallel()
	root, _ := pages(t)
	path := filepath.Join(root, "docs", "reference", "conditions.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(page), conditionsBegin)
	if !ok {
		t.Fatalf("docs/reference/conditions.md lacks the line %q", conditionsBegin)
	}
	tables, err := conditionTables(filepath.Join(root, "api", "v1alpha1", "conditions.go"))
	if err != nil {
		t.Fatal(err)
	}
	want := before + conditionsBegin + tables
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("docs/reference/conditions.md is stale; `make generate` writes it (-conditions.go +page):\n%s", diff)
	}
}

// conditionTables is a table for each group of constants: their values, and their comments without their names.
func conditionTables(path string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return "", err
	}
	type constant struct{ name, value, comment string }
	type group struct {
		comment string
		all     []constant
	}
	var groups []group
	values := map[string]string{}
	for _, declaration := range file.Decls {
		block, ok := declaration.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		g := group{comment: words(block.Doc)}
		for _, spec := range block.Specs {
			c := spec.(*ast.ValueSpec)
			value, err := strconv.Unquote(c.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				return "", err
			}
			comment := words(c.Doc)
			if !block.Lparen.IsValid() { // a constant alone has its comment on the declaration
				comment = g.comment
			}
			values[c.Names[0].Name] = value
			g.all = append(g.all, constant{c.Names[0].Name, value, comment})
		}
		if !block.Lparen.IsValid() {
			g.comment = "The reason of " + "ConditionReady when all is well."
		}
		groups = append(groups, g)
	}
	// Names of constants stand for their values.
	plain := func(text string) string {
		return regexp.MustCompile(`\b(Condition|Reason|Event)[A-Z]\w+`).ReplaceAllStringFunc(text, func(name string) string {
			if value, ok := values[name]; ok {
				return "`" + value + "`"
			}
			return name
		})
	}
	var out strings.Builder
	for _, g := range groups {
		heading, rest, _ := strings.Cut(g.comment, ". ")
		fmt.Fprintf(&out, "\n## %s\n\n", strings.TrimSuffix(plain(heading), "."))
		if rest != "" {
			fmt.Fprintf(&out, "%s\n\n", plain(rest))
		}
		out.WriteString("| name | meaning |\n|---|---|\n")
		for _, c := range g.all {
			comment := strings.TrimPrefix(c.comment, c.name)
			comment = strings.TrimSpace(strings.TrimPrefix(comment, ":"))
			if first, _, _ := strings.Cut(comment, " "); !strings.Contains(first, ".") { // else it is the path of a field
				comment = strings.ToUpper(comment[:1]) + comment[1:]
			}
			fmt.Fprintf(&out, "| `%s` | %s |\n", c.value, plain(comment))
		}
	}
	return out.String(), nil
}

// words is a comment on one line.
func words(comment *ast.CommentGroup) string {
	return strings.Join(strings.Fields(comment.Text()), " ")
}
