package chart

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const allMonitoring = "monitoring: {podMonitor: {enabled: true}, serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}\nnetworkPolicy: {enabled: true}"

// Every metric that a rule or a panel names is in the reference.
func TestRulesAndDashboardNameRealMetrics(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, found := range regexp.MustCompile("`((?:heymarket|controller_runtime|workqueue|rest_client)_[a-z_]+|ALERTS)`").FindAllStringSubmatch(file(t, root, "docs", "reference", "metrics.md"), -1) {
		known[found[1]] = true
	}
	objects := rendered(t, allMonitoring)
	rule := find[*monitoringv1.PrometheusRule](t, objects, "")
	expressions := map[string]string{}
	for _, group := range rule.Spec.Groups {
		for _, r := range group.Rules {
			if r.Record != "" {
				expressions["record "+r.Record] = r.Expr.String()
				known[r.Record] = true
				continue
			}
			expressions["alert "+r.Alert] = r.Expr.String()
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
				t.Errorf("alert %s lacks a summary, a description or a severity", r.Alert)
			}
		}
	}
	boards := find[*corev1.ConfigMap](t, objects, "").Data
	if len(rule.Spec.Groups) == 0 || len(boards) != 2 {
		t.Fatalf("%d groups of rules, %d dashboards", len(rule.Spec.Groups), len(boards))
	}
	for name, text := range boards {
		for what, expression := range readDashboard(t, name, text) {
			expressions[name+", "+what] = expression
		}
	}
	for where, expression := range expressions {
		named := regexp.MustCompile(`heymarket:[a-z0-9_:]+|(?:heymarket|controller_runtime|workqueue|rest_client)_[a-z_]+|ALERTS`).FindAllString(expression, -1)
		if len(named) == 0 {
			t.Errorf("%s names no metric: %s", where, expression)
		}
		for _, metric := range named {
			if !known[metric] && !known[strings.TrimSuffix(metric, "_bucket")] && !known[strings.TrimSuffix(metric, "_count")] {
				t.Errorf("%s names %s, which docs/reference/metrics.md does not know", where, metric)
			}
		}
	}
}

// Each alert links to a section of docs/alerts.md that answers the four questions of a person on call, and each section belongs
// to an alert.
func TestEveryAlertHasARunbook(t *testing.T) {
	t.Parallel()
	sections := map[string]string{}
	for _, section := range strings.Split(file(t, root, "docs", "alerts.md"), "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		if strings.HasPrefix(name, "Heymarket") {
			sections[name] = text
		}
	}
	var rows []string
	for line := range strings.Lines(file(t, root, "docs", "alerts.md")) {
		if strings.HasPrefix(line, "| [Heymarket") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	for _, group := range find[*monitoringv1.PrometheusRule](t, rendered(t, allMonitoring), "").Spec.Groups {
		for _, r := range group.Rules {
			if r.Alert == "" {
				continue
			}
			wait := ""
			if r.For != nil {
				wait = string(*r.For) + " "
			}
			name, severity, _ := strings.Cut(rows[0], "](#")
			if want := strings.ToLower(r.Alert) + ") | " + r.Labels["severity"] + " | "; name != "| ["+r.Alert || !strings.HasPrefix(severity, want) || !strings.HasSuffix(severity, " | "+wait+"|") {
				t.Errorf("the row of %s in docs/alerts.md is %s; its severity is %s, and it waits for %q", r.Alert, rows[0], r.Labels["severity"], wait)
			}
			if threshold := regexp.MustCompile(`\| (\d+) `).FindStringSubmatch(severity); threshold != nil && !strings.Contains(r.Expr.String()+"\n", " > "+threshold[1]+"\n") {
				t.Errorf("the threshold of %s in docs/alerts.md is %s, and it has the expression %s", r.Alert, threshold[1], r.Expr.String())
			}
			rows = rows[1:]
			text, there := sections[r.Alert]
			delete(sections, r.Alert)
			if !there || !strings.HasSuffix(r.Annotations["runbook_url"], "/docs/alerts.md#"+strings.ToLower(r.Alert)) {
				t.Errorf("%s: runbook_url %q, a section in docs/alerts.md: %t", r.Alert, r.Annotations["runbook_url"], there)
			}
			for _, part := range []string{"**Meaning.**", "**What is lost meanwhile.**", "**How to look.**", "**How to fix.**"} {
				if !strings.Contains(text, "\n"+part+" ") {
					t.Errorf("the section of %s has no %q", r.Alert, part)
				}
			}
		}
	}
	if len(rows) > 0 {
		t.Errorf("docs/alerts.md has rows for what is no alert: %s", rows)
	}
	for name := range sections {
		t.Errorf("docs/alerts.md has a section on %s, which is no alert", name)
	}
}

// Each alert can be changed by itself: its duration, severity, labels, and the threshold that its expression compares with.
func TestEveryAlertIsTunable(t *testing.T) {
	t.Parallel()
	var source struct {
		Groups []struct {
			Rules []struct {
				Alert, Record, Expr string
				Threshold           *float64
			}
		}
	}
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "files", "rules.yaml")), &source); err != nil {
		t.Fatal(err)
	}
	var changes []string
	thresholds := map[string]bool{}
	for _, group := range source.Groups {
		for _, r := range group.Rules {
			if r.Alert == "" {
				continue
			}
			change := fmt.Sprintf("%s: {for: 47m, severity: info, labels: {of: %s}", r.Alert, r.Alert)
			if thresholds[r.Alert] = r.Threshold != nil; r.Threshold != nil {
				change += ", threshold: 4711"
			}
			changes = append(changes, change+"}")
		}
	}
	seen := 0
	for _, group := range find[*monitoringv1.PrometheusRule](t, rendered(t, "monitoring: {prometheusRule: {enabled: true, objectives: {accepted: 47, delivered: 11}, alerts: {"+strings.Join(changes, ", ")+"}}}"), "").Spec.Groups {
		for _, r := range group.Rules {
			if r.Alert == "" {
				continue
			}
			seen++
			if r.For == nil || *r.For != "47m" || r.Labels["severity"] != "info" || r.Labels["of"] != r.Alert {
				t.Errorf("%s waits for %v and has the labels %v", r.Alert, r.For, r.Labels)
			}
			expr := r.Expr.String()
			if thresholds[r.Alert] != (strings.Count(expr, " > 4711") == 1) {
				t.Errorf("%s has a threshold: %t, and the expression %s", r.Alert, thresholds[r.Alert], expr)
			}
			for part, want := range map[string]int{"AcceptedBudget": strings.Count(expr, "* (1 - 47 / 100)"), "DeliveredBudget": strings.Count(expr, "* (1 - 11 / 100)")} {
				if strings.Contains(r.Alert, part) != (want == 4) {
					t.Errorf("%s compares %d times with this objective: %s", r.Alert, want, expr)
				}
			}
		}
	}
	if seen != len(changes) {
		t.Errorf("%d of %d alerts are rendered", seen, len(changes))
	}
}

// The recorded ratios of each kind of error differ in nothing but the window in their name, and burn rates use nothing else.
func TestEveryWindowIsRecorded(t *testing.T) {
	t.Parallel()
	recorded, of := map[string]string{}, map[string]string{}
	for _, group := range find[*monitoringv1.PrometheusRule](t, rendered(t, allMonitoring), "").Spec.Groups {
		for _, r := range group.Rules {
			if r.Record == "" {
				for _, name := range regexp.MustCompile(`heymarket:\w+:\w+`).FindAllString(r.Expr.String(), -1) {
					if recorded[name] == "" {
						t.Errorf("%s uses %s, which no rule before it records", r.Alert, name)
					}
				}
				continue
			}
			ratio, window, _ := strings.Cut(r.Record, "_rate")
			if recorded[r.Record] != "" {
				t.Errorf("%s is recorded twice", r.Record)
			}
			recorded[r.Record] = window
			if expr := strings.ReplaceAll(r.Expr.String(), "["+window+"]", "[W]"); of[ratio] == "" {
				of[ratio] = expr
			} else if of[ratio] != expr || strings.Contains(strings.ReplaceAll(expr, "[W]", ""), "[") {
				t.Errorf("%s is\n%s\nand another window is\n%s", r.Record, expr, of[ratio])
			}
		}
	}
	if len(of) != 2 || len(recorded) != 14 {
		t.Errorf("%d ratios in %d windows", len(of), len(recorded))
	}
}

// Thresholds, durations, labels and objectives of alerts can be changed, and single alerts switched off.
func TestAlertsAreTunable(t *testing.T) {
	t.Parallel()
	const change = `monitoring: {prometheusRule: {enabled: true, runbookURL: "https://wiki.example.com/alerts", alertLabels: {team: messaging}, objectives: {accepted: 99.95, delivered: 90}, alerts: {
		HeymarketOldestEvent: {threshold: 3600, for: 30m, severity: info, labels: {team: crm}}, HeymarketDeadLetters: {enabled: false}}}}`
	byName := func(values string) map[string]monitoringv1.Rule {
		rules := map[string]monitoringv1.Rule{}
		for _, group := range find[*monitoringv1.PrometheusRule](t, rendered(t, values), "").Spec.Groups {
			for _, r := range group.Rules {
				rules[r.Alert] = r
			}
		}
		return rules
	}
	before, after := byName("monitoring: {prometheusRule: {enabled: true}}"), byName(change)
	if _, there := after["HeymarketDeadLetters"]; there || len(after) != len(before)-1 {
		t.Errorf("%d alerts, and HeymarketDeadLetters among them: %t; want %d without it", len(after), there, len(before)-1)
	}
	oldest, fast := after["HeymarketOldestEvent"], after["HeymarketAcceptedBudgetBurnsFast"]
	if !strings.HasSuffix(oldest.Expr.String(), " > 3600") || *oldest.For != "30m" || oldest.Labels["severity"] != "info" || oldest.Labels["team"] != "crm" ||
		oldest.Annotations["runbook_url"] != "https://wiki.example.com/alerts#heymarketoldestevent" {
		t.Errorf("changed alert: %+v", oldest)
	}
	if fast.Labels["team"] != "messaging" || fast.Labels["severity"] != "critical" || !strings.Contains(fast.Expr.String(), "(1 - 99.95 / 100)") {
		t.Errorf("other alert: %+v", fast)
	}
	// The burn rate is drawn by the same objectives, at their defaults too: the panel has the two that are in the chart's values.
	for values, want := range map[string][]string{
		"monitoring: {dashboard: {enabled: true}}": {"ratio_rate1h / (1 - 99.9 / 100)", "ratio_rate1h / (1 - 99 / 100)"},
		"monitoring: {dashboard: {enabled: true}, prometheusRule: {objectives: {accepted: 99.95, delivered: 90}}}": {
			"ratio_rate1h / (1 - 99.95 / 100)", "ratio_rate1h / (1 - 90 / 100)",
		},
	} {
		text := find[*corev1.ConfigMap](t, rendered(t, values), "").Data["heymarket-namespace.json"]
		drawn := readDashboard(t, "heymarket-namespace.json", text)
		const panel = "panel Burn rate of the error budgets, over an hour "
		for i, expression := range want {
			numerator, divisor, _ := strings.Cut(expression, " / ")
			if got := drawn[panel+fmt.Sprint(i)]; !strings.Contains(got, numerator) || !strings.HasSuffix(got, "/ "+divisor) {
				t.Errorf("with %s the burn rate is %s, want it to be of %s", values, got, divisor)
			}
		}
	}
	for name, rule := range before {
		if strings.Contains(rule.Expr.String(), "THRESHOLD") || strings.Contains(rule.Expr.String(), "OBJECTIVE") {
			t.Errorf("%s has a placeholder left: %s", name, rule.Expr.String())
		}
	}
	for values, want := range map[string]string{
		"HeymarketOldEvent: {enabled: false}":    "The alerts are: HeymarketReceiversGone, ",
		"HeymarketReceiversGone: {threshold: 2}": "HeymarketReceiversGone has no threshold to change",
		"HeymarketOldestEvent: {thresold: 2}":    "'thresold' not allowed",
	} {
		if _, err := render(t, chartDir, "monitoring: {prometheusRule: {enabled: true, alerts: {"+values+"}}}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", values, err, want)
		}
	}
}

// panels are those that a person on call looks for, by dashboard and title, and what each shows.
var panels = map[string]map[string][]string{
	"heymarket-fleet.json": {
		"Receivers missing": {"heymarket_webhook_receivers_wanted - heymarket_webhook_receivers_ready"}, "Firing alerts": {"ALERTS"}, "Oldest event": {"heymarket_receiver_oldest_event_age_seconds"},
		"Refusals by namespace": {"heymarket_receiver_requests_total"}, "Operator: reconciles by result": {"controller_runtime_reconcile_total"},
		"Operator: errors": {"controller_runtime_reconcile_errors_total"}, "Operator: queue": {"workqueue_depth", "workqueue_queue_duration_seconds_bucket"},
		"Operator: writes to the API server": {"rest_client_requests_total"}, "Redis safe": {"heymarket_receiver_durable"},
	},
	"heymarket-namespace.json": {
		"Receivers": {"heymarket_webhook_receivers_ready", "heymarket_webhook_receivers_wanted"}, "Firing alerts": {"ALERTS"}, "Oldest event": {"heymarket_receiver_oldest_event_age_seconds"},
		"Refusals by reason": {"heymarket_receiver_requests_total"}, "Redis safe": {"heymarket_receiver_durable"}, "Redis reached": {"heymarket_receiver_redis_up"},
		"Burn rate of the error budgets, over an hour": {"heymarket:refused_events:ratio_rate1h", "heymarket:late_events:ratio_rate1h"},
		"Pending by target":                            {"heymarket_receiver_events_pending"}, "Dead letters by target": {"heymarket_receiver_dead_letters"},
	},
}

// A panel shows what it is named for: each of panels is there with its metrics. All receivers report the same accounts, which must not be added up, counters
// are drawn as rates, a panel of seconds has that unit, and what is drawn for the chosen webhook is of this one alone.
func TestPanelsShowWhatTheyAreNamedFor(t *testing.T) {
	t.Parallel()
	for name, text := range find[*corev1.ConfigMap](t, rendered(t, allMonitoring), "").Data {
		var dashboard struct {
			Panels []struct {
				Title       string
				FieldConfig struct{ Defaults struct{ Unit string } }
				Targets     []struct{ Expr string }
			}
		}
		if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
			t.Fatal(err)
		}
		missing := maps.Clone(panels[name])
		for _, panel := range dashboard.Panels {
			for i, target := range panel.Targets {
				expr := target.Expr
				if want := panels[name][panel.Title]; want != nil {
					delete(missing, panel.Title)
					if len(want) > i && !strings.Contains(expr, want[i]) || len(want) < len(panel.Targets) && len(want) > 1 {
						t.Errorf("%s, panel %q shows %s instead of %v", name, panel.Title, expr, want)
					}
				}
				for _, at := range regexp.MustCompile(`heymarket_receiver_(events_pending|dead_letters|oldest_\w+|events_unaccounted|account_\w+)\b`).FindAllStringIndex(expr, -1) {
					if before := strings.TrimSuffix(expr[:at[0]], "abs("); !strings.HasSuffix(before, "max by (namespace, webhook, target) (") {
						t.Errorf("%s, panel %q adds up what all receivers report: %s", name, panel.Title, expr)
					}
				}
				for _, at := range regexp.MustCompile(`[a-z_]+_(total|bucket)\b`).FindAllStringIndex(expr, -1) {
					counts := strings.HasSuffix(expr[:at[0]], "rate(") || strings.HasSuffix(expr[:at[0]], "increase(") || strings.HasPrefix(expr[:at[0]], "count(")
					if !counts && !strings.Contains(expr, "_account_") {
						t.Errorf("%s, panel %q draws a counter and no rate: %s", name, panel.Title, expr)
					}
				}
				if seconds := strings.Contains(expr, "_seconds") && !strings.HasPrefix(panel.Title, "Operator: queue"); seconds != (panel.FieldConfig.Defaults.Unit == "s") {
					t.Errorf("%s, panel %q has the unit %s for %s", name, panel.Title, panel.FieldConfig.Defaults.Unit, expr)
				}
				chosen := regexp.MustCompile(`namespace=~"\$namespace", (webhook|name)=~"\$webhook"`).FindAllString(expr, -1)
				selectors := regexp.MustCompile(`(ALERTS|heymarket[_:][a-z0-9_:]+)(\{|\b)`).FindAllString(expr, -1)
				if name == "heymarket-namespace.json" && len(chosen) != len(selectors) {
					t.Errorf("%s, panel %q is not of the chosen webhook alone: %s", name, panel.Title, expr)
				}
			}
		}
		for title := range missing {
			t.Errorf("%s has no panel %q", name, title)
		}
	}
}

// readDashboard returns the expressions of a dashboard by what they are for. Its panels must not overlap.
func readDashboard(t *testing.T, name, text string) map[string]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatalf("%s is no JSON: %v", name, err)
	}
	if len(dashboard.Panels) < 10 {
		t.Errorf("%s has %d panels", name, len(dashboard.Panels))
	}
	expressions := map[string]string{}
	taken := map[[2]int]string{}
	for _, panel := range dashboard.Panels {
		for x := range panel.GridPos.W {
			for y := range panel.GridPos.H {
				cell := [2]int{panel.GridPos.X + x, panel.GridPos.Y + y}
				if taken[cell] != "" {
					t.Errorf("%s: the panels %q and %q overlap", name, taken[cell], panel.Title)
				}
				taken[cell] = panel.Title
			}
		}
		for i, target := range panel.Targets {
			expressions[fmt.Sprintf("panel %s %d", panel.Title, i)] = target.Expr
		}
	}
	for _, variable := range dashboard.Templating.List {
		if variable.Name != "datasource" {
			expressions["variable "+variable.Name] = variable.Query
		}
	}
	return expressions
}

// Monitors and policies select the existing Pods, and name their ports.
func TestMonitorsAndPoliciesSelectWhatThereIs(t *testing.T) {
	t.Parallel()
	objects := rendered(t, allMonitoring)
	manager := find[*appsv1.Deployment](t, objects, "").Spec.Template
	redis := find[*appsv1.StatefulSet](t, objects, "").Spec.Template
	receiver := receiverTemplate(t)

	receivers := find[*monitoringv1.PodMonitor](t, objects, release+"-receivers")
	expect(t, "PodMonitor of the receivers", receivers.Spec.Selector, receiver, true)
	expect(t, "PodMonitor of the receivers", receivers.Spec.Selector, manager, false)
	ports(t, receiver, *receivers.Spec.PodMetricsEndpoints[0].Port)

	byService := find[*monitoringv1.ServiceMonitor](t, rendered(t, "monitoring: {serviceMonitor: {enabled: true}}"), release+"-receivers")
	expect(t, "ServiceMonitor of the receivers", byService.Spec.Selector, corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: receiver.Labels}}, true)
	ports(t, receiver, byService.Spec.Endpoints[0].TargetPort.String())

	alone := find[*monitoringv1.PodMonitor](t, rendered(t, "monitoring: {podMonitor: {enabled: true}}"), release)
	expect(t, "PodMonitor of the manager", alone.Spec.Selector, manager, true)
	expect(t, "PodMonitor of the manager", alone.Spec.Selector, redis, false)
	ports(t, manager, *alone.Spec.PodMetricsEndpoints[0].Port)

	serviceMonitor := find[*monitoringv1.ServiceMonitor](t, objects, release)
	if !alone.Spec.PodMetricsEndpoints[0].HonorLabels || !serviceMonitor.Spec.Endpoints[0].HonorLabels || receivers.Spec.PodMetricsEndpoints[0].HonorLabels {
		t.Error("the operator's series keep their label namespace, and those of receivers, which a tenant could write, do not")
	}
	for _, object := range objects {
		service, ok := object.(*corev1.Service)
		if !ok {
			continue
		}
		metrics := service.Name == release+"-metrics"
		expect(t, "ServiceMonitor and "+service.Name, serviceMonitor.Spec.Selector, corev1.PodTemplateSpec{ObjectMeta: service.ObjectMeta}, metrics)
		if metrics {
			expect(t, "Service", metav1.LabelSelector{MatchLabels: service.Spec.Selector}, manager, true)
			ports(t, manager, service.Spec.Ports[0].TargetPort.String())
			if service.Spec.Ports[0].Name != serviceMonitor.Spec.Endpoints[0].Port {
				t.Errorf("the Service's port is %s, the ServiceMonitor's %s", service.Spec.Ports[0].Name, serviceMonitor.Spec.Endpoints[0].Port)
			}
		}
	}

	policy := find[*networkingv1.NetworkPolicy](t, objects, release)
	expect(t, "NetworkPolicy of the manager", policy.Spec.PodSelector, manager, true)
	for _, ingress := range policy.Spec.Ingress {
		ports(t, manager, ingress.Ports[0].Port.String())
	}
	policy = find[*networkingv1.NetworkPolicy](t, objects, release+"-redis")
	expect(t, "NetworkPolicy of Redis", policy.Spec.PodSelector, redis, true)
	ports(t, redis, policy.Spec.Ingress[0].Ports[0].Port.String())
	expect(t, "NetworkPolicy of Redis, from", *policy.Spec.Ingress[0].From[0].PodSelector, manager, true)
	expect(t, "NetworkPolicy of Redis, from", *policy.Spec.Ingress[0].From[1].PodSelector, receiver, true)
}

// receiverTemplate is the Pod template that the operator makes, from the goldens of its own tests.
func receiverTemplate(t *testing.T) corev1.PodTemplateSpec {
	t.Helper()
	for _, document := range documents(file(t, filepath.Join(root, "internal", "controller", "desired", "testdata", "smallest.golden.yaml"))) {
		if object, _, err := strict.Decode([]byte(document), nil, nil); err == nil {
			if deployment, ok := object.(*appsv1.Deployment); ok {
				return deployment.Spec.Template
			}
		}
	}
	t.Fatal("there is no Deployment in the golden of the smallest webhook")
	return corev1.PodTemplateSpec{}
}

func expect(t *testing.T, what string, selector metav1.LabelSelector, of corev1.PodTemplateSpec, want bool) {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Matches(labels.Set(of.Labels)); got != want {
		t.Errorf("%s: %s matches %v: %t, want %t", what, s, of.Labels, got, want)
	}
}

func ports(t *testing.T, template corev1.PodTemplateSpec, name string) {
	t.Helper()
	if !slices.ContainsFunc(template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == name }) {
		t.Errorf("the container %s has no port named %s", template.Spec.Containers[0].Name, name)
	}
}
