package chart

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// --reuse-values keeps the values of the previous release, and uses the defaults of new ones, because templates fill them in.
func TestUpgradeReusesValues(t *testing.T) {
	c := newCluster(t)
	const ns = "reused"
	c.run(ns, "", "install", "heymarket-operator", filepath.Join("testdata", "chart-before.tgz"), "--create-namespace",
		"--set", "crds.enabled=false,rbac.aggregate=false,fullnameOverride=reused,replicas=2,redis.bundled.persistence.mode=Never")
	c.run(ns, "", "upgrade", "heymarket-operator", chartDir, "--reuse-values", "--set", "log.level=debug")
	var manager appsv1.Deployment
	c.get(&manager, ns, "reused")
	args := strings.Join(manager.Spec.Template.Spec.Containers[0].Args, " ")
	if *manager.Spec.Replicas != 2 || !strings.Contains(args, "--log-level=debug") || *manager.Spec.RevisionHistoryLimit != 10 {
		t.Errorf("%d replicas, %d revisions, arguments %s", *manager.Spec.Replicas, *manager.Spec.RevisionHistoryLimit, args)
	}
	c.run(ns, "", "uninstall", "heymarket-operator")
}

// The output of `helm template` can be applied with kubectl, repeatedly without a change, and Helm then adopts it without
// recreating anything.
func TestTemplateIsAppliedAndTakenOver(t *testing.T) {
	c := newCluster(t)
	const ns, values = "templated", "{crds: {enabled: false}, rbac: {aggregate: false}, fullnameOverride: templated, tests: {enabled: false}, redis: {existingSecret: {name: mine}}}"
	manifest := c.run(ns, values, "template", "heymarket-operator", chartDir, "--values", "-")
	apply := func() {
		t.Helper()
		for _, args := range [][]string{{"create", "namespace", ns}, {"apply", "--server-side", "--namespace", ns, "--filename", "-"}} {
			cmd := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl"), args...)
			cmd.Env = []string{"HOME=" + c.home, "KUBECONFIG=" + filepath.Join(c.home, "kubeconfig")}
			cmd.Stdin = strings.NewReader(manifest)
			if out, err := cmd.CombinedOutput(); err != nil && !bytes.Contains(out, []byte("AlreadyExists")) {
				t.Fatalf("kubectl %s: %v\n%s", args[0], err, out)
			}
		}
	}
	var first, again, taken appsv1.Deployment
	apply()
	c.get(&first, ns, "templated")
	apply()
	c.get(&again, ns, "templated")
	if again.ResourceVersion != first.ResourceVersion {
		t.Error("applying the same again changes the Deployment")
	}
	if _, err := helm(t.Context(), c.helm, c.home, values, "install", "heymarket-operator", chartDir, "--namespace", ns, "--values", "-"); err == nil {
		t.Error("Helm takes over without being asked to")
	}
	c.run(ns, values, "install", "heymarket-operator", chartDir, "--values", "-", "--take-ownership", "--force-conflicts")
	c.get(&taken, ns, "templated")
	same(t, "the spec that is taken over", first.Spec, taken.Spec)
	if taken.UID != first.UID || taken.Annotations["meta.helm.sh/release-name"] != "heymarket-operator" {
		t.Errorf("taken over: another object %t, annotations %v", taken.UID != first.UID, taken.Annotations)
	}
	c.run(ns, "", "uninstall", "heymarket-operator")
}
