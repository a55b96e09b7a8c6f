// Command picture draws the chart's dashboards over live scrapes of a receiver under load and of the operator, because there is no Grafana here: the same
// panels and queries, drawn by gonum/plot. It fails if a panel is empty.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gonum.org/v1/plot/vg/vgimg"

	"heymarket.dev/operator/test/surface/chart/rules/live"
)

func main() {
	root := flag.String("root", filepath.Join("..", "..", "..", ".."), "`directory` of the product's checkout")
	out := flag.String("o", ".", "`directory` to write into, one PNG a dashboard")
	scrapes := flag.Int("scrapes", 240, "`number` of scrapes, a quarter of a second apart; on the pictures half a minute")
	flag.Parse()
	if err := run(context.Background(), *root, *out, *scrapes); err != nil {
		fmt.Fprintf(os.Stderr, "picture: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, out string, scrapes int) error {
	folder, err := os.MkdirTemp("", "heymarket-picture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	receiver, err := live.Build(ctx, root, folder, "./cmd/receiver")
	if err != nil {
		return err
	}
	whole, err := live.OpenWhole(ctx, root, receiver)
	if err != nil {
		return err
	}
	defer whole.Close()
	from, to, err := whole.Run(ctx, scrapes, time.Second/4)
	if err != nil {
		return err
	}
	ask := func(expr string) (lines, error) {
		matrix, err := whole.Ask(ctx, expr, from, to, live.Step)
		return asLines(matrix, from), err
	}
	files, err := live.Dashboards(root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		board, err := live.ReadDashboard(file)
		if err != nil {
			return err
		}
		canvas, err := drawBoard(board, ask)
		if err != nil {
			return err
		}
		path := filepath.Join(out, strings.TrimSuffix(filepath.Base(file), ".json")+".png")
		if err := write(path, canvas); err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}

func write(path string, canvas *vgimg.Canvas) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(file); err != nil {
		return err
	}
	return file.Close()
}
