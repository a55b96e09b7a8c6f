package main

import (
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The bill names what two binaries are made of, each part once, and refers to nothing that it does not list.
func TestBillListsEachPartOnce(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{GoVersion: "go1.26.0", Deps: []*debug.Module{{Path: "github.com/google/go-cmp", Version: "v0.7.0"}}}
	d := bill("1.2.3", []binary{{"manager", info}, {"receiver", info}})
	refs := map[string]int{d.Metadata.Component.Ref: 1}
	var names []string
	for _, c := range d.Components {
		refs[c.Ref]++
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
	for _, part := range d.Dependencies {
		if refs[part.Ref] == 0 || len(part.DependsOn) == 0 {
			t.Errorf("%s is not listed, or depends on nothing", part.Ref)
		}
		for _, ref := range part.DependsOn {
			if refs[ref] == 0 {
				t.Errorf("%s depends on %s, which is not listed", part.Ref, ref)
			}
		}
	}
}

// What stands in the place of a module is listed, not the module; names are written as package URLs have them.
func TestReplacedModules(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{GoVersion: "go1.26.0", Deps: []*debug.Module{
		{Path: "example.com/Old", Version: "v1.0.0", Replace: &debug.Module{Path: "github.com/Azure/new", Version: "v2.0.0+incompatible"}},
	}}
	var purls []string
	for _, c := range modules(info) {
		purls = append(purls, c.PURL)
	}
	if diff := cmp.Diff("pkg:golang/std@1.26.0 pkg:golang/github.com/azure/new@v2.0.0%2Bincompatible", strings.Join(purls, " ")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
