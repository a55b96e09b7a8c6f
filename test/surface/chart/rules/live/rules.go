package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"sigs.k8s.io/yaml"
)

// ChartRules writes the groups of the PrometheusRule, as the chart renders it, into a file for Prometheus. root is the product's checkout.
func ChartRules(root, folder string) (path string, err error) {
	rendered, err := os.ReadFile(filepath.Join(root, "test", "surface", "chart", "testdata", "rich.golden.yaml"))
	if err != nil {
		return "", err
	}
	for document := range bytes.SplitSeq(rendered, []byte("\n---\n")) {
		var object struct {
			Kind string
			Spec any
		}
		if err := yaml.Unmarshal(document, &object); err != nil {
			return "", fmt.Errorf("read what the chart renders: %w", err)
		}
		if object.Kind != "PrometheusRule" {
			continue
		}
		text, err := yaml.Marshal(object.Spec)
		if err != nil {
			return "", err
		}
		path = filepath.Join(folder, "rules.yaml")
		return path, os.WriteFile(path, text, 0o600)
	}
	return "", errors.New("the chart renders no PrometheusRule")
}

// Rules are evaluated by Prometheus' own engine over a database, into which they write ALERTS and what they record.
type Rules struct{ groups []*rules.Group }

// Database holds the series that rules read and write.
type Database interface {
	storage.Appendable
	storage.Queryable
}

// LoadRules loads a file of ChartRules; with names, only these alerts and the recording rules.
func LoadRules(ctx context.Context, db Database, path string, names ...string) (*Rules, error) {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute})
	options := &rules.ManagerOptions{
		Context: ctx, Appendable: db, Queryable: db, QueryFunc: rules.EngineQueryFunc(engine, db), NameValidationScheme: model.UTF8Validation,
		Logger: slog.New(slog.DiscardHandler), NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	}
	loaded, errs := rules.NewManager(options).LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, path)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	r := &Rules{}
	for _, group := range loaded {
		kept := slices.DeleteFunc(slices.Clone(group.Rules()), func(r rules.Rule) bool {
			_, alert := r.(*rules.AlertingRule)
			return alert && len(names) > 0 && !slices.Contains(names, r.Name())
		})
		if len(names) > 0 && !slices.ContainsFunc(kept, func(r rules.Rule) bool { return slices.Contains(names, r.Name()) }) {
			continue
		}
		for _, rule := range kept {
			if alert, ok := rule.(*rules.AlertingRule); ok {
				alert.SetRestored(true) // Else there is no series ALERTS.
			}
		}
		r.groups = append(r.groups, rules.NewGroup(rules.GroupOptions{Name: group.Name(), Interval: time.Minute, Rules: kept, Opts: options}))
	}
	return r, nil
}

// At evaluates all rules once and returns the alerts that fire, sorted.
func (r *Rules) At(ctx context.Context, now time.Time) (firing []string, err error) {
	for _, group := range r.groups {
		group.Eval(ctx, now)
		for _, rule := range group.Rules() {
			if rule.Health() == rules.HealthBad && !strings.Contains(rule.LastError().Error(), storage.ErrOutOfBounds.Error()) {
				return nil, fmt.Errorf("rule %s: %w", rule.Name(), rule.LastError())
			}
			if alert, ok := rule.(*rules.AlertingRule); ok && alert.State() == rules.StateFiring {
				firing = append(firing, alert.Name())
			}
		}
	}
	slices.Sort(firing)
	return firing, nil
}

// Labels returns the labels of an alert that is active, none if it is not.
func (r *Rules) Labels(name string) (of labels.Labels) {
	for _, group := range r.groups {
		for _, rule := range group.Rules() {
			if alert, ok := rule.(*rules.AlertingRule); ok && alert.Name() == name {
				for _, active := range alert.ActiveAlerts() {
					of = active.Labels
				}
			}
		}
	}
	return of
}
