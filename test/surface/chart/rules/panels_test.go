package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"heymarket.dev/operator/test/surface/chart/rules/live"
)

// Every query of every panel returns data over live scrapes of a receiver under load and of the operator, and so does every
// metric of the chart's rules: it exists, with the labels in the query.
func TestEveryPanelShowsSomething(t *testing.T) {
	t.Parallel()
	needRedis(t)
	needAPIServer(t)
	whole, err := live.OpenWhole(t.Context(), root, buildReceiver(t))
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	from, to, err := whole.Run(t.Context(), 90, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	wants := func(what, expr string) {
		t.Helper()
		if matrix, err := whole.Ask(t.Context(), expr, from, to, live.Step); err != nil || len(matrix) == 0 {
			t.Errorf("%s shows nothing: %s, %v", what, expr, err)
		}
	}
	for _, rule := range readRules(t) {
		for _, metric := range metrics(t, rule.Expr) {
			wants("alert "+rule.Alert, metric)
		}
	}
	files, err := live.Dashboards(root)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d dashboards, %v; want 2", len(files), err)
	}
	for _, file := range files {
		dashboard, err := live.ReadDashboard(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				expr, _, _ := strings.Cut(target.Expr, " or vector(0)") // which always yields something
				wants(fmt.Sprintf("%s, panel %q", dashboard.Title, panel.Title), expr)
			}
		}
	}
}

// metrics are the names of the metrics in an expression.
func metrics(t *testing.T, expr string) []string {
	t.Helper()
	parsed, err := parser.ParseExpr(expr)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			names = append(names, selector.Name)
		}
		return nil
	})
	return names
}
