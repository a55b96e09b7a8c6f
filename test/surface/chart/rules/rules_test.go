// Package rules holds the test of the chart's alerts and panels against Prometheus's own engine. It is a module of its own, so that the operator
// does not depend on Prometheus.
package rules

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"sigs.k8s.io/yaml"
)

// Each alert has a history in which it fires at the end, and one in which it stays silent throughout. A history is an hour longer than the alert has to wait.
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
	"HeymarketDeadLettersFull": {
		`heymarket_receiver_dead_letters{L target="crm"} 9x30 10x30
		 heymarket_receiver_dead_letter_limit{L } 10x60`,
		`heymarket_receiver_dead_letters{L target="crm"} 9x60
		 heymarket_receiver_dead_letters{L target="erp"} 0x60
		 heymarket_receiver_dead_letter_limit{L } 10x60`,
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
	"HeymarketRedisNotDurable": {
		`heymarket_receiver_durable{L } 1x50 0x10`,
		`heymarket_receiver_durable{L } 1x60`,
	},
	"HeymarketAccountsDoNotAddUp": {
		`heymarket_receiver_events_unaccounted{L target="crm"} 0x40 3x20`,
		`heymarket_receiver_events_unaccounted{L target="crm"} 0x60
		 heymarket_receiver_account_stored_total{L target="crm"} 0+1x60`,
	},
	"HeymarketPreviousTokenInUse": {
		`heymarket_receiver_token_used_total{L token="previous"} 0+1x1500`,
		`heymarket_receiver_token_used_total{L token="previous"} 0+1x1000 1000x500
		 heymarket_receiver_token_used_total{L token="current"} 0+1x1500`,
	},
	"HeymarketOperatorAway": {
		`controller_runtime_active_workers{controller="heymarketwebhook"} 0x40 stale _x40`,
		`controller_runtime_active_workers{controller="heymarketwebhook"} 0x80
		 heymarket_receiver_durable{L } 1x80`,
	},
	"HeymarketConfigurationRejected": {
		`heymarket_receiver_config_reloads_total{L outcome="rejected"} _x50 1x10`,
		`heymarket_receiver_config_reloads_total{L outcome="applied"} 0+1x60`,
	},
}

func TestEveryAlertFiresAndIsSilent(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	for _, rule := range readRules(t) {
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
		end := time.Hour
		if wait > end {
			end += wait
		}
		if at := alerts(t, history[0], rule.Expr, end); !lasts(at, end, wait) {
			t.Errorf("%s does not fire; it would at %v, and has to for %s up to %s", rule.Alert, at, wait, end)
		}
		if at := alerts(t, history[1], rule.Expr, end); lasts(at, end, wait) || wait <= time.Hour && len(at) > 0 {
			t.Errorf("%s is not silent: at %v", rule.Alert, at)
		}
	}
	for alert := range cases {
		if !tried[alert] {
			t.Errorf("there is no alert %s", alert)
		}
	}
}

// alerts are the minutes up to an end at which an expression yields anything.
func alerts(t *testing.T, history, expr string, end time.Duration) []time.Duration {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.ReplaceAll(history, "{L ", `{namespace="staging", webhook="support", pod="a", `))
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})
	var minutes []time.Duration
	for at := time.Duration(0); at <= end; at += time.Minute {
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

// lasts says whether every minute of the wait before the end is there.
func lasts(minutes []time.Duration, end, wait time.Duration) bool {
	for at := end - wait; at <= end; at += time.Minute {
		if !slices.Contains(minutes, at) {
			return false
		}
	}
	return true
}

type rule struct{ Alert, Expr, For string }

func readRules(t *testing.T) []rule {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "charts", "heymarket-operator", "files", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}
