package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestExamine(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("api/a_test.go", "package api\n\nfunc TestMain() {}\nfunc TestRuns() {}\nfunc TestSkipped() {}\nfunc TestMaySkip() {}\nfunc Testing() {}\nfunc FuzzRuns() {}\n")
	write("test/e2e/b_test.go", "//go:build e2e\n\npackage e2e\n\nfunc TestVanished() {}\nfunc (s) TestMethod() {}\n")
	write("api/testdata/c_test.go", "not Go")
	results := write("results.json", `{"Action":"start","Package":"heymarket.dev/operator/api"}
{"Action":"pass","Package":"heymarket.dev/operator/api","Test":"TestRuns"}
{"Action":"pass","Package":"heymarket.dev/operator/api","Test":"FuzzRuns"}
{"Action":"skip","Package":"heymarket.dev/operator/api","Test":"TestSkipped"}
{"Action":"skip","Package":"heymarket.dev/operator/api","Test":"TestRuns/one"}
{"Action":"skip","Package":"heymarket.dev/operator/api","Test":"TestMaySkip"}
{"Action":"pass","Package":"heymarket.dev/operator/api"}
`)
	got, err := examine(root, []string{results}, map[string]string{"heymarket.dev/operator/api TestMaySkip": "a reason"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"heymarket.dev/operator/api TestRuns/one was skipped: what cannot run has to fail",
		"heymarket.dev/operator/api TestSkipped was skipped: what cannot run has to fail",
		"heymarket.dev/operator/test/e2e TestVanished stands in the sources and did not run",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if _, err := examine(root, []string{filepath.Join(root, "missing.json")}, nil); err == nil {
		t.Error("results that are missing are taken for complete")
	}
}
