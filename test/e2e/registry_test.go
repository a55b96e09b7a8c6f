//go:build neighbours

package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"heymarket.dev/operator/test/support/quickstart"
)

// helmRun runs helm commands that concern no release.
func (r release) helmRun(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), r.helm, args...)
	cmd.Env = []string{"HOME=" + r.home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + cluster.Kubeconfig}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("helm %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The chart goes into a registry of OCI artifacts, is installed from there, and an event comes through. Prometheus then finds and scrapes receivers and
// manager by what the chart's monitors say.
func TestReleaseFromARegistryIsScrapedByPrometheus(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	t.Cleanup(server.Close)
	charts := "oci://" + strings.TrimPrefix(server.URL, "http://") + "/team/charts"
	r, dir := newRelease(t), t.TempDir()
	r.helmRun(t, "package", filepath.Join(driver.Root, "charts", "heymarket-operator"), "--destination", dir)
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("packaged: %q, %v", archives, err)
	}
	t.Log(strings.TrimSpace(r.helmRun(t, "push", archives[0], charts, "--plain-http")))

	s := scene{namespace: fmt.Sprintf("e2e-registry-%d", ids.Add(1)%1_000_000)}
	kubectl(t, "", "scale", "--namespace="+quickstart.System, "deployment/heymarket-operator", "--replicas=0")
	kubectl(t, "", "create", "namespace", s.namespace)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if t.Failed() {
			tell(ctx, t, s.namespace)
		}
		if _, err := r.run(ctx, "uninstall"); err != nil {
			t.Error(err)
		}
		if err := cluster.InstallOperator(ctx); err != nil {
			t.Fatal(err)
		}
		kubectl(t, "", "delete", "namespace", "--wait=false", r.namespace, s.namespace)
	})
	_, err = r.run(t.Context(), "install", append(values(cluster.Image.Name, s.namespace), charts+"/heymarket-operator", "--plain-http", "--create-namespace")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("helm install %s %s/heymarket-operator --plain-http", r.name, charts)
	if err := cluster.ApplyQuickstart(t.Context(), s.namespace); err != nil {
		t.Fatal(err)
	}
	if err := cluster.AwaitReady(t.Context(), s.namespace, 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	if s.heymarket, err = cluster.Heymarket(t.Context(), s.namespace); err != nil {
		t.Fatal(err)
	}
	s.target = cluster.Target(s.namespace, quickstart.TargetName)
	if err := s.bothAvailable(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.awaitAnswer(t, 200, "by the release")
	s.texts(t, 1)

	s.scraped(t, r)
}
