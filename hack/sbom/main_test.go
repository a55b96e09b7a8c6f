package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The bill lists the components of two binaries, each once, and refers only to listed ones.
func TestBillListsEachPartOnce(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{GoVersion: "go1.26.0", Deps: []*debug.Module{{Path: "github.com/google/go-cmp", Version: "v0.7.0"}}}
	d := bill("1.2.3", []binary{{"manager", info}, {"receiver", info}})
	refs := map[string]int{d.Metadata.Component.BOMRef: 1}
	var names []string
	for _, c := range *d.Components {
		refs[c.BOMRef]++
		names = append(names, c.Name)
	}
	for ref, times := range refs {
		if times != 1 {
			t.Errorf("%s is listed %d times", ref, times)
		}
	}
	for _, want := range []string{"manager", "receiver", "std", "github.com/google/go-cmp"} {
		if !slices.Contains(names, want) {
			t.Errorf("the bill lacks %s: %q", want, names)
		}
	}
	for _, part := range *d.Dependencies {
		if refs[part.Ref] == 0 || len(*part.Dependencies) == 0 {
			t.Errorf("%s is not listed, or depends on nothing", part.Ref)
		}
		for _, ref := range *part.Dependencies {
			if refs[ref] == 0 {
				t.Errorf("%s depends on %s, which is not listed", part.Ref, ref)
			}
		}
	}
}

// CycloneDX's own schema, from its library, accepts the bill of this test's binary, and rejects an invalid one.
func TestBillFollowsTheSchema(t *testing.T) {
	t.Parallel()
	schema := cycloneDX(t)
	var out bytes.Buffer
	if err := run(&out, "1.2.3", []string{os.Args[0]}); err != nil {
		t.Fatal(err)
	}
	if err := holdAgainst(schema, out.String()); err != nil {
		t.Errorf("the schema refuses the bill: %v", err)
	}
	for before, after := range map[string]string{
		`"type": "library"`:    `"type": "module"`,
		`"bom-ref": "pkg:`:     `"reference": "pkg:`,
		`"specVersion": "1.6"`: `"specVersion": 1.6`,
	} {
		wrong := strings.Replace(out.String(), before, after, 1)
		if wrong == out.String() {
			t.Errorf("the bill has no %s", before)
		}
		if err := holdAgainst(schema, wrong); err == nil {
			t.Errorf("the schema accepts %s", after)
		}
	}
}

func holdAgainst(schema *jsonschema.Schema, document string) error {
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
	if err != nil {
		return err
	}
	return schema.Validate(parsed)
}

func cycloneDX(t *testing.T) *jsonschema.Schema {
	t.Helper()
	where, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f={{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatalf("find the library: %v", err)
	}
	const at = "http://cyclonedx.org/schema/"
	c := jsonschema.NewCompiler()
	// The library has renamed one of the files.
	for name, file := range map[string]string{
		"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		content, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(where)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(at+name, parsed); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile(at + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// A replacement is listed instead of the module; names follow the package URL specification.
func TestReplacedModules(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{GoVersion: "go1.26.0", Deps: []*debug.Module{
		{Path: "example.com/Old", Version: "v1.0.0", Replace: &debug.Module{Path: "github.com/Azure/new", Version: "v2.0.0+incompatible"}},
	}}
	var purls []string
	for _, c := range modules(info) {
		purls = append(purls, c.PackageURL)
	}
	if diff := cmp.Diff("pkg:golang/std@1.26.0 pkg:golang/github.com/azure/new@v2.0.0%2Bincompatible", strings.Join(purls, " ")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
