// Command picture draws one of the chart's dashboards over live scrapes of a receiver under load, because there is no Grafana here: the same panels and
// queries, drawn by gonum/plot.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gonum.org/v1/plot/vg/vgimg"

	"heymarket.dev/operator/test/surface/chart/rules/live"
)

func main() {
	root := flag.String("root", filepath.Join("..", "..", "..", ".."), "`directory` of the product's checkout")
	name := flag.String("dashboard", "heymarket-namespace", "`name` of the dashboard's file, without .json")
	out := flag.String("o", "dashboard.png", "`file` to write")
	length := flag.Duration("length", time.Minute, "`time` of the load")
	flag.Parse()
	if err := run(context.Background(), *root, *name, *out, *length); err != nil {
		fmt.Fprintf(os.Stderr, "picture: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, name, out string, length time.Duration) error {
	board, err := live.ReadDashboard(filepath.Join(root, "charts", "heymarket-operator", "files", "dashboards", name+".json"))
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "heymarket-picture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	receiver, err := live.Build(ctx, root, folder, "./cmd/receiver")
	if err != nil {
		return err
	}
	lab, err := live.Open(ctx, receiver)
	if err != nil {
		return err
	}
	defer lab.Close()
	step := length / 240
	from, to, err := lab.Run(ctx, length, step)
	if err != nil {
		return err
	}
	canvas, err := drawBoard(board, func(expr string) (lines, error) {
		matrix, err := lab.Ask(ctx, expr, from, to, step, 20*step)
		return asLines(matrix, from), err
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(file); err != nil {
		return err
	}
	return file.Close()
}
