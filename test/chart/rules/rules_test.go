// Package rules holds the test of the chart's alerts and panels against Prometheus's own engine. It is a module of its own, so that the operator
// does not depend on Prometheus.
package rules

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"sigs.k8s.io/yaml"
)

// Each alert has a history in which it fires at the end of an hour, and one in which it stays silent throughout.
var cases = map[string][2]string{
	"HeymarketEventsRefused": {
		`heymarket_receiver_requests_total{L result="refused", reason="token"} 0+1x60`,
		`heymarket_receiver_requests_total{L result="refused", reason="path"} 0+9x60
		 heymarket_receiver_requests_total{L result="refused", reason="token"} 5x60
		 heymarket_receiver_requests_total{L result="stored", reason=""} 0+9x60`,
	},
	"HeymarketBacklogGrowing": {
		`heymarket_receiver_events_pending{L target="crm"} 0+50x60`,
		`heymarket_receiver_events_pending{L target="crm"} 5000-50x60
		 heymarket_receiver_events_pending{L target="erp"} 0+1x60`,
	},
	"HeymarketDeadLetters": {
		`heymarket_receiver_dead_letters{L target="crm"} 0x50 1x10`,
		`heymarket_receiver_dead_letters{L target="crm"} 7x30 0x30`,
	},
	"HeymarketTargetDown": {
		`heymarket_receiver_attempts_total{L target="crm", status="503"} 0+2x60
		 heymarket_receiver_attempts_total{L target="crm", status="none"} 0+1x60`,
		`heymarket_receiver_attempts_total{L target="crm", status="503"} 0+2x60
		 heymarket_receiver_attempts_total{L target="crm", status="204"} 0+2x60`,
	},
	"HeymarketRedisAway": {
		`heymarket_receiver_redis_up{L } 1x50 0x10`,
		`heymarket_receiver_redis_up{L } 1x60`,
	},
	"HeymarketConfigurationRejected": {
		`heymarket_receiver_config_reloads_total{L outcome="rejected"} _x50 1x10`,
		`heymarket_receiver_config_reloads_total{L outcome="applied"} 0+1x60`,
	},
}

func TestEveryAlertFiresAndIsSilent(t *testing.T) {
	t.Parallel()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr, For string }
		}
	}
	if err := yaml.Unmarshal(read(t, "rules.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			tried[rule.Alert] = true
			history, there := cases[rule.Alert]
			if !there {
				t.Errorf("%s has no cases", rule.Alert)
				continue
			}
			var wait time.Duration
			if rule.For != "" {
				var err error
				if wait, err = time.ParseDuration(rule.For); err != nil {
					t.Fatal(err)
				}
			}
			if at := alerts(t, history[0], rule.Expr); !lasts(at, wait) {
				t.Errorf("%s does not fire; it would at %v, and has to for %s up to an hour", rule.Alert, at, wait)
			}
			if at := alerts(t, history[1], rule.Expr); len(at) > 0 {
				t.Errorf("%s is not silent: at %v", rule.Alert, at)
			}
		}
	}
	for alert := range cases {
		if !tried[alert] {
			t.Errorf("there is no alert %s", alert)
		}
	}
}

// alerts are the minutes of an hour at which an expression yields anything.
func alerts(t *testing.T, history, expr string) []time.Duration {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.ReplaceAll(history, "{L ", `{namespace="staging", webhook="support", pod="a", `))
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})
	var minutes []time.Duration
	for at := time.Duration(0); at <= time.Hour; at += time.Minute {
		query, err := engine.NewInstantQuery(t.Context(), storage, nil, expr, time.Unix(0, 0).Add(at))
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		result := query.Exec(t.Context())
		if result.Err != nil {
			t.Fatalf("%s: %v", expr, result.Err)
		}
		if v, err := result.Vector(); err != nil {
			t.Fatalf("%s: %v", expr, err)
		} else if len(v) > 0 {
			minutes = append(minutes, at)
		}
	}
	return minutes
}

// lasts says whether every minute of the wait before the hour's end is there.
func lasts(minutes []time.Duration, wait time.Duration) bool {
	for at := time.Hour - wait; at <= time.Hour; at += time.Minute {
		if !slices.Contains(minutes, at) {
			return false
		}
	}
	return true
}

func TestEveryPanelCanBeAsked(t *testing.T) {
	t.Parallel()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read(t, "dashboard.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$webhook", ".*")
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			if _, err := parser.ParseExpr(fill.Replace(target.Expr)); err != nil {
				t.Errorf("panel %q: %v", panel.Title, err)
			}
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "charts", "heymarket-operator", "files", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
