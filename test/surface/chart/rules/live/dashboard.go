package live

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
)

// Dashboard is what is looked at of one of the chart's dashboards.
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

// Ask evaluates a panel's query over the scrapes, as Grafana would with everything chosen and this interval of rates.
func (l *lab) Ask(ctx context.Context, expr string, from, to time.Time, step, rate time.Duration) (promql.Matrix, error) {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute, LookbackDelta: 10 * time.Second})
	expr = strings.NewReplacer("$__rate_interval", model.Duration(rate).String(), "$namespace", ".*", "$webhook", ".*").Replace(expr)
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
