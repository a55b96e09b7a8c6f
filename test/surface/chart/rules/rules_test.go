// Package rules holds the test of the chart's alerts and panels against Prometheus's own engine. It is a module of its own, so that the operator
// does not depend on Prometheus.
package rules

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/promqltest"
	"sigs.k8s.io/yaml"
)

// history of the series that an alert is about, in samples a step apart. {L stands for the labels of a receiver's series, {O of a webhook's.
type history struct {
	fires, silent string
	// step is a minute where it is zero, and length an hour more than the alert must wait.
	step, length time.Duration
}

// Each alert has a history in which it fires at the end, and one in which it stays silent throughout.
var cases = map[string]history{
	"HeymarketReceiversGone": {
		fires: `heymarket_webhook_receivers_ready{O } 2x30 0x30
		 heymarket_webhook_receivers_wanted{O } 2x60`,
		silent: `heymarket_webhook_receivers_ready{O } 2x30 1x10 0x1 2x20
		 heymarket_webhook_receivers_wanted{O } 2x60`,
	},
	"HeymarketReceiversMissing": {
		fires: `heymarket_webhook_receivers_ready{O } 3x30 1x30
		 heymarket_webhook_receivers_wanted{O } 3x60`,
		silent: `heymarket_webhook_receivers_ready{O } 3x30 2x10 3x10 0x20
		 heymarket_webhook_receivers_wanted{O } 3x60`,
	},
	"HeymarketWebhookNotReady": {
		fires: `heymarket_webhook_condition{O type="Ready", status="False", reason="RolloutStuck"} _x30 1x30`,
		silent: `heymarket_webhook_condition{O type="Ready", status="True", reason="Ready"} 1x60
		 heymarket_webhook_condition{O type="Scaled", status="False", reason="KEDAMissing"} 1x60`,
	},
	"HeymarketNotReachable": {
		fires: `heymarket_webhook_condition{O type="Reachable", status="False", reason="CertificateInvalid"} _x30 1x30`,
		silent: `heymarket_webhook_condition{O type="Reachable", status="False", reason="NotConnected"} 1x60
		 heymarket_webhook_condition{O type="Reachable", status="True", reason="CertificateEnding"} 1x60
		 heymarket_webhook_condition{O type="Reachable", status="False", reason="RouteElsewhere"} 1x10 stale _x50`,
	},
	"HeymarketCertificateEnding": {
		fires: `heymarket_webhook_condition{O type="Reachable", status="True", reason="CertificateEnding"} 1x90`,
		silent: `heymarket_webhook_condition{O type="Reachable", status="True", reason="Reachable"} 1x90
		 heymarket_webhook_condition{O type="Reachable", status="False", reason="CertificateInvalid"} 1x90`,
	},
	"HeymarketConfigurationRejected": {
		fires:  `heymarket_receiver_config_reloads_total{L outcome="rejected"} 0x50 1x10`,
		silent: `heymarket_receiver_config_reloads_total{L outcome="applied"} 0+1x60`,
	},
	"HeymarketOperatorAway": {
		fires: `controller_runtime_active_workers{controller="heymarketwebhook"} 0x40 stale _x40`,
		silent: `controller_runtime_active_workers{controller="heymarketwebhook"} 0x80
		 heymarket_receiver_durable{L } 1x80`,
	},
	"HeymarketEventsRefused": {
		fires: `heymarket_receiver_requests_total{L result="refused", reason="internal"} 0x50 1+1x10`,
		silent: `heymarket_receiver_requests_total{L result="refused", reason="token"} 0+9x60
		 heymarket_receiver_requests_total{L result="refused", reason="backlog"} 0x30 1x30
		 heymarket_receiver_requests_total{L result="stored", reason=""} 0+9x60`,
	},
	"HeymarketRequestsRejected": {
		fires: `heymarket_receiver_requests_total{L result="refused", reason="token"} 0+1x60`,
		silent: `heymarket_receiver_requests_total{L result="refused", reason="path"} 0+9x60
		 heymarket_receiver_requests_total{L result="refused", reason="token"} 5x60
		 heymarket_receiver_requests_total{L result="stored", reason=""} 0+9x60`,
	},
	"HeymarketOldestEvent": {
		fires:  `heymarket_receiver_oldest_event_age_seconds{L target="crm", lane="consent"} 0+60x60`,
		silent: `heymarket_receiver_oldest_event_age_seconds{L target="crm", lane="general"} 0+60x15 0x45`,
	},
	"HeymarketBacklogGrowing": {
		fires: `heymarket_receiver_events_pending{L target="crm"} 0+50x60`,
		silent: `heymarket_receiver_events_pending{L target="crm"} 5000-50x60
		 heymarket_receiver_events_pending{L target="erp"} 0+1x60`,
	},
	// One event, whose retries come ten minutes apart: the circuit stays closed.
	"HeymarketTargetDown": {
		fires: `heymarket_receiver_target_failing{L target="crm", class="Timeout"} _x30 1x30
		 heymarket_receiver_target_circuit{L target="crm", state="Open"} 0x60
		 heymarket_receiver_attempts_total{L target="crm", status="204"} 7x60`,
		silent: `heymarket_receiver_target_failing{L target="crm", class="ServerError"} 1x60
		 heymarket_receiver_target_circuit{L target="crm", state="Closed"} 1x60
		 heymarket_receiver_attempts_total{L target="crm", status="503"} 0+2x60
		 heymarket_receiver_attempts_total{L target="crm", status="204"} 0+2x60`,
	},
	"HeymarketAccountsDoNotAddUp": {
		fires: `heymarket_receiver_events_unaccounted{L target="crm"} 0x40 -3x20`,
		silent: `heymarket_receiver_events_unaccounted{L target="crm"} 0x60
		 heymarket_receiver_account_stored_total{L target="crm"} 0+1x60`,
	},
	"HeymarketTokenRotationOpen": {
		fires:  `heymarket_receiver_tokens{L } 2x160`,
		silent: `heymarket_receiver_tokens{L } 2x140 1x20`,
		step:   30 * time.Minute, length: 76 * time.Hour,
	},
	"HeymarketRedisDown": {
		fires:  `heymarket_receiver_redis_up{L } 1x50 0x10`,
		silent: `heymarket_receiver_redis_up{L } 1x60`,
	},
	"HeymarketRedisNotDurable": {
		fires: `heymarket_receiver_durable{L } 1x50 0x10
		 heymarket_receiver_redis_up{L } 1x60`,
		silent: `heymarket_receiver_durable{L } 1x30 0x30
		 heymarket_receiver_redis_up{L } 1x30 0x30`,
	},
	"HeymarketDeadLetters": {
		fires:  `heymarket_receiver_dead_letters{L target="crm"} 0x50 1x10`,
		silent: `heymarket_receiver_dead_letters{L target="crm"} 7x30 0x30`,
	},
	"HeymarketDeadLettersMany": {
		fires: `heymarket_receiver_dead_letters{L target="crm"} 0x30 9x30
		 heymarket_receiver_dead_letter_limit{L } 10x60`,
		silent: `heymarket_receiver_dead_letters{L target="crm"} 8x60
		 heymarket_receiver_dead_letter_limit{L } 10x60`,
	},
	"HeymarketDeadLettersFull": {
		fires: `heymarket_receiver_dead_letters{L target="crm"} 9x30 10x30
		 heymarket_receiver_dead_letter_limit{L } 10x60`,
		silent: `heymarket_receiver_dead_letters{L target="crm"} 9x60
		 heymarket_receiver_dead_letters{L target="erp"} 0x60
		 heymarket_receiver_dead_letter_limit{L } 10x60`,
	},
	"HeymarketDeadLettersExpire": {
		fires: `heymarket_receiver_oldest_dead_letter_age_seconds{L target="crm"} 0+20x60
		 heymarket_receiver_dead_letter_retention_seconds{L } 1000x60`,
		silent: `heymarket_receiver_oldest_dead_letter_age_seconds{L target="crm"} 0+20x40 0x20
		 heymarket_receiver_dead_letter_retention_seconds{L } 1000x60`,
	},
	"HeymarketAcceptedBudgetBurnsFast":    {fires: refused(20), silent: refused(5)},
	"HeymarketAcceptedBudgetBurnsSlowly":  {fires: refused(2), silent: refused(0)},
	"HeymarketDeliveredBudgetBurnsFast":   {fires: late(20), silent: late(2)},
	"HeymarketDeliveredBudgetBurnsSlowly": {fires: late(2), silent: late(0)},
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
			if fired := h.play(t, rule, h.fires); !fired[len(fired)-1] {
				t.Error("it does not fire at the end")
			}
			if fired := h.play(t, rule, h.silent); slices.Contains(fired, true) {
				t.Errorf("it is not silent; step %d is the first at which it fires", slices.Index(fired, true))
			}
		})
	}
	for alert := range cases {
		if !tried[alert] {
			t.Errorf("there is no alert %s", alert)
		}
	}
}

// play evaluates an alert over a history and returns at which steps it fires.
func (h history) play(t *testing.T, r rule, series string) (fired []bool) {
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
	e := evaluate(t, storage, r.Alert)
	for at := time.Duration(0); at <= length; at += step {
		fired = append(fired, len(e.at(time.Unix(0, 0).Add(at))) > 0)
	}
	return fired
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

type rule struct{ Alert, Expr, For string }

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
