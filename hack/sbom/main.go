// Command sbom writes a software bill of materials for Go binaries: CycloneDX 1.6, from what the linker itself has written into each of them, so it names what
// is in the binary and not what a go.mod would allow. It knows modules and their versions, not their licenses. The same binaries give the same bytes.
package main

import (
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "sbom: takes a version and the paths of binaries")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "sbom: %v\n", err)
		os.Exit(1)
	}
}

func run(version string, paths []string) error {
	var binaries []binary
	for _, path := range paths {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read what %s is made of: %w", path, err)
		}
		binaries = append(binaries, binary{filepath.Base(path), info})
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(bill(version, binaries))
}

type binary struct {
	name string
	info *debug.BuildInfo
}

// document is as much of CycloneDX 1.6 as is used here. It leaves out the serial number and the time, which would differ each time.
type document struct {
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	PURL    string `json:"purl,omitempty"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// bill lists the binaries as parts of the product, and as parts of each what was linked into it.
func bill(version string, binaries []binary) document {
	product := component{Type: "container", Ref: "heymarket-operator", Name: "heymarket-operator", Version: version}
	d := document{Format: "CycloneDX", SpecVersion: "1.6", Version: 1, Metadata: metadata{product}}
	whole := dependency{Ref: product.Ref}
	known := map[string]bool{}
	for _, b := range binaries {
		d.Components = append(d.Components, component{Type: "application", Ref: b.name, Name: b.name, Version: version})
		whole.DependsOn = append(whole.DependsOn, b.name)
		part := dependency{Ref: b.name}
		for _, c := range modules(b.info) {
			part.DependsOn = append(part.DependsOn, c.Ref)
			if !known[c.Ref] {
				known[c.Ref] = true
				d.Components = append(d.Components, c)
			}
		}
		d.Dependencies = append(d.Dependencies, part)
	}
	d.Dependencies = append([]dependency{whole}, d.Dependencies...)
	slices.SortStableFunc(d.Components, func(a, b component) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Ref, b.Ref)) })
	return d
}

// modules are those that a binary was linked from, the standard library included.
func modules(info *debug.BuildInfo) []component {
	all := []component{library("std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		all = append(all, library(m.Path, m.Version))
	}
	return all
}

func library(path, version string) component {
	purl := "pkg:golang/" + strings.ToLower(path) + "@" + strings.ReplaceAll(version, "+", "%2B")
	return component{Type: "library", Ref: purl, Name: path, Version: version, PURL: purl}
}
