package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A mistake that a test notices is killed, one that no test notices lives, and a place that no test runs is reported separately.
func TestMutants(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26\n",
		"p/p.go": `package p

import "time"

func Grown(age int, d time.Duration) bool {
	if age < 0 && !odd(age) {
		return false
	}
	switch {
	case age >= 18, odd(age) && d+time.Second > time.Hour:
		return true
	}
	return false
}

func odd(n int) bool { return n%2 == 1 }

func Unrun(n int) int {
	n += 2
	return n * 3
}
`,
		"p/p_test.go": `package p

import "testing"

func TestGrown(t *testing.T) {
	if !Grown(18, 0) || Grown(16, 0) {
		t.Error("18 is grown, and 16 is not")
	}
}
`,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := try(t.Context(), root, "p", time.Minute, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if r.tried != r.all || r.all < 12 || r.killed < 3 || r.unseen != 5 || r.killed+r.unseen >= r.tried {
		t.Errorf("%+v", r)
	}

	// The page keeps what stands around its table, and one row for each package.
	for _, args := range [][]string{{"init", "-q"}, {"-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "x"}} {
		if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", root}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	page := filepath.Join(root, "page.md")
	if err := os.WriteFile(page, []byte("# Head\n\n| package |\n|---|\n\nTail\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []result{{pkg: "q", all: 2, tried: 2, killed: 1}, {pkg: "p", all: 3, tried: 1}, {pkg: "q", all: 2, tried: 2, killed: 2}} {
		if err := write(t.Context(), page, root, row); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 8 || !strings.HasPrefix(lines[4], "| `p` | 3 | 1 | 0 | 1 | 0.0 %") || !strings.HasPrefix(lines[5], "| `q` | 2 | 2 | 2 | 0 | 100.0 %") || lines[7] != "Tail" {
		t.Errorf("the page is\n%s", text)
	}
}
