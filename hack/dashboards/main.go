// Command dashboards writes the chart's Grafana dashboards: one for a namespace and its webhooks, one for the whole fleet. What is on them stands in
// namespace.go and fleet.go; `make generate` runs it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "dashboards: takes the directory to write to")
		os.Exit(2)
	}
	for name, d := range map[string]dashboard{"heymarket-namespace": namespaceDashboard(), "heymarket-fleet": fleetDashboard()} {
		if err := write(filepath.Join(os.Args[1], name+".json"), d); err != nil {
			fmt.Fprintf(os.Stderr, "dashboards: %v\n", err)
			os.Exit(1)
		}
	}
}

func write(path string, d dashboard) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	out := json.NewEncoder(file)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(d); err != nil {
		return err
	}
	return file.Close()
}
