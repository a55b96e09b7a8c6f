package rules

import (
	"path/filepath"
	"slices"
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
				if !ofReceiver(t, target.Expr) {
					continue // see TestReceiversThatAreGoneFireAnAlert
				}
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

// ofReceiver reports whether an expression asks for metrics of receivers alone, and not for the operator's or for what rules make.
func ofReceiver(t *testing.T, expr string) bool {
	t.Helper()
	return !slices.ContainsFunc(metrics(t, strings.ReplaceAll(expr, "$__rate_interval", "1m")), func(name string) bool { return !strings.HasPrefix(name, "heymarket_receiver_") })
}

// showOperator fails for each query of the dashboards that asks for metrics of the operator, or for alerts, and yields nothing.
func showOperator(t *testing.T, operator *live.Operator, from, to time.Time) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "charts", "heymarket-operator", "files", "dashboards", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, file := range files {
		dashboard, err := live.ReadDashboard(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				if ofReceiver(t, target.Expr) || strings.Contains(target.Expr, "heymarket:") {
					continue
				}
				asked++
				expr, _, _ := strings.Cut(target.Expr, " or vector(0)")
				if matrix, err := operator.Ask(t.Context(), expr, from, to, 10*time.Second, 5*time.Minute); err != nil || len(matrix) == 0 {
					t.Errorf("%s, panel %q shows nothing: %s, %v", dashboard.Title, panel.Title, expr, err)
				}
			}
		}
	}
	if asked < 12 {
		t.Errorf("%d queries ask for the operator's metrics", asked)
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
