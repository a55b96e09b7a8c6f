// Package rules holds the test of the chart's alerts and panels against Prometheus's own engine. It is a module of its own, so that the operator
// does not depend on Prometheus.
package rules

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"sigs.k8s.io/yaml"
)

// history of the series that an alert is about, once for each way in which it fires or stays silent, in samples a step apart. {L stands for the labels of a receiver's series, {O of a webhook's.
type history struct {
	fires, silent []string
	// step is a minute where it is zero, and length an hour more than the alert must wait.
	step, length time.Duration
}

// Each alert has a history in which it fires at the end, and one in which it stays silent throughout.
var cases = map[string]history{
	"HeymarketReceiversGone": {
		fires: []string{`heymarket_webhook_receivers_ready{O } 2x30 0x30
		 heymarket_webhook_receivers_wanted{O } 2x60`},
		silent: []string{`heymarket_webhook_receivers_ready{O } 2x30 1x10 0x1 2x20
		 heymarket_webhook_receivers_wanted{O } 2x60`, `heymarket_webhook_receivers_ready{O } 0x60
		 heymarket_webhook_receivers_wanted{O } 0x60`},
	},
	"HeymarketReceiversMissing": {
		fires: []string{`heymarket_webhook_receivers_ready{O } 3x30 1x30
		 heymarket_webhook_receivers_wanted{O } 3x60`},
		silent: []string{`heymarket_webhook_receivers_ready{O } 3x30 2x10 3x10 0x20
		 heymarket_webhook_receivers_wanted{O } 3x60`, `heymarket_webhook_receivers_ready{O } 3x60
		 heymarket_webhook_receivers_wanted{O } 2x60`, `heymarket_webhook_receivers_ready{O } 0x60
		 heymarket_webhook_receivers_wanted{O } 3x60`},
	},
	"HeymarketWebhookNotReady": {
		fires: []string{`heymarket_webhook_condition{O type="Ready", status="False", reason="RolloutStuck"} _x30 1x30`},
		silent: []string{`heymarket_webhook_condition{O type="Ready", status="True", reason="Ready"} 1x60
		 heymarket_webhook_condition{O type="Scaled", status="False", reason="KEDAMissing"} 1x60`},
	},
	"HeymarketNotReachable": {
		fires: []string{`heymarket_webhook_condition{O type="Reachable", status="False", reason="CertificateInvalid"} _x30 1x30`},
		silent: []string{`heymarket_webhook_condition{O type="Reachable", status="False", reason="NotConnected"} 1x60
		 heymarket_webhook_condition{O type="Reachable", status="True", reason="CertificateEnding"} 1x60
		 heymarket_webhook_condition{O type="Reachable", status="False", reason="RouteElsewhere"} 1x10 stale _x50`, `heymarket_webhook_condition{O type="Exposed", status="False", reason="HostConflict"} 1x60
		 heymarket_webhook_condition{O type="Reachable", status="False", reason="AddressBlocked"} 1x60`},
	},
	"HeymarketCertificateEnding": {
		fires: []string{`heymarket_webhook_condition{O type="Reachable", status="True", reason="CertificateEnding"} 1x90`},
		silent: []string{`heymarket_webhook_condition{O type="Reachable", status="True", reason="Reachable"} 1x90
		 heymarket_webhook_condition{O type="Reachable", status="False", reason="CertificateInvalid"} 1x90`, `heymarket_webhook_condition{O type="Exposed", status="True", reason="CertificateEnding"} 1x90`},
	},
	"HeymarketConfigurationRejected": {
		fires:  []string{`heymarket_receiver_config_reloads_total{L outcome="rejected"} 0x50 1x10`},
		silent: []string{`heymarket_receiver_config_reloads_total{L outcome="applied"} 0+1x60`, `heymarket_receiver_config_reloads_total{L outcome="rejected"} 1x60`},
	},
	"HeymarketOperatorAway": {
		fires: []string{`controller_runtime_active_workers{controller="heymarketwebhook"} 0x40 stale _x40`, `controller_runtime_active_workers{controller="heymarketwebhook"} 0x40 stale _x40
		 controller_runtime_active_workers{controller="another"} 0x80`},
		silent: []string{`controller_runtime_active_workers{controller="heymarketwebhook"} 0x80
		 heymarket_receiver_durable{L } 1x80`, `controller_runtime_active_workers{controller="another"} 0x40 stale _x40
		 heymarket_receiver_durable{L } 1x80`},
	},
	"HeymarketEventsRefused": {
		fires: []string{`heymarket_receiver_requests_total{L result="refused", reason="internal"} 0x50 1+1x10`, `heymarket_receiver_requests_total{L result="refused", reason="backlog_bytes"} 0x50 1+1x10`, `heymarket_receiver_requests_total{L result="refused", reason="backlog"} 0x50 1+1x10`, `heymarket_receiver_requests_total{L result="refused", reason="not_confirmed"} 0x50 1+1x10`},
		silent: []string{`heymarket_receiver_requests_total{L result="refused", reason="token"} 0+9x60
		 heymarket_receiver_requests_total{L result="refused", reason="backlog"} 0x30 1x30
		 heymarket_receiver_requests_total{L result="stored", reason=""} 0+9x60`, `heymarket_receiver_requests_total{L result="stored", reason="internal"} 0+9x60`},
	},
	"HeymarketRequestsRejected": {
		fires: []string{`heymarket_receiver_requests_total{L result="refused", reason="token"} 0+1x60`, `heymarket_receiver_requests_total{L result="refused", reason="webhook_id"} 0+1x60`, `heymarket_receiver_requests_total{L result="refused", reason="rate_limited"} 0+1x60`},
		silent: []string{`heymarket_receiver_requests_total{L result="refused", reason="path"} 0+9x60
		 heymarket_receiver_requests_total{L result="refused", reason="token"} 5x60
		 heymarket_receiver_requests_total{L result="stored", reason=""} 0+9x60`, `heymarket_receiver_requests_total{L result="stored", reason="token"} 0+9x60`},
	},
	"HeymarketOldestEvent": {
		fires:  []string{`heymarket_receiver_oldest_event_age_seconds{L target="crm", lane="consent"} 0+60x60`},
		silent: []string{`heymarket_receiver_oldest_event_age_seconds{L target="crm", lane="general"} 0+60x15 0x45`},
	},
	"HeymarketBacklogGrowing": {
		fires: []string{`heymarket_receiver_events_pending{L target="crm"} 0+50x60`},
		silent: []string{`heymarket_receiver_events_pending{L target="crm"} 5000-50x60
		 heymarket_receiver_events_pending{L target="erp"} 0+1x60`},
	},
	// One event, whose retries come ten minutes apart: the circuit stays closed.
	"HeymarketTargetDown": {
		fires: []string{`heymarket_receiver_target_failing{L target="crm", class="Timeout"} _x30 1x30
		 heymarket_receiver_target_circuit{L target="crm", state="Open"} 0x60
		 heymarket_receiver_attempts_total{L target="crm", status="204"} 7x60`, `heymarket_receiver_target_circuit{L target="crm", state="Gone"} 0x30 1x30`, `heymarket_receiver_target_failing{L target="crm", class="ServerError"} 1x60
		 heymarket_receiver_attempts_total{L target="crm", status="503"} 0+2x60`},
		silent: []string{`heymarket_receiver_target_failing{L target="crm", class="ServerError"} 1x60
		 heymarket_receiver_target_circuit{L target="crm", state="Closed"} 1x60
		 heymarket_receiver_attempts_total{L target="crm", status="503"} 0+2x60
		 heymarket_receiver_attempts_total{L target="crm", status="204"} 0+2x60`, `heymarket_receiver_target_failing{L target="crm", class="ServerError"} 0x60
		 heymarket_receiver_target_circuit{L target="crm", state="Open"} 0x60`},
	},
	"HeymarketAccountsDoNotAddUp": {
		fires: []string{`heymarket_receiver_events_unaccounted{L target="crm"} 0x40 -3x20`},
		silent: []string{`heymarket_receiver_events_unaccounted{L target="crm"} 0x60
		 heymarket_receiver_account_stored_total{L target="crm"} 0+1x60`},
	},
	"HeymarketTokenRotationOpen": {
		fires:  []string{`heymarket_receiver_tokens{L } 2x160`},
		silent: []string{`heymarket_receiver_tokens{L } 2x140 1x20`},
		step:   30 * time.Minute, length: 76 * time.Hour,
	},
	"HeymarketRedisDown": {
		fires:  []string{`heymarket_receiver_redis_up{L } 1x50 0x10`},
		silent: []string{`heymarket_receiver_redis_up{L } 1x60`},
	},
	"HeymarketRedisNotDurable": {
		fires: []string{`heymarket_receiver_durable{L } 1x50 0x10
		 heymarket_receiver_redis_up{L } 1x60`},
		silent: []string{`heymarket_receiver_durable{L } 1x30 0x30
		 heymarket_receiver_redis_up{L } 1x30 0x30`},
	},
	"HeymarketDeadLetters": {
		fires:  []string{`heymarket_receiver_dead_letters{L target="crm"} 0x50 1x10`},
		silent: []string{`heymarket_receiver_dead_letters{L target="crm"} 7x30 0x30`},
	},
	"HeymarketDeadLettersMany": {
		fires: []string{`heymarket_receiver_dead_letters{L target="crm"} 0x30 9x30
		 heymarket_receiver_dead_letter_limit{L } 10x60`},
		silent: []string{`heymarket_receiver_dead_letters{L target="crm"} 8x60
		 heymarket_receiver_dead_letter_limit{L } 10x60`},
	},
	"HeymarketDeadLettersFull": {
		fires: []string{`heymarket_receiver_dead_letters{L target="crm"} 9x30 10x30
		 heymarket_receiver_dead_letter_limit{L } 10x60`},
		silent: []string{`heymarket_receiver_dead_letters{L target="crm"} 9x60
		 heymarket_receiver_dead_letters{L target="erp"} 0x60
		 heymarket_receiver_dead_letter_limit{L } 10x60`},
	},
	"HeymarketDeadLettersExpire": {
		fires: []string{`heymarket_receiver_oldest_dead_letter_age_seconds{L target="crm"} 0+20x60
		 heymarket_receiver_dead_letter_retention_seconds{L } 1000x60`},
		silent: []string{`heymarket_receiver_oldest_dead_letter_age_seconds{L target="crm"} 0+20x40 0x20
		 heymarket_receiver_dead_letter_retention_seconds{L } 1000x60`},
	},
	"HeymarketAcceptedBudgetBurnsFast":    burns("refused", 0.001, "1h 5m 14.4", "6h 30m 6", refused(20), refused(5)),
	"HeymarketAcceptedBudgetBurnsSlowly":  burns("refused", 0.001, "1d 2h 3", "3d 6h 1", refused(2), refused(0)),
	"HeymarketDeliveredBudgetBurnsFast":   burns("late", 0.01, "1h 5m 14.4", "6h 30m 6", late(20), late(2)),
	"HeymarketDeliveredBudgetBurnsSlowly": burns("late", 0.01, "1d 2h 3", "3d 6h 1", late(2), late(0)),
}

// burns are histories of the errors over two pairs of windows, each with how many times the budget they may use up, and whole histories besides.
func burns(of string, budget float64, one, other, fires, silent string) history {
	var h history
	series := func(long, short float64, pairs ...string) (lines string) {
		for _, pair := range []string{one, other} {
			part := strings.Fields(pair)
			factor, _ := strconv.ParseFloat(part[2], 64)
			for i, share := range []float64{long, short} {
				if !slices.Contains(pairs, pair) {
					share = 0
				}
				lines += fmt.Sprintf("heymarket:%s_events:ratio_rate%s{L } %gx30\n", of, part[i], share*factor*budget)
			}
		}
		return strings.TrimSpace(lines)
	}
	h.fires = []string{series(1.1, 1.1, one), series(1.1, 1.1, other), fires}
	h.silent = []string{series(1.1, 0.9, one, other), series(0.9, 1.1, one, other), silent}
	return h
}

// refused is a history in which n of a thousand events are refused, wrong tokens not counted.
func refused(n int) string {
	return strings.NewReplacer("GOOD", strconv.Itoa(1000-n), "BAD", strconv.Itoa(n)).Replace(
		`heymarket_receiver_requests_total{L result="stored", reason=""} 0+GOODx120
		 heymarket_receiver_requests_total{L result="refused", reason="not_confirmed"} 0+BADx120
		 heymarket_receiver_requests_total{L result="refused", reason="token"} 0+500x120`)
}

// late is a history in which n of a hundred events are delivered later than after a minute, half of them never.
func late(n int) string {
	return strings.NewReplacer("GOOD", strconv.Itoa(100-n), "ALL", strconv.Itoa(100-n/2), "DEAD", strconv.Itoa(n/2)).Replace(
		`heymarket_receiver_event_age_seconds_bucket{L target="crm", le="60.0"} 0+GOODx120
		 heymarket_receiver_event_age_seconds_count{L target="crm"} 0+ALLx120
		 heymarket_receiver_events_dead_total{L target="crm"} 0+DEADx120`)
}

func TestEveryAlertFiresAndIsSilent(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	for _, rule := range readRules(t) {
		if rule.Alert == "" {
			continue
		}
		tried[rule.Alert] = true
		h, there := cases[rule.Alert]
		if !there {
			t.Errorf("%s has no cases", rule.Alert)
			continue
		}
		t.Run(rule.Alert, func(t *testing.T) {
			t.Parallel()
			path := chartRules(t)
			if wrong := h.wrong(t, rule, path); wrong != "" {
				t.Error(wrong)
			}
			for _, expr := range simplifications(t, rule.Expr) {
				if h.wrong(t, rule, rewritten(t, path, rule.Expr, expr)) == "" {
					t.Errorf("no history differs if its expression is\n%s", expr)
				}
			}
		})
	}
	for alert := range cases {
		if !tried[alert] {
			t.Errorf("there is no alert %s", alert)
		}
	}
}

// wrong describes how an alert of the rules in a file differs from its histories, "" if it does not.
func (h history) wrong(t *testing.T, r rule, path string) string {
	t.Helper()
	for _, series := range h.fires {
		fired, of := h.play(t, r, path, series)
		if !fired[len(fired)-1] {
			return "it does not fire at the end of\n" + series
		}
		for _, named := range regexp.MustCompile(`\$labels\.([a-z]+)`).FindAllStringSubmatch(r.Annotations.Summary, -1) {
			if !of.Has(named[1]) {
				return "it has no label " + named[1] + ", which its summary names"
			}
		}
	}
	for _, series := range h.silent {
		if fired, _ := h.play(t, r, path, series); slices.Contains(fired, true) {
			return fmt.Sprintf("it fires in step %d of\n%s", slices.Index(fired, true), series)
		}
	}
	return ""
}

// simplifications are an expression without one of its parts each: an operand of a set operator, a comparison, a label that
// is grouped by, a label's matcher, or one of its alternatives.
func simplifications(t *testing.T, expr string) (all []string) {
	t.Helper()
	for wanted := 0; ; wanted++ {
		parsed, err := parser.ParseExpr(expr)
		if err != nil {
			t.Fatal(err)
		}
		number := 0
		this := func() bool { number++; return number == wanted+1 }
		parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.BinaryExpr:
				switch n.Op {
				case parser.LAND, parser.LUNLESS:
					if this() {
						n.Op, n.RHS = parser.LAND, n.LHS
					}
				case parser.LOR:
					left, right := n.LHS, n.RHS
					if this() {
						n.RHS = left
					}
					if this() {
						n.LHS = right
					}
				default:
					if n.Op.IsComparisonOperator() && this() {
						if n.Op = parser.NEQ; n.RHS.Type() == parser.ValueTypeScalar {
							n.RHS = &parser.NumberLiteral{Val: math.Inf(-1)}
						}
					}
				}
			case *parser.AggregateExpr:
				for i := range n.Grouping {
					if this() {
						n.Grouping = slices.Delete(slices.Clone(n.Grouping), i, i+1)
						return nil
					}
				}
			case *parser.VectorSelector:
				for i, m := range n.LabelMatchers {
					if m.Name == labels.MetricName {
						continue
					}
					if this() {
						n.LabelMatchers = slices.Delete(slices.Clone(n.LabelMatchers), i, i+1)
						return nil
					}
					alternatives := strings.Split(m.Value, "|")
					for j := range alternatives {
						if len(alternatives) > 1 && this() {
							n.LabelMatchers[i] = labels.MustNewMatcher(m.Type, m.Name, strings.Join(slices.Delete(slices.Clone(alternatives), j, j+1), "|"))
						}
					}
				}
			}
			return nil
		})
		if number <= wanted {
			return all
		}
		all = append(all, parsed.String())
	}
}

// rewritten is a file of rules with another expression in it.
func rewritten(t *testing.T, path, from, to string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file any
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.(map[string]any)["groups"].([]any) {
		for _, rule := range group.(map[string]any)["rules"].([]any) {
			if fields := rule.(map[string]any); fields["expr"] == from {
				fields["expr"] = to
			}
		}
	}
	if data, err = yaml.Marshal(file); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// play evaluates an alert of the rules in a file over a history and returns at which steps it fires, and its labels at the end.
func (h history) play(t *testing.T, r rule, path, series string) (fired []bool, of labels.Labels) {
	t.Helper()
	step, length := cmp.Or(h.step, time.Minute), h.length
	if length == 0 {
		length = time.Hour
		if wait, err := model.ParseDuration(r.For); err == nil {
			length += time.Duration(wait)
		}
		length = min(length, time.Duration(samples(series))*step)
	}
	series = strings.NewReplacer("{L ", `{namespace="staging", webhook="support", pod="a", `, "{O ", `{namespace="staging", name="support", pod="o", `).Replace(series)
	storage := promqltest.LoadedStorage(t, "load "+model.Duration(step).String()+"\n  "+series)
	e := evaluate(t, storage, path, r.Alert)
	for at := time.Duration(0); at <= length; at += step {
		fired = append(fired, len(e.at(time.Unix(0, 0).Add(at))) > 0)
	}
	return fired, e.rules.Labels(r.Alert)
}

// samples is a lower bound of how many samples each series of a history has.
func samples(series string) int {
	most := 1_000_000
	for line := range strings.Lines(series) {
		n := 0
		for _, part := range regexp.MustCompile(`x([0-9]+)`).FindAllStringSubmatch(line[strings.IndexByte(line, '}'):], -1) {
			count, _ := strconv.Atoi(part[1])
			n += count
		}
		most = min(most, n)
	}
	return most
}

type rule struct {
	Alert, Expr, For string
	Annotations      struct{ Summary string }
}

// readRules returns the rules that the chart renders.
func readRules(t *testing.T) []rule {
	t.Helper()
	data, err := os.ReadFile(chartRules(t))
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
