// Package gitops tests the files in examples/ for GitOps tools, which determine the health of a HeymarketWebhook.
package gitops

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"sigs.k8s.io/yaml"
)

var root = filepath.Join("..", "..", "..")

// cases are webhooks as the API server shows them, and what each tool should make of them.
var cases = map[string]struct {
	object string
	argo   string
	flux   string
}{
	"just made":           {`{metadata: {generation: 1}, spec: {}}`, "Progressing", "unknown"},
	"waiting for Pods":    {status(1, "RolloutInProgress", "False", "True"), "Progressing", "unknown"},
	"waiting for an IP":   {status(1, "AddressPending", "False", "True"), "Progressing", "unknown"},
	"nobody knows yet":    {status(1, "Reconciling", "Unknown", "True"), "Progressing", "unknown"},
	"ready":               {status(1, "Ready", "True", "True"), "Healthy", "current"},
	"ready and paused":    {strings.Replace(status(1, "Ready", "True", "True"), "spec: {}", "spec: {paused: true}", 1), "Suspended", "current"},
	"no token":            {status(1, "TokenSecretNotFound", "False", "False"), "Degraded", "failed"},
	"Redis forgets":       {status(1, "NotDurable", "False", "True"), "Degraded", "unknown"},
	"roll-out is stuck":   {status(1, "RolloutStuck", "False", "True"), "Degraded", "unknown"},
	"not looked at again": {status(2, "Ready", "True", "True"), "Progressing", "inProgress"},
	"being deleted":       {strings.Replace(status(1, "Ready", "True", "True"), "metadata: {", "metadata: {deletionTimestamp: '2026-11-21T09:00:00Z', ", 1), "Progressing", "current"},
}

// status is a webhook of a generation whose status speaks of the first.
func status(generation int, reason, ready, accepted string) string {
	return fmt.Sprintf(`{metadata: {generation: %d}, spec: {}, status: {observedGeneration: 1, conditions: [
  {type: Accepted, status: %q, reason: %s, message: "as below", observedGeneration: 1},
  {type: Ready, status: %q, reason: %s, message: "What a person is told.", observedGeneration: 1}]}}`, generation, accepted, reason, ready, reason)
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object
}

// The script uses no unknown reason.
func TestArgoCDKnowsTheReasons(t *testing.T) {
	t.Parallel()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "api", "v1alpha1", "conditions.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok {
			reasons = append(reasons, strings.Trim(literal.Value, `"`))
		}
		return true
	})
	named := regexp.MustCompile(`(?m)^  (\w+) = true,$`).FindAllStringSubmatch(read(t, "examples/argocd/health.lua"), -1)
	if len(named) < 5 || len(reasons) < 20 {
		t.Fatalf("%d reasons named, %d known", len(named), len(reasons))
	}
	for _, reason := range named {
		if !slices.Contains(reasons, reason[1]) {
			t.Errorf("the script knows the reason %s, which the API does not", reason[1])
		}
	}
}

// Flux evaluates inProgress, failed and current in this order; while none is true, it waits. An expression that cannot be
// evaluated, because there is no status, is not true.
func TestFlux(t *testing.T) {
	t.Parallel()
	var kustomization struct {
		Spec struct{ HealthCheckExprs []map[string]string }
	}
	if err := yaml.Unmarshal([]byte(read(t, "examples/flux/kustomization.yaml")), &kustomization); err != nil || len(kustomization.Spec.HealthCheckExprs) != 1 {
		t.Fatalf("%d checks, %v", len(kustomization.Spec.HealthCheckExprs), err)
	}
	checks := kustomization.Spec.HealthCheckExprs[0]
	env, err := cel.NewEnv(cel.Variable("metadata", cel.DynType), cel.Variable("spec", cel.DynType), cel.Variable("status", cel.DynType))
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]cel.Program{}
	for _, name := range []string{"inProgress", "failed", "current"} {
		checked, issues := env.Compile(checks[name])
		if issues.Err() != nil {
			t.Fatalf("%s: %v", name, issues.Err())
		}
		if programs[name], err = env.Program(checked); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := decode(t, tc.object)
			got := "unknown"
			for _, name := range []string{"inProgress", "failed", "current"} {
				if result, _, err := programs[name].Eval(object); err == nil && result.Value() == true {
					got = name
					break
				}
			}
			if got != tc.flux {
				t.Errorf("%s, want %s", got, tc.flux)
			}
		})
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
