package main

import "strings"

// chosen are the labels that the two choices of the dashboard pick series by.
const chosen = `namespace=~"$namespace", webhook=~"$webhook"`

// of puts the choices into an expression, wherever a metric's labels begin with "…"; with "…hook" for the operator's metrics, whose label for a webhook is
// its name.
func of(expr string) string {
	return strings.NewReplacer("…hook", strings.ReplaceAll(chosen, "webhook=", "name="), "…", chosen).Replace(expr)
}

// namespaceDashboard is for those who look after webhooks: is each event stored and delivered, and if not, which target holds it back?
func namespaceDashboard() dashboard {
	return board("heymarket", "Heymarket webhooks", "Webhooks of one or more namespaces, target by target.",
		[]variable{
			datasourceVariable(),
			choice("namespace", "Namespace", "heymarket_receiver_requests_received_total"),
			choice("webhook", "Webhook", `heymarket_receiver_requests_received_total{namespace=~"$namespace"}`),
		},
		[]panel{
			stat("Events stored a minute", "Accepted, not a repeat, kept for at least one target.",
				of(`60 * sum(rate(heymarket_receiver_requests_total{…, result="stored"}[$__rate_interval]))`), "", 0),
			stat("Pending", "Stored, neither delivered nor dead.", of(`sum(max by (namespace, webhook, target) (heymarket_receiver_events_pending{…}))`), "orange", 1000),
			stat("Dead letters", "Given up and kept, to be looked at and replayed.", of(`sum(max by (namespace, webhook, target) (heymarket_receiver_dead_letters{…}))`), "red", 1),
			stat("Targets that take nothing", "Their circuit is open, or they answered 410: they are probed, and events wait.",
				of(`sum(max by (namespace, webhook, target) (heymarket_receiver_target_circuit{…, state!="Closed"}))`), "red", 1),
			verdict("Redis reached", "By each receiver, at its last scrape.", of(`min(heymarket_receiver_redis_up{…})`), "yes", "no"),
			verdict("Redis safe", "It evicts nothing, and writes what it confirms into its append-only file.", of(`min(heymarket_receiver_durable{…})`), "yes", "no"),
		},
		[]panel{
			graph("Requests by result", "Their sum is what came in.", "reqps", line("{{result}}", of(`sum by (result) (rate(heymarket_receiver_requests_total{…}[$__rate_interval]))`))),
			graph("Refusals by reason", "token: a wrong token. not_confirmed: Redis away or full. backlog: a target is too slow.", "reqps",
				line("{{reason}}", of(`sum by (reason) (rate(heymarket_receiver_requests_total{…, result="refused"}[$__rate_interval]))`))),
			graph("Receivers", "Ready Pods, and how many the webhooks should have, as the operator reports them.", "short",
				line("ready", of(`sum(heymarket_webhook_receivers_ready{…hook})`)), line("wanted", of(`sum(heymarket_webhook_receivers_wanted{…hook})`))),
			graph("Firing alerts", "Those of the chart's rules.", "short",
				line("{{alertname}} {{webhook}}", of(`sum by (alertname, namespace, webhook) (ALERTS{…, alertname=~"Heymarket.+", alertstate="firing"})`))),
			graph("Oldest event", "How long the oldest pending event of each target has waited.", "s",
				line("{{webhook}}/{{target}}", of(`max by (namespace, webhook, target) (heymarket_receiver_oldest_event_age_seconds{…})`))),
			graph("Burn rate of the error budgets, over an hour", "1 spends the budget of 30 days in 30 days, 14.4 spends 2% of it in an hour. The objectives are those of the chart; without it, 99.9% accepted and 99% delivered within a minute.", "short",
				line("{{webhook}} accepted", of(`max by (namespace, webhook) (heymarket:refused_events:ratio_rate1h{…}) / (1 - 99.9 / 100)`)),
				line("{{webhook}} delivered", of(`max by (namespace, webhook) (heymarket:late_events:ratio_rate1h{…}) / (1 - 99 / 100)`))),
			graph("Answer time of stored events", "From a request's header to its 200.", "s",
				line("p50", of(`histogram_quantile(0.5, sum by (le) (rate(heymarket_receiver_request_duration_seconds_bucket{…, result="stored"}[$__rate_interval])))`)),
				line("p99", of(`histogram_quantile(0.99, sum by (le) (rate(heymarket_receiver_request_duration_seconds_bucket{…, result="stored"}[$__rate_interval])))`))),
			graph("From acceptance to delivery, p99", "Retries and the wait in the queue included.", "s",
				line("{{webhook}}/{{target}}", of(`histogram_quantile(0.99, sum by (le, namespace, webhook, target) (rate(heymarket_receiver_event_age_seconds_bucket{…}[$__rate_interval])))`))),
			graph("Pending by target", "What grows without end has a target that is away or too slow.", "short",
				line("{{webhook}}/{{target}}", of(`max by (namespace, webhook, target) (heymarket_receiver_events_pending{…})`))),
			graph("Dead letters by target", "They stay as long as spec.retention says.", "short",
				line("{{webhook}}/{{target}}", of(`max by (namespace, webhook, target) (heymarket_receiver_dead_letters{…})`))),
			graph("Attempts by status", "none: no answer.", "reqps", line("{{target}} {{status}}", of(`sum by (target, status) (rate(heymarket_receiver_attempts_total{…}[$__rate_interval]))`))),
			graph("Time of an attempt, p99", "From dialing to the answer.", "s",
				line("{{webhook}}/{{target}}", of(`histogram_quantile(0.99, sum by (le, namespace, webhook, target) (rate(heymarket_receiver_attempt_duration_seconds_bucket{…}[$__rate_interval])))`))),
			graph("Stored, delivered, given up", "For each target. Delivered follows stored where all is well.", "reqps",
				line("stored", of(`sum(rate(heymarket_receiver_events_stored_total{…}[$__rate_interval]))`)),
				line("delivered", of(`sum(rate(heymarket_receiver_events_delivered_total{…}[$__rate_interval]))`)),
				line("given up", of(`sum(rate(heymarket_receiver_events_dead_total{…}[$__rate_interval]))`))),
			graph("Accounts", "Kept in Redis, over all receivers and restarts: what was stored is delivered, dead, or pending.", "short",
				line("stored", of(`sum(max by (namespace, webhook, target) (heymarket_receiver_account_stored_total{…}))`)),
				line("delivered", of(`sum(max by (namespace, webhook, target) (heymarket_receiver_account_delivered_total{…}))`)),
				line("dead", of(`sum(max by (namespace, webhook, target) (heymarket_receiver_account_dead_total{…}))`))),
			graph("Events that are unaccounted for", "Of those stored, neither delivered nor dead nor pending. Anything but 0 means that Redis lost what it had confirmed.", "short",
				line("{{webhook}}/{{target}}", of(`max by (namespace, webhook, target) (heymarket_receiver_events_unaccounted{…})`))),
			graph("Circuits that are not closed", "1 while a receiver only probes the target.", "short",
				line("{{webhook}}/{{target}} {{state}}", of(`max by (namespace, webhook, target, state) (heymarket_receiver_target_circuit{…, state!="Closed"})`))),
			graph("Deliveries by token", "When previous has stayed at nothing, spec.token.previousSecretKeyRef can go.", "reqps",
				line("{{webhook}} {{token}}", of(`sum by (namespace, webhook, token) (rate(heymarket_receiver_token_used_total{…}[$__rate_interval]))`))),
			graph("Redis safe and reached", "1: yes, for every receiver of the webhook.", "short",
				line("{{namespace}}/{{webhook}} safe", of(`min by (namespace, webhook) (heymarket_receiver_durable{…})`)),
				line("{{namespace}}/{{webhook}} reached", of(`min by (namespace, webhook) (heymarket_receiver_redis_up{…})`))),
		})
}
