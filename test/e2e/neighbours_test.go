//go:build neighbours

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/test/support/quickstart"
)

// The tests of this build tag, which `make e2e-neighbours` runs, install what platform teams run beside the operator, in the versions of hack/cluster's
// modules, and watch both at work. They change the whole cluster, so none is parallel.

// kubectl runs kubectl and returns what it prints.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := cluster.RunKubectl(context.WithoutCancel(t.Context()), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// install loads the images of programs of hack/cluster, applies a manifest and waits until its workloads serve.
func install(t *testing.T, manifest string, programs []string, workloads ...string) {
	t.Helper()
	if len(programs) > 0 {
		archives, err := driver.Run(t.Context(), "archive", programs...)
		if err != nil {
			t.Fatal(err)
		}
		if err := loadImages(t.Context(), strings.Fields(archives)...); err != nil {
			t.Fatal(err)
		}
	}
	kubectl(t, manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
	for _, workload := range workloads {
		namespace, name, _ := strings.Cut(workload, "/")
		kubectl(t, "", "rollout", "status", "--timeout=180s", "--namespace="+namespace, name)
	}
}

// neighbour reads a manifest of testdata/neighbours.
func neighbour(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "neighbours", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// moduleDir is where the source of a module is, in the version that a module below hack/cluster requires.
func moduleDir(t *testing.T, of, module string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	cmd.Dir = filepath.Join(driver.Root, "hack", "cluster", of)
	out, err := cmd.Output()
	var downloaded struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &downloaded)
	}
	if err != nil || downloaded.Dir == "" {
		t.Fatalf("download %s: %v: %s", module, err, out)
	}
	return downloaded.Dir
}

// addArgs adds arguments to the first container of a Deployment until the test ends.
func addArgs(t *testing.T, namespace, deployment string, args ...string) {
	t.Helper()
	set := func(operations []map[string]any) {
		t.Helper()
		patch, err := json.Marshal(operations)
		if err != nil {
			t.Fatal(err)
		}
		kubectl(t, "", "patch", "deployment", deployment, "--namespace="+namespace, "--type=json", "--patch="+string(patch))
		kubectl(t, "", "rollout", "status", "--timeout=120s", "--namespace="+namespace, "deployment/"+deployment)
	}
	const path = "/spec/template/spec/containers/0/args"
	before := strings.Fields(strings.Trim(kubectl(t, "", "get", "deployment", deployment, "--namespace="+namespace, "-o", `jsonpath={.spec.template.spec.containers[0].args[*]}`), " "))
	set([]map[string]any{{"op": "replace", "path": path, "value": append(slices.Clip(before), args...)}})
	t.Cleanup(func() { set([]map[string]any{{"op": "replace", "path": path, "value": before}}) })
}

// change changes the spec of the scene's webhook.
func (s scene) change(t *testing.T, do func(*v1alpha1.HeymarketWebhookSpec)) {
	t.Helper()
	webhook, err := cluster.Webhook(t.Context(), s.namespace)
	if err != nil {
		t.Fatal(err)
	}
	patch := client.MergeFrom(webhook.DeepCopy())
	do(&webhook.Spec)
	if err := cluster.Client.Patch(t.Context(), webhook, patch); err != nil {
		t.Fatal(err)
	}
}

// awaitCondition waits until a condition of the webhook, as it is now, has a status and a reason and its message contains all of the words; it returns the
// message.
func (s scene) awaitCondition(t *testing.T, kind string, status metav1.ConditionStatus, reason string, words ...string) string {
	t.Helper()
	var last metav1.Condition
	err := quickstart.Poll(t.Context(), 2*time.Minute, func(ctx context.Context) (bool, error) {
		webhook, err := cluster.Webhook(ctx, s.namespace)
		if err != nil {
			return false, err
		}
		found := meta.FindStatusCondition(webhook.Status.Conditions, kind)
		if found == nil {
			return false, fmt.Errorf("no condition %s", kind)
		}
		last = *found
		for _, word := range words {
			if !strings.Contains(last.Message, word) {
				return false, nil
			}
		}
		return last.Status == status && last.Reason == reason && last.ObservedGeneration == webhook.Generation, nil
	})
	if err != nil {
		t.Fatalf("%s is %s (%s: %s), want %s (%s) with %q: %v", kind, last.Status, last.Reason, last.Message, status, reason, words, err)
	}
	t.Logf("%s=%s %s: %s", kind, last.Status, last.Reason, last.Message)
	return last.Message
}
