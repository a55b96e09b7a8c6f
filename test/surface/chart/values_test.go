package chart

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// odd are texts that YAML reads as something else where they are not quoted.
var odd = []string{"123", "1e3", "0x1f", "0b1", "true", "null", "on", "yes", "1.5", "2026-11-28"}

// oddValues gives every text of the schema an odd value that it takes, and returns how many have one.
func oddValues(t *testing.T, root, s schema, name string, defaults any) (values any, changed int) {
	t.Helper()
	if ref, ok := s["$ref"].(string); ok {
		s = root["definitions"].(schema)[strings.TrimPrefix(ref, "#/definitions/")].(schema)
	}
	if defaults == nil {
		return nil, 0
	}
	if properties, ok := s["properties"].(schema); ok {
		out := map[string]any{}
		for property, of := range properties {
			was, there := defaults.(map[string]any)[property]
			if !there {
				continue
			}
			value, n := oddValues(t, root, of.(schema), name, was)
			out[property], changed = value, changed+n
		}
		return out, changed
	}
	_, isText := defaults.(string)
	_, enum := s["enum"]
	pattern, _ := s["pattern"].(string)
	if !isText || enum || pattern != "" && !regexp.MustCompile(pattern).MatchString(name) {
		return defaults, 0
	}
	return name, 1
}

// A name that looks like a number, a boolean or null stays a string, wherever it is.
func TestNamesThatLookLikeNumbersStayTexts(t *testing.T) {
	t.Parallel()
	var defaults map[string]any
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "values.yaml")), &defaults); err != nil {
		t.Fatal(err)
	}
	for _, name := range odd {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := readSchema(t)
			values, changed := oddValues(t, root, root, name, defaults)
			if changed < 5 {
				t.Fatalf("%d values take it; the schema is not read rightly", changed)
			}
			v := values.(map[string]any)
			for path, change := range map[string]func(map[string]any){
				"alone":     func(map[string]any) {},
				"monitored": func(v map[string]any) { v["monitoring"] = monitored() },
				"own Redis": func(v map[string]any) {
					v["redis"] = map[string]any{"existingSecret": map[string]any{"name": "redis", "key": name}}
				},
				"with a list": func(v map[string]any) { v["imagePullSecrets"] = []any{map[string]any{"name": "x" + name}} },
			} {
				copied := maps.Clone(v)
				change(copied)
				if path != "monitored" {
					copied["monitoring"] = defaults["monitoring"]
				}
				if path != "own Redis" {
					copied["redis"] = defaults["redis"]
				}
				text, err := json.Marshal(copied)
				if err != nil {
					t.Fatal(err)
				}
				rendered(t, string(text))
			}
		})
	}
}

// monitored lets every monitor be rendered, without the values that only some versions take.
func monitored() map[string]any {
	return map[string]any{"serviceMonitor": map[string]any{"enabled": true}, "podMonitor": map[string]any{"enabled": true}, "prometheusRule": map[string]any{"enabled": true}}
}

// The same for the release, its namespace, and the Secrets and classes that are named.
func TestOddReleases(t *testing.T) {
	t.Parallel()
	path := needHelm(t)
	for _, name := range []string{"123", "1e3", "0x1f", "true", "null", "on", "1.5", "my.release", "a.b.c"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := strings.ReplaceAll(name, ".", "-")
			values := fmt.Sprintf(`{"redis": {"existingSecret": {"name": %[1]q, "key": %[1]q}, "caSecret": {"name": %[1]q, "key": %[1]q}},
 "serviceAccount": {"name": %[1]q}, "ingressClass": %[1]q, "priorityClassName": %[1]q, "imagePullSecrets": [{"name": %[1]q}],
 "namespaces": [%[2]q], "image": {"tag": %[1]q}, "commonLabels": {"team": %[1]q}, "podAnnotations": {"note": %[1]q}, "nodeSelector": {"zone": %[1]q}}`, name, ns)
			for what, with := range map[string]string{"named": values, "plain": "{}"} {
				text, err := helm(t.Context(), path, t.TempDir(), with, "template", name, chartDir, "--namespace", ns, "--values", "-")
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				objects, err := decode(text)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				for _, o := range objects {
					if _, crd := o.(*apiextensionsv1.CustomResourceDefinition); crd {
						continue
					}
					kind := fmt.Sprintf("%T", o)
					if wrong := validation.IsDNS1035Label(o.GetName()); what == "plain" && len(wrong) > 0 {
						t.Errorf("%s %s: %v", kind, o.GetName(), wrong)
					}
					if n := o.GetNamespace(); n != "" && n != ns {
						t.Errorf("%s %s is in %s", kind, o.GetName(), n)
					}
				}
			}
		})
	}
}

// A blank value, or null, is the default, at every depth.
func TestNullIsTheDefault(t *testing.T) {
	t.Parallel()
	var defaults map[string]any
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "values.yaml")), &defaults); err != nil {
		t.Fatal(err)
	}
	want, err := render(t, chartDir, "redis: {bundled: {password: sixteenletters123}}")
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	var walk func(at string, values map[string]any)
	walk = func(at string, values map[string]any) {
		for name, value := range values {
			// Names of a map in which users have their own: null removes one.
			if strings.HasSuffix(at, ".limits.") || strings.HasSuffix(at, ".requests.") || strings.HasSuffix(at, ".labels.") {
				continue
			}
			if at+name == "redis" || at+name == "redis.bundled" || at+name == "redis.bundled.password" {
				if nested, ok := value.(map[string]any); ok {
					walk(at+name+".", nested)
				}
				continue
			}
			paths = append(paths, at+name)
			if nested, ok := value.(map[string]any); ok {
				walk(at+name+".", nested)
			}
		}
	}
	walk("", defaults)
	slices.Sort(paths)
	// All on one level together, so that this takes seconds; a path within another one makes it no map, so each depth alone.
	for depth := range 5 {
		args := []string{}
		for _, path := range paths {
			if strings.Count(path, ".") == depth {
				args = append(args, "--set", path+"=null")
			}
		}
		if len(args) == 0 {
			continue
		}
		got, err := render(t, chartDir, "redis: {bundled: {password: sixteenletters123}}", args...)
		if err != nil {
			t.Fatalf("null at depth %d: %v", depth, err)
		}
		if got != want {
			t.Errorf("null at depth %d renders something else than the default", depth)
		}
	}
	if got, err := render(t, chartDir, "podLabels:\nx-anchors: &a {a: b}\ntraces:\nredis: {bundled: {password: sixteenletters123}}"); err != nil || got != want {
		t.Errorf("blank values, and an anchor: %v", err)
	}
}

// A later values file removes what an earlier one added to a user's own map, by null: a label, a field of the strategy.
func TestNullRemovesWhatUsersAdded(t *testing.T) {
	t.Parallel()
	var defaults map[string]any
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "values.yaml")), &defaults); err != nil {
		t.Fatal(err)
	}
	root, found := readSchema(t), 0
	var nulls func(at string, s schema, defaults map[string]any) map[string]any
	nulls = func(at string, s schema, defaults map[string]any) map[string]any {
		values := map[string]any{}
		for name, value := range defaults {
			nested, isMap := value.(map[string]any)
			// There null removes a field of the chart's own.
			if !isMap || slices.Contains([]string{"podSecurityContext", "containerSecurityContext", "livenessProbe"}, name) {
				continue
			}
			of := s["properties"].(schema)[name].(schema)
			if ref, ok := of["$ref"].(string); ok {
				of = root["definitions"].(schema)[strings.TrimPrefix(ref, "#/definitions/")].(schema)
			}
			if len(nested) > 0 && of["properties"] != nil {
				values[name] = nulls(at+name+".", of, nested)
				continue
			}
			added := map[string]any{}
			properties, closed := of["properties"].(schema)
			for property := range properties {
				added[property] = nil
			}
			if !closed && at+name == "monitoring.prometheusRule.alerts" {
				added["HeymarketOldestEvent"] = nil
			} else if !closed {
				added["added"] = nil
			}
			values[name], found = added, found+1
		}
		return values
	}
	text, err := json.Marshal(nulls("", root, defaults))
	if err != nil {
		t.Fatal(err)
	}
	if found < 20 {
		t.Fatalf("%d maps of users; the schema is not read rightly", found)
	}
	const set = "redis.bundled.password=sixteenletters123,monitoring.podMonitor.enabled=true,monitoring.serviceMonitor.enabled=true," +
		"monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true"
	want, err := render(t, chartDir, "", "--set", set)
	if err != nil {
		t.Fatal(err)
	}
	got, err := render(t, chartDir, string(text), "--set", set)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, (-default +nulls):\n%s\nwith\n%s", err, diff, text)
	}
	if text, err := render(t, chartDir, "", "--set-json", `monitoring.dashboard={"enabled": true, "labels": {"grafana_dashboard": null, "sidecar": "yes"}}`); err != nil || strings.Contains(text, "grafana_dashboard") {
		t.Errorf("the default label cannot be removed: %v", err)
	}
}

// Values as users give them on a command line.
func TestValuesFromTheCommandLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--set", "traces.ratio=0.1"}, {"--set-string", "traces.ratio=0.1"}, {"--set-json", "traces.ratio=0.1"},
	} {
		text, err := render(t, chartDir, "", args...)
		if err != nil || !strings.Contains(text, "--traces-ratio=0.1\n") {
			t.Errorf("%v: %v", args, err)
		}
	}
	for args, want := range map[string]string{"maxBacklogBytes=64Mi": "--max-backlog-bytes=64Mi\n", "maxBacklogBytes=67108864": "--max-backlog-bytes=67108864\n"} {
		for _, set := range []string{"--set", "--set-string"} {
			text, err := render(t, chartDir, "", set, args)
			if err != nil || !strings.Contains(text, want) {
				t.Errorf("%s %s: %v", set, args, err)
			}
		}
	}
	for _, values := range []string{"maxBacklogBytes: 67108864", "resources: {requests: {cpu: 1, memory: 64Mi}}", "resources: {limits: {cpu: 0.5}}"} {
		rendered(t, values)
	}
}
