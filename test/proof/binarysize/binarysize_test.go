// Package binarysize looks at what the linker puts into the binaries.
package binarysize

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/testenv"
)

// Code that looks up methods by a name that is known only at run time, such as text/template, makes the linker keep every exported method of every type: the
// manager was 60 MB with it and is 39 MB without. The plugin is not among them: its console is rendered by html/template.
func TestNoMethodIsCalledByName(t *testing.T) {
	t.Parallel()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"manager", "receiver"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			var dump bytes.Buffer
			build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-dumpdep", "-o", filepath.Join(t.TempDir(), command), "./cmd/"+command)
			build.Dir = root                                  // with the dependencies of the product, not with those of its tests
			build.Env = append(os.Environ(), "CGO_ENABLED=0") // as they are released, and compiled already
			build.Stderr = &dump
			if err := build.Run(); err != nil {
				t.Fatalf("build %s: %v\n%s", command, err, dump.Bytes())
			}
			if !bytes.Contains(dump.Bytes(), []byte("main.main -> ")) {
				t.Fatalf("the linker does not say what main.main needs, so that what it says cannot be relied on:\n%.300s", dump.Bytes())
			}
			for lines := bufio.NewScanner(&dump); lines.Scan(); {
				if from, to, _ := strings.Cut(lines.Text(), " -> "); strings.HasSuffix(to, " <ReflectMethod>") {
					t.Errorf("%s needs %s", from, strings.TrimSuffix(to, " <ReflectMethod>"))
				}
			}
		})
	}
}
