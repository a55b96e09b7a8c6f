package main

// fleetDashboard is for those who look after the cluster: which namespace needs somebody? The ten that stand out are drawn, not all.
func fleetDashboard() dashboard {
	return board("heymarket-fleet", "Heymarket fleet", "All webhooks of the cluster, by namespace.",
		[]variable{datasourceVariable()},
		[]panel{
			stat("Webhooks", "Those whose receivers are scraped.", `count(count by (namespace, webhook) (heymarket_receiver_requests_received_total))`, "", 0),
			stat("Receivers", "Pods.", `count(heymarket_receiver_redis_up)`, "", 0),
			stat("Events stored a minute", "Accepted, not a repeat, kept for at least one target.", `60 * sum(rate(heymarket_receiver_requests_total{result="stored"}[$__rate_interval]))`, "", 0),
			stat("Pending", "Stored, neither delivered nor dead.", `sum(max by (namespace, webhook, target) (heymarket_receiver_events_pending))`, "orange", 10000),
			stat("Dead letters", "Given up and kept.", `sum(max by (namespace, webhook, target) (heymarket_receiver_dead_letters))`, "red", 1),
			verdict("Redis safe", "Each Redis that a receiver uses evicts nothing and keeps what it confirms.", `min(heymarket_receiver_durable)`, "yes", "no"),
		},
		[]panel{
			graph("Requests by result", "Their sum is what came in.", "reqps", line("{{result}}", `sum by (result) (rate(heymarket_receiver_requests_total[$__rate_interval]))`)),
			graph("Refusals by namespace", "The ten with the most.", "reqps",
				line("{{namespace}} {{reason}}", `topk(10, sum by (namespace, reason) (rate(heymarket_receiver_requests_total{result="refused"}[$__rate_interval])))`)),
			graph("Events stored by namespace", "The ten with the most.", "reqps",
				line("{{namespace}}", `topk(10, sum by (namespace) (rate(heymarket_receiver_requests_total{result="stored"}[$__rate_interval])))`)),
			graph("Answer time by namespace, p99", "The ten slowest. From a request's header to its 200.", "s",
				line("{{namespace}}", `topk(10, histogram_quantile(0.99, sum by (le, namespace) (rate(heymarket_receiver_request_duration_seconds_bucket{result="stored"}[$__rate_interval]))))`)),
			graph("From acceptance to delivery, p99", "The ten slowest.", "s",
				line("{{namespace}}/{{webhook}}", `topk(10, histogram_quantile(0.99, sum by (le, namespace, webhook) (rate(heymarket_receiver_event_age_seconds_bucket[$__rate_interval]))))`)),
			graph("Backlog", "The ten targets with the most pending events.", "short",
				line("{{namespace}}/{{webhook}}/{{target}}", `topk(10, max by (namespace, webhook, target) (heymarket_receiver_events_pending))`)),
			graph("Dead letters", "The ten targets with the most.", "short",
				line("{{namespace}}/{{webhook}}/{{target}}", `topk(10, max by (namespace, webhook, target) (heymarket_receiver_dead_letters))`)),
			graph("Targets that take nothing", "How many circuits are not closed.", "short",
				line("{{namespace}}", `sum by (namespace) (max by (namespace, webhook, target) (heymarket_receiver_target_circuit{state!="Closed"}))`)),
			graph("Events that are unaccounted for", "Anything but 0 means that a Redis lost what it had confirmed.", "short",
				line("{{namespace}}/{{webhook}}/{{target}}", `topk(10, max by (namespace, webhook, target) (abs(heymarket_receiver_events_unaccounted)))`)),
			graph("Receivers that reject their configuration", "Their log says what is wrong with what is mounted.", "short",
				line("{{namespace}}/{{webhook}}", `sum by (namespace, webhook) (increase(heymarket_receiver_config_reloads_total{outcome="rejected"}[$__rate_interval]))`)),
			graph("Previous tokens in use", "Rotations that are under way.", "reqps",
				line("{{namespace}}/{{webhook}}", `topk(10, sum by (namespace, webhook) (rate(heymarket_receiver_token_used_total{token="previous"}[$__rate_interval])))`)),
			graph("Redis safe and reached", "1: yes, for every receiver of the namespace.", "short",
				line("{{namespace}} safe", `min by (namespace) (heymarket_receiver_durable)`),
				line("{{namespace}} reached", `min by (namespace) (heymarket_receiver_redis_up)`)),
		})
}
