package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/testenv"
)

func TestMain(m *testing.M) { apiservertest.Main(m) }

func pages(t *testing.T) (root string, all []Page) {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	all, err = Read(root)
	if err != nil {
		t.Fatal(err)
	}
	return root, all
}

// languages that a block may have. What is not sh, text or yaml is tested elsewhere, or speaks for itself.
var languages = []string{"", "sh", "text", "yaml", "json", "go", "typescript", "python"}

// shellCommand finds a command where it would not be run.
var shellCommand = regexp.MustCompile(`(?m)^\s*(\$ |(sudo )?(kubectl|helm|make|curl|docker|go|git|redis-cli) )`)

// TestEveryCommandIsRunOrSaysWhyNot checks that every command is executed by test/e2e or gives a reason.
func TestEveryCommandIsRunOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	_, all := pages(t)
	run, marked := 0, 0
	for _, page := range all {
		for i, b := range page.Blocks {
			where := page.Where(b)
			switch {
			case !b.Fenced:
				t.Errorf("%s: indented code: fence it, with its language", where)
			case !slices.Contains(languages, b.Language):
				t.Errorf("%s: language %q: write one of %q", where, b.Language, languages)
			case b.Language != "sh" && b.Language != "text" && b.Language != "go" && shellCommand.MatchString(b.Text):
				t.Errorf("%s: holds a command: fence it with sh, so that it is executed, or marked as one that is not", where)
			case b.NotRun != "" && b.Language != "sh" && b.Language != "yaml":
				t.Errorf("%s: marked as not run, and there is nothing to run", where)
			case b.Retried && b.Language != "sh":
				t.Errorf("%s: marked as retried, and it has no commands", where)
			case b.Language == "text" && (i == 0 || page.Blocks[i-1].Language != "sh"):
				t.Errorf("%s: is the output of no commands; a block that is none has no language", where)
			case b.Language == "sh" && b.NotRun == "":
				run++
			case b.Language == "sh":
				marked++
			}
		}
	}
	t.Logf("%d blocks of commands are executed by test/e2e, %d say why not", run, marked)
	if run == 0 {
		t.Error("nothing is executed")
	}
}

// TestLinks checks every link within the repository.
func TestLinks(t *testing.T) {
	t.Parallel()
	root, all := pages(t)
	anchors := map[string][]string{}
	for _, page := range all {
		anchors[page.Path] = page.Anchors
	}
	for _, page := range all {
		for _, link := range page.Links {
			if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
				continue
			}
			path, anchor, _ := strings.Cut(link, "#")
			to := page.Path
			if path != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(page.Path), path))
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: %s leads nowhere", page.Path, link)
			} else if known, ok := anchors[to]; ok && anchor != "" && !slices.Contains(known, anchor) {
				t.Errorf("%s: %s has no heading of that name", page.Path, link)
			}
		}
	}
}

// TestEveryPageIsInTheIndex keeps docs/README.md complete.
func TestEveryPageIsInTheIndex(t *testing.T) {
	t.Parallel()
	_, all := pages(t)
	index := all[slices.IndexFunc(all, func(p Page) bool { return p.Path == "docs/README.md" })]
	for _, page := range all {
		name, below := strings.CutPrefix(page.Path, "docs/")
		if below && page.Path != index.Path && !slices.Contains(index.Links, name) {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}
