//go:build neighbours

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/test/support/quickstart"
)

// scrape is a job of Prometheus's configuration.
type scrape map[string]any

var notInLabels = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// keep is a relabeling that drops targets without these values.
func keep(regex string, labels ...string) map[string]any {
	return map[string]any{"action": "keep", "source_labels": labels, "regex": regex}
}

// scrapeOf translates a monitor as the Prometheus operator does: where targets are, which of them the selector and the port choose, and what they are called.
// The role is pod or endpointslice; kind is what the selector speaks of.
func scrapeOf(job, role, kind string, in monitoringv1.NamespaceSelector, own string, selector metav1.LabelSelector, port map[string]any) scrape {
	namespaces := map[string]any{"names": in.MatchNames}
	if in.Any {
		namespaces = map[string]any{}
	} else if len(in.MatchNames) == 0 {
		namespaces = map[string]any{"names": []string{own}}
	}
	relabelings := []any{map[string]any{"action": "drop", "source_labels": []string{"__meta_kubernetes_pod_phase"}, "regex": "(Failed|Succeeded)"}}
	for _, key := range slices.Sorted(maps.Keys(selector.MatchLabels)) {
		name := notInLabels.ReplaceAllString(key, "_")
		relabelings = append(relabelings, keep("("+regexp.QuoteMeta(selector.MatchLabels[key])+");true",
			"__meta_kubernetes_"+kind+"_label_"+name, "__meta_kubernetes_"+kind+"_labelpresent_"+name))
	}
	relabelings = append(relabelings, port)
	for to, from := range map[string]string{"namespace": "namespace", "service": "service_name", "pod": "pod_name", "container": "pod_container_name"} {
		relabelings = append(relabelings, map[string]any{"source_labels": []string{"__meta_kubernetes_" + from}, "target_label": to})
	}
	return scrape{
		"job_name": job, "relabel_configs": relabelings,
		"kubernetes_sd_configs": []any{map[string]any{"role": role, "namespaces": namespaces}},
	}
}

// with adds what a monitor says of how to scrape.
func (s scrape) with(honor bool, interval, timeout monitoringv1.Duration, path string, relabelings, metrics []monitoringv1.RelabelConfig) scrape {
	s["honor_labels"] = honor
	for key, value := range map[string]string{"scrape_interval": string(interval), "scrape_timeout": string(timeout), "metrics_path": path} {
		if value != "" {
			s[key] = value
		}
	}
	for _, c := range relabelings {
		s["relabel_configs"] = append(s["relabel_configs"].([]any), relabeling(c))
	}
	var after []any
	for _, c := range metrics {
		after = append(after, relabeling(c))
	}
	s["metric_relabel_configs"] = after
	return s
}

func relabeling(c monitoringv1.RelabelConfig) map[string]any {
	out := map[string]any{}
	if len(c.SourceLabels) > 0 {
		out["source_labels"] = c.SourceLabels
	}
	for key, value := range map[string]string{"action": c.Action, "regex": c.Regex, "target_label": c.TargetLabel} {
		if value != "" {
			out[key] = value
		}
	}
	if c.Replacement != nil {
		out["replacement"] = *c.Replacement
	}
	return out
}

// scrapes are the jobs of the monitors that the chart renders, and services what it renders for them beside.
func scrapes(t *testing.T, rendered string) (jobs []scrape, services string) {
	t.Helper()
	for document := range strings.SplitSeq(rendered, "\n---\n") {
		var is metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &is); err != nil {
			t.Fatal(err)
		}
		switch is.Kind {
		case "Service":
			if strings.Contains(document, "app.kubernetes.io/component: metrics") {
				services += "---\n" + document + "\n"
			}
		case "PodMonitor":
			var m monitoringv1.PodMonitor
			if err := yaml.UnmarshalStrict([]byte(document), &m); err != nil {
				t.Fatal(err)
			}
			for _, e := range m.Spec.PodMetricsEndpoints {
				port := keep(regexp.QuoteMeta(*e.Port), "__meta_kubernetes_pod_container_port_name")
				jobs = append(jobs, scrapeOf("podMonitor/"+m.Name, "pod", "pod", m.Spec.NamespaceSelector, m.Namespace, m.Spec.Selector, port).
					with(e.HonorLabels, e.Interval, e.ScrapeTimeout, e.Path, e.RelabelConfigs, e.MetricRelabelConfigs))
			}
		case "ServiceMonitor":
			var m monitoringv1.ServiceMonitor
			if err := yaml.UnmarshalStrict([]byte(document), &m); err != nil {
				t.Fatal(err)
			}
			for _, e := range m.Spec.Endpoints {
				port := keep(regexp.QuoteMeta(e.Port), "__meta_kubernetes_endpointslice_port_name")
				if e.Port == "" {
					port = keep(regexp.QuoteMeta(e.TargetPort.String()), "__meta_kubernetes_pod_container_port_name")
				}
				jobs = append(jobs, scrapeOf("serviceMonitor/"+m.Name, "endpointslice", "service", m.Spec.NamespaceSelector, m.Namespace, m.Spec.Selector, port).
					with(e.HonorLabels, e.Interval, e.ScrapeTimeout, e.Path, e.RelabelConfigs, e.MetricRelabelConfigs))
			}
		}
	}
	return jobs, services
}

// series are the label sets that an expression selects in Prometheus, with their values.
func series(t *testing.T, expression string) []string {
	t.Helper()
	text := kubectl(t, "", "get", "--raw", "/api/v1/namespaces/prometheus/services/prometheus:9090/proxy/api/v1/query?query="+url.QueryEscape(expression))
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, found := range answer.Data.Result {
		var labels []string
		for _, name := range slices.Sorted(maps.Keys(found.Metric)) {
			labels = append(labels, fmt.Sprintf("%s=%q", name, found.Metric[name]))
		}
		out = append(out, fmt.Sprintf("{%s} %v", strings.Join(labels, ", "), found.Value[1]))
	}
	return out
}

// scraped installs Prometheus with the jobs of all four monitors, by Pods and by Services, and checks that the series arrive under the names of the webhook.
func (s scene) scraped(t *testing.T, r release) {
	t.Helper()
	const knobs = `{enabled: true, interval: 5s, scrapeTimeout: 4s, relabelings: [{targetLabel: team, replacement: messaging}]}`
	var jobs []scrape
	for _, monitors := range []string{"monitoring: {podMonitor: " + knobs + "}", "monitoring: {serviceMonitor: " + knobs + "}"} {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(monitors), 0o600); err != nil {
			t.Fatal(err)
		}
		rendered, err := r.run(t.Context(), "template", filepath.Join(driver.Root, "charts", "heymarket-operator"), "--set=namespaces={"+s.namespace+"}", "--values="+file)
		if err != nil {
			t.Fatal(err)
		}
		found, services := scrapes(t, rendered)
		if services != "" {
			kubectl(t, services, "apply", "--server-side", "--namespace="+r.namespace, "-f", "-")
		}
		jobs = append(jobs, found...)
	}
	if len(jobs) != 4 {
		t.Fatalf("the chart renders %d monitors, want 4", len(jobs))
	}
	config, err := yaml.Marshal(map[string]any{"scrape_configs": jobs})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "", "create", "namespace", "prometheus")
	kubectl(t, "", "create", "configmap", "prometheus", "--namespace=prometheus", "--from-file="+file)
	install(t, neighbour(t, "prometheus.yaml"), []string{"prometheus"}, "prometheus/deployment/prometheus")
	t.Cleanup(func() { kubectl(t, "", "delete", "namespace", "prometheus", "--wait=false") })

	// Two receivers and the manager, each by its Pod and by its Service.
	var up []string
	err = quickstart.Poll(t.Context(), 2*time.Minute, func(context.Context) (bool, error) {
		up = series(t, `count by (job, namespace, team) (up == 1)`)
		return len(up) == 4 && len(series(t, "up == 0")) == 0 && len(series(t, `up == 1`)) == 6, nil
	})
	t.Logf("up, by job:\n%s", strings.Join(up, "\n"))
	if err != nil {
		t.Fatalf("Prometheus scrapes %q; down: %q: %v", series(t, "up == 1"), series(t, "up == 0"), err)
	}
	own := fmt.Sprintf(`namespace=%q, webhook=%q`, s.namespace, quickstart.WebhookName)
	for expression, want := range map[string]int{
		// Series of receivers are the webhook's, and carry the relabeling of the values.
		`sum by (job) (heymarket_receiver_events_delivered_total{` + own + `, team="messaging"}) == 1`:                                       2,
		`{__name__=~"heymarket_receiver_.+", namespace!="` + s.namespace + `"} or {__name__=~"heymarket_receiver_.+", exported_webhook!=""}`: 0,
		// Those of the manager say the namespace of the webhook and not its own.
		fmt.Sprintf(`heymarket_webhook_condition{namespace=%q, name=%q, type="Ready", status="True"} == 1`, s.namespace, quickstart.WebhookName): 2,
	} {
		var got []string
		err := quickstart.Poll(t.Context(), 30*time.Second, func(context.Context) (bool, error) {
			got = series(t, expression)
			return len(got) == want, nil
		})
		t.Logf("%s\n%s", expression, strings.Join(got, "\n"))
		if err != nil {
			t.Errorf("%s: %d series, want %d", expression, len(got), want)
		}
	}
	targets := kubectl(t, "", "get", "--raw", "/api/v1/namespaces/prometheus/services/prometheus:9090/proxy/api/v1/targets?state=active")
	if n := strings.Count(targets, `"scrapeTimeout":"4s"`); n != 6 {
		t.Errorf("%d targets have the timeout of the values, want 6: %s", n, targets)
	}
}
