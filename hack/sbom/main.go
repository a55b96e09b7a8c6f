// Command sbom writes a software bill of materials for Go binaries: CycloneDX 1.6, from what the linker itself has written into each of them, so it names what
// is in the binary and not what a go.mod would allow. It knows modules and their versions, not their licenses. The same binaries give the same bytes.
package main

import (
	"cmp"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "sbom: takes a version and the paths of binaries")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "sbom: %v\n", err)
		os.Exit(1)
	}
}

// run writes the bill of what a version's binaries hold, which lie at the paths.
func run(out io.Writer, version string, paths []string) error {
	var binaries []binary
	for _, path := range paths {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read what %s is made of: %w", path, err)
		}
		binaries = append(binaries, binary{filepath.Base(path), info})
	}
	return cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bill(version, binaries), cyclonedx.SpecVersion1_6)
}

type binary struct {
	name string
	info *debug.BuildInfo
}

// bill lists the binaries as parts of the product, and as parts of each what was linked into it. It leaves out the serial number and the time, which would
// differ each time.
func bill(version string, binaries []binary) *cyclonedx.BOM {
	const product = "heymarket-operator"
	var whole []string
	var components []cyclonedx.Component
	var parts []cyclonedx.Dependency
	known := map[string]bool{}
	for _, b := range binaries {
		whole = append(whole, b.name)
		components = append(components, cyclonedx.Component{Type: cyclonedx.ComponentTypeApplication, BOMRef: b.name, Name: b.name, Version: version})
		var linked []string
		for _, c := range modules(b.info) {
			linked = append(linked, c.BOMRef)
			if !known[c.BOMRef] {
				known[c.BOMRef] = true
				components = append(components, c)
			}
		}
		parts = append(parts, cyclonedx.Dependency{Ref: b.name, Dependencies: &linked})
	}
	parts = append([]cyclonedx.Dependency{{Ref: product, Dependencies: &whole}}, parts...)
	slices.SortStableFunc(components, func(a, b cyclonedx.Component) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.BOMRef, b.BOMRef))
	})

	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &cyclonedx.Component{Type: cyclonedx.ComponentTypeContainer, BOMRef: product, Name: product, Version: version}}
	bom.Components, bom.Dependencies = &components, &parts
	return bom
}

// modules are those that a binary was linked from, the standard library included.
func modules(info *debug.BuildInfo) []cyclonedx.Component {
	all := []cyclonedx.Component{library("std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		all = append(all, library(m.Path, m.Version))
	}
	return all
}

func library(path, version string) cyclonedx.Component {
	purl := "pkg:golang/" + strings.ToLower(path) + "@" + strings.ReplaceAll(version, "+", "%2B")
	return cyclonedx.Component{Type: cyclonedx.ComponentTypeLibrary, BOMRef: purl, Name: path, Version: version, PackageURL: purl}
}
