package rules

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"heymarket.dev/operator/test/surface/chart/rules/live"
)

// Every query of every panel yields something over live scrapes of a receiver under load: the metric exists, with the labels that it is asked by.
func TestEveryPanelShowsSomething(t *testing.T) {
	t.Parallel()
	needRedis(t)
	lab, err := live.Open(t.Context(), buildReceiver(t))
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Close()
	from, to, err := lab.Run(t.Context(), 4*time.Second, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range readRules(t) {
		for _, metric := range metrics(t, rule.Expr) {
			if !strings.HasPrefix(metric, "heymarket_receiver_") {
				continue // one of the operator's, which internal/controller looks for, or one that a rule records
			}
			if matrix, err := lab.Ask(t.Context(), metric, from, to, 200*time.Millisecond, time.Second); err != nil || len(matrix) == 0 {
				t.Errorf("alert %s: there is no %s in a live scrape, %v", rule.Alert, metric, err)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "charts", "heymarket-operator", "files", "dashboards", "*.json"))
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
				matrix, err := lab.Ask(t.Context(), target.Expr, from, to, 200*time.Millisecond, time.Second)
				if err != nil {
					t.Errorf("%s, panel %q: %v", dashboard.Title, panel.Title, err)
				} else if len(matrix) == 0 {
					t.Errorf("%s, panel %q shows nothing: %s", dashboard.Title, panel.Title, target.Expr)
				}
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
