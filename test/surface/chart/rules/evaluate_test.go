package rules

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"sigs.k8s.io/yaml"
)

// chartRules writes the groups of the PrometheusRule, as the chart renders it, into a file for Prometheus.
func chartRules(t *testing.T) (path string) {
	t.Helper()
	rendered, err := os.ReadFile(filepath.Join("..", "testdata", "rich.golden.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for document := range bytes.SplitSeq(rendered, []byte("\n---\n")) {
		var object struct {
			Kind string
			Spec any
		}
		if err := yaml.Unmarshal(document, &object); err != nil {
			t.Fatal(err)
		}
		if object.Kind != "PrometheusRule" {
			continue
		}
		text, err := yaml.Marshal(object.Spec)
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(t.TempDir(), "rules.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Fatal("there is no PrometheusRule in the golden")
	return ""
}

// evaluation is Prometheus' own evaluation of the chart's rules over a database.
type evaluation struct {
	t      *testing.T
	groups []*rules.Group
}

type database interface {
	storage.Appendable
	storage.Queryable
}

// evaluate loads the chart's rules; with names, only these alerts and the recording rules.
func evaluate(t *testing.T, db database, names ...string) *evaluation {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute})
	options := &rules.ManagerOptions{
		Context: t.Context(), Appendable: db, Queryable: db, QueryFunc: rules.EngineQueryFunc(engine, db), NameValidationScheme: model.UTF8Validation,
		Logger: slog.New(slog.DiscardHandler), NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	}
	loaded, errs := rules.NewManager(options).LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, chartRules(t))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	e := &evaluation{t: t}
	for _, group := range loaded {
		kept := slices.DeleteFunc(slices.Clone(group.Rules()), func(r rules.Rule) bool {
			_, alert := r.(*rules.AlertingRule)
			return alert && len(names) > 0 && !slices.Contains(names, r.Name())
		})
		if len(names) > 0 && !slices.ContainsFunc(kept, func(r rules.Rule) bool { return slices.Contains(names, r.Name()) }) {
			continue
		}
		for _, r := range kept {
			if alert, ok := r.(*rules.AlertingRule); ok {
				alert.SetRestored(true) // Else there is no series ALERTS.
			}
		}
		e.groups = append(e.groups, rules.NewGroup(rules.GroupOptions{Name: group.Name(), Interval: time.Minute, Rules: kept, Opts: options}))
	}
	return e
}

// at evaluates all rules once and returns the alerts that fire, sorted.
func (e *evaluation) at(now time.Time) (firing []string) {
	e.t.Helper()
	for _, group := range e.groups {
		group.Eval(e.t.Context(), now)
		for _, rule := range group.Rules() {
			if rule.Health() == rules.HealthBad && !strings.Contains(rule.LastError().Error(), storage.ErrOutOfBounds.Error()) {
				e.t.Fatalf("%s: %v", rule.Name(), rule.LastError())
			}
			if alert, ok := rule.(*rules.AlertingRule); ok && alert.State() == rules.StateFiring {
				firing = append(firing, alert.Name())
			}
		}
	}
	slices.Sort(firing)
	return firing
}
