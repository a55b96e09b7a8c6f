package chart

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// A wiring is the effect of one value on the manifest.
type wiring struct {
	// With are values, in YAML, without which this one has no effect.
	With string `json:"with"`
	// Set is the value. A suffix after a space in a row's name distinguishes two rows of one value.
	Set any `json:"set"`
	// Changes has, for each object that changes, the fields that do and what they become; "gone" and "new" stand for whole objects, and "…" for any text.
	// The object "*" is every one that the manifest has.
	Changes map[string]any `json:"changes"`
}

// Every value of values.yaml, changed alone, has exactly the effect in its row of testdata/wiring.yaml. A value without a row fails.
func TestEveryValueReachesWhereItActs(t *testing.T) {
	t.Parallel()
	needHelm(t)
	var defaults map[string]any
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "values.yaml")), &defaults); err != nil {
		t.Fatal(err)
	}
	var rows map[string]wiring
	if err := yaml.UnmarshalStrict([]byte(file(t, "testdata/wiring.yaml")), &rows); err != nil {
		t.Fatal(err)
	}
	values, found := leaves("", defaults), map[string]bool{}
	for name, row := range rows {
		path, _, _ := strings.Cut(name, " ")
		found[path] = true
		if !slices.Contains(values, path) {
			t.Errorf("testdata/wiring.yaml has a row for %s, which values.yaml does not have", path)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := json.Marshal(row.Set)
			if err != nil {
				t.Fatal(err)
			}
			after := manifest(t, row.With, "--set-json", path+"="+string(set))
			got := changes(manifest(t, row.With), after)
			if every, there := row.Changes["*"].(map[string]any); there {
				for object := range after {
					fields, _ := got[object].(map[string]any)
					for field, want := range every {
						if fields[field] != want {
							t.Errorf("%s: %s is %v, want %v", object, field, fields[field], want)
						}
						delete(fields, field)
					}
					if len(fields) == 0 {
						delete(got, object)
					}
				}
				delete(row.Changes, "*")
			}
			anyText := cmp.FilterValues(func(a, b any) bool { return a == "…" || b == "…" }, cmp.Ignore())
			if diff := cmp.Diff(row.Changes, got, anyText); diff != "" {
				t.Errorf("(-row +rendered):\n%s", diff)
			}
		})
	}
	for _, path := range values {
		if !found[path] {
			t.Errorf("%s has no row in testdata/wiring.yaml: say there what it changes", path)
		}
	}
}

// leaves are the paths of values below which there are none.
func leaves(at string, values map[string]any) []string {
	var list []string
	for name, value := range values {
		if nested, ok := value.(map[string]any); ok && len(nested) > 0 {
			list = append(list, leaves(at+name+".", nested)...)
			continue
		}
		list = append(list, at+name)
	}
	slices.Sort(list)
	return list
}

// manifest is the result of rendering: object → field → value.
func manifest(t *testing.T, values string, args ...string) map[string]map[string]any {
	t.Helper()
	key := fmt.Sprint("manifest of ", values, args)
	if known, there := once.Load(key); there {
		return known.(map[string]map[string]any)
	}
	// A password, or each rendering makes another; and the Job that is there only if the CRD is not kept.
	text, err := render(t, chartDir, values, append([]string{"--set-json", `redis.bundled.password="abcdefghijklmnop0123"`, "--set-json", "crds.keep=false"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]map[string]any{}
	defer once.Store(key, objects)
	for _, document := range documents(text) {
		var object struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
		}
		var whole any
		for _, into := range []any{&object, &whole} {
			if err := yaml.Unmarshal([]byte(document), into); err != nil {
				t.Fatal(err)
			}
		}
		name := object.Kind + " " + object.Metadata.Name
		if n := object.Metadata.Namespace; n != "" && n != namespace {
			name += " in " + n
		}
		fields := map[string]any{}
		flatten("", whole, fields)
		objects[name] = fields
	}
	return objects
}

// flatten writes the fields of a value by their paths. Members of a list go by their name, arguments by their flag.
func flatten(at string, value any, into map[string]any) {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 {
			into[strings.TrimPrefix(at, ".")] = "{}"
		}
		for key, member := range v {
			flatten(at+"."+key, member, into)
		}
	case []any:
		for i, member := range v {
			key := fmt.Sprint(i)
			if named, ok := member.(map[string]any); ok && named["name"] != nil {
				key = fmt.Sprint(named["name"])
			} else if argument, ok := member.(string); ok && strings.HasPrefix(argument, "--") {
				flag, rest, _ := strings.Cut(argument, "=")
				key, member = flag, rest
			}
			flatten(at+"."+key, member, into)
		}
	default:
		into[strings.TrimPrefix(at, ".")] = v
	}
}

// changes are the objects and fields that differ, with their new values; a removed field is nil.
func changes(before, after map[string]map[string]any) map[string]any {
	found := map[string]any{}
	for name := range before {
		if _, there := after[name]; !there {
			found[name] = "gone"
		}
	}
	for name, fields := range after {
		was, there := before[name]
		if !there {
			found[name] = "new"
			continue
		}
		changed := map[string]any{}
		for field, value := range fields {
			if before, there := was[field]; !there || before != value {
				changed[field] = value
			}
		}
		for field := range was {
			if _, there := fields[field]; !there {
				changed[field] = nil
			}
		}
		if len(changed) > 0 {
			found[name] = changed
		}
	}
	return found
}

// Null removes the chart's own part of a security context, and a field within one replaces that field only: what is added to capabilities leaves those dropped.
func TestSecurityContextsCanBeReduced(t *testing.T) {
	t.Parallel()
	text, err := render(t, chartDir, "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}\ncontainerSecurityContext: {runAsNonRoot: null, capabilities: {add: [NET_BIND_SERVICE]}}")
	if err != nil {
		t.Fatal(err)
	}
	_, deployment, _ := strings.Cut(text, "kind: Deployment")
	deployment, _, _ = strings.Cut(deployment, "\n---")
	for _, gone := range []string{"runAsUser", "runAsGroup", "fsGroup", "null"} {
		if strings.Contains(deployment, gone) {
			t.Errorf("%s is still there:\n%s", gone, deployment)
		}
	}
	for _, stays := range []string{"runAsNonRoot: true", "seccompProfile", "readOnlyRootFilesystem: true", "- NET_BIND_SERVICE", "- ALL"} {
		if strings.Count(deployment, stays) != 1 {
			t.Errorf("%s is there %d times:\n%s", stays, strings.Count(deployment, stays), deployment)
		}
	}
}
