// Command manifest prints what config/default makes with an image's name in the place of the one that stands there: CRD, roles and the operator in one file, for
// those who install without Helm and without a checkout.
package main

import (
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "manifest: takes the directory of a kustomization and the operator's image")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "manifest: %v\n", err)
		os.Exit(1)
	}
}

func run(dir, image string) error {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return fmt.Errorf("build %s: %w", dir, err)
	}
	text, err := built.AsYaml()
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	found := false
	for i, line := range lines {
		if before, _, is := strings.Cut(line, "image: heymarket.dev/operator:"); is {
			lines[i], found = before+"image: "+image, true
		}
	}
	if !found {
		return fmt.Errorf("%s runs no image heymarket.dev/operator", dir)
	}
	_, err = fmt.Print(strings.Join(lines, "\n"))
	return err
}
