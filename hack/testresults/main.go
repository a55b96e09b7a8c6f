// Command testresults reports what a test run does not show: which tests were skipped, and which of those that stand in the
// sources did not run at all, because a build tag, an early exit or a list of packages left them out.
//
// Usage: testresults ROOT FILE…, where ROOT is the checkout and each FILE holds the events of one run of `go test -json`. It writes a line
// for each finding and ends with status 1 if there is one.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// module is what the import paths of all packages of the checkout begin with.
const module = "heymarket.dev/operator"

// mayBeSkipped are tests that may be left out, by what a run calls them, each with its reason.
var mayBeSkipped = map[string]string{}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: testresults ROOT FILE…")
		os.Exit(2)
	}
	findings, err := examine(os.Args[1], os.Args[2:], mayBeSkipped)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testresults: %v\n", err)
		os.Exit(1)
	}
	for _, f := range findings {
		fmt.Println(f)
	}
	if len(findings) > 0 {
		os.Exit(1)
	}
}

// examine returns a sentence for each test that was skipped without leave or did not run, sorted.
func examine(root string, files []string, maySkip map[string]string) ([]string, error) {
	ran := map[string]bool{}
	var findings []string
	for _, file := range files {
		events, err := read(file)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			name := e.Package + " " + e.Test
			switch e.Action {
			case "pass", "fail":
				ran[name] = true
			case "skip":
				ran[name] = true
				if _, may := maySkip[name]; !may {
					findings = append(findings, name+" was skipped: what cannot run has to fail")
				}
			}
		}
	}
	written, err := tests(root)
	if err != nil {
		return nil, err
	}
	for _, name := range written {
		if !ran[name] {
			findings = append(findings, name+" stands in the sources and did not run")
		}
	}
	slices.Sort(findings)
	return findings, nil
}

type event struct{ Action, Package, Test string }

// read returns the events of tests, those of whole packages left out.
func read(file string) ([]event, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []event
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if e.Test != "" {
			all = append(all, e)
		}
	}
	return all, lines.Err()
}

// tests returns what a run calls the tests and the fuzz targets of all packages in the checkout.
func tests(root string) (names []string, err error) {
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "dist" || strings.HasPrefix(d.Name(), ".") && file != root):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		for _, declared := range parsed.Decls {
			f, ok := declared.(*ast.FuncDecl)
			if ok && f.Recv == nil && f.Name.Name != "TestMain" && (isTest(f.Name.Name, "Test") || isTest(f.Name.Name, "Fuzz")) {
				names = append(names, path.Join(module, filepath.ToSlash(dir))+" "+f.Name.Name)
			}
		}
		return nil
	})
	return names, err
}

// isTest reports whether go test takes a function of this name for a test: the prefix is not followed by a lower-case letter.
func isTest(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && (rest == "" || !('a' <= rest[0] && rest[0] <= 'z'))
}
