package live

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
)

// Dashboard is the checked part of one of the chart's dashboards.
type Dashboard struct {
	Title  string
	Panels []Panel
}

// Panel is one panel.
type Panel struct {
	Title       string
	Type        string // stat or timeseries
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct {
		Defaults struct {
			Unit     string
			Mappings []struct {
				Options map[string]struct{ Text string }
			}
		}
	}
	Targets []struct{ Expr, LegendFormat string }
}

// ReadDashboard reads a dashboard's file.
func ReadDashboard(path string) (Dashboard, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Dashboard{}, err
	}
	var d Dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		return Dashboard{}, fmt.Errorf("read %s: %w", path, err)
	}
	return d, nil
}

// Dashboards are the files of the chart's dashboards. root is the product's checkout.
func Dashboards(root string) (paths []string, err error) {
	return filepath.Glob(filepath.Join(root, "charts", "heymarket-operator", "files", "dashboards", "*.json"))
}

// Ask evaluates a panel's query over scrapes that are a step apart, as Grafana would with everything chosen.
func (l *lab) Ask(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error) {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute})
	expr = strings.NewReplacer("$__rate_interval", model.Duration(4*step).String(), "$namespace", ".*", "$webhook", ".*").Replace(expr)
	query, err := engine.NewRangeQuery(ctx, l.DB, nil, expr, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	result := query.Exec(ctx)
	if result.Err != nil {
		return nil, fmt.Errorf("%s: %w", expr, result.Err)
	}
	return result.Matrix()
}
