package rules

import (
	"testing"
	"time"

	"heymarket.dev/operator/test/surface/chart/rules/live"
)

// chartRules writes the chart's rules into a file.
func chartRules(t *testing.T) (path string) {
	t.Helper()
	path, err := live.ChartRules(root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// evaluation is Prometheus' own evaluation of the chart's rules over a database.
type evaluation struct {
	t     *testing.T
	rules *live.Rules
}

// evaluate loads a file of rules; with names, only these alerts and the recording rules.
func evaluate(t *testing.T, db live.Database, path string, names ...string) *evaluation {
	t.Helper()
	loaded, err := live.LoadRules(t.Context(), db, path, names...)
	if err != nil {
		t.Fatal(err)
	}
	return &evaluation{t, loaded}
}

// at evaluates all rules once and returns the alerts that fire, sorted.
func (e *evaluation) at(now time.Time) (firing []string) {
	e.t.Helper()
	firing, err := e.rules.At(e.t.Context(), now)
	if err != nil {
		e.t.Fatal(err)
	}
	return firing
}
