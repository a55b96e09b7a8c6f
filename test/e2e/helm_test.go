//go:build e2e || neighbours

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// release is a Helm release whose version the test sets.
type release struct {
	helm, home, name, namespace string
}

func newRelease(t *testing.T) release {
	t.Helper()
	find := exec.CommandContext(t.Context(), "go", "tool", "-n", "-modfile=hack/tools/go.mod", "helm")
	find.Dir = driver.Root
	find.Env = append(os.Environ(), "GOWORK=off")
	path, err := find.Output()
	if err != nil {
		t.Fatalf("build helm: %v", err)
	}
	return release{helm: strings.TrimSpace(string(path)), home: t.TempDir(), name: "hm", namespace: fmt.Sprintf("e2e-release-%d", ids.Add(1)%1_000_000)}
}

// run runs helm for the release; the command's name comes first.
func (r release) run(ctx context.Context, command string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, r.helm, append([]string{command, r.name, "--namespace=" + r.namespace}, args...)...)
	cmd.Env = []string{"HOME=" + r.home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + cluster.Kubeconfig}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w: %s", command, err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out.String(), nil
}

// values are the arguments for a chart that looks after a namespace and runs an image.
func values(image, namespace string) []string {
	repository, tag, _ := strings.Cut(image, ":")
	return []string{
		"--set=image.repository=" + repository, "--set-string=image.tag=" + tag, "--set=redis.bundled.image=heymarket.dev/cluster/redis:dev",
		"--set=namespaces={" + namespace + "}", "--set-literal=hostTemplate={{.Namespace}}.hooks.heymarket.test",
		// The CRD is there already, and is another field manager's.
		"--take-ownership", "--force-conflicts", "--wait", "--timeout=120s",
	}
}
