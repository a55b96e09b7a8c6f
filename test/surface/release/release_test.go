// Package release makes a release, publishes it to a registry on this machine, and installs from there.
package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/testenv"
)

func TestMain(m *testing.M) { apiservertest.Main(m) }

// The release of the checked-out commit, for one architecture: hack/release.sh builds it, hack/publish.sh pushes it to a registry, and it
// is pulled again: the image with the digest that the chart names, the chart byte for byte, and an installation from its oci:// URL
// that a real API server accepts.
func TestAReleaseIsInstalledFromARegistry(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: it compiles a release")
	}
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	t.Cleanup(server.Close)
	host, dir := strings.TrimPrefix(server.URL, "http://"), filepath.Join(t.TempDir(), "release")
	version := match(t, filepath.Join(root, "charts", "heymarket-operator", "Chart.yaml"), `(?m)^version: (.*)$`)
	image := host + "/team/heymarket-operator:" + version
	env := []string{"IMAGE=" + image, "CHARTS=" + host + "/team/charts", "RELEASE_TRIAL=1", "RELEASE_DIR=" + dir, "PUBLISH_DIR=" + dir}
	run(t, root, env, "hack/release.sh")
	published := strings.Fields(run(t, root, env, "hack/publish.sh"))
	digest := strings.TrimSpace(read(t, filepath.Join(dir, "image.digest")))
	pinned := host + "/team/heymarket-operator@" + digest
	if len(published) != 2 || published[0] != pinned || !strings.Contains(published[1], "/team/charts/heymarket-operator@sha256:") {
		t.Errorf("published: %q, want %s and the chart", published, pinned)
	}

	// The image, as a node would pull it.
	for _, program := range []string{"manager", "receiver"} {
		if !slices.Contains(files(t, image), program) {
			t.Errorf("the image lacks /%s", program)
		}
	}
	// The packaged chart.
	home := t.TempDir()
	helm := run(t, root, []string{"GOWORK=off"}, "go", "tool", "-n", "-modfile=hack/tools/go.mod", "helm")
	oci := "oci://" + host + "/team/charts/heymarket-operator"
	config := filepath.Join(home, "kubeconfig")
	apiservertest.Kubeconfig(t, config)
	at := []string{"HOME=" + home, "KUBECONFIG=" + config}
	run(t, root, at, strings.TrimSpace(helm), "pull", oci, "--version", version, "--plain-http", "--destination", home)
	chart := "heymarket-operator-" + version + ".tgz"
	if read(t, filepath.Join(home, chart)) != read(t, filepath.Join(dir, chart)) {
		t.Error("the chart that is pulled is not the one that was made")
	}
	// And installed: README's line, with the registry here.
	out := run(t, root, at, strings.TrimSpace(helm), "install", "heymarket-operator", oci, "--version", version, "--plain-http",
		"--namespace", "from-a-release", "--create-namespace", "--take-ownership", "--dry-run=server")
	if images := regexp.MustCompile(`image: "([^"]*/team/[^"]*)"`).FindAllStringSubmatch(out, -1); len(images) < 2 || images[0][1] != pinned {
		t.Errorf("the chart installs %q, want %s", images, pinned)
	}
	if !strings.Contains(read(t, filepath.Join(dir, "install.yaml")), "image: "+pinned) {
		t.Error("install.yaml names another image")
	}
	krew(t, dir, version)
}

// Every action of a workflow is pinned by its commit, with the version beside it, no workflow has rights that no job needs, a failure within a pipe fails its
// step, and what is attested has the name under which it was pushed, which is in lower case where that of the repository is not.
func TestWorkflowsArePinnedAndHaveFewRights(t *testing.T) {
	t.Parallel()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	workflows, err := filepath.Glob(filepath.Join(root, ".github", "workflows", "*.y*ml"))
	if err != nil || len(workflows) < 2 {
		t.Fatalf("workflows: %q, %v", workflows, err)
	}
	pinned := regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	for _, path := range workflows {
		text := read(t, path)
		uses := regexp.MustCompile(`(?m)uses: (.*)$`).FindAllStringSubmatch(text, -1)
		if len(uses) == 0 {
			t.Errorf("%s uses nothing", path)
		}
		for _, action := range uses {
			if !pinned.MatchString(action[1]) {
				t.Errorf("%s: %s is not named by a commit and its version", path, action[1])
			}
		}
		var workflow struct {
			Permissions map[string]string
			Defaults    struct{ Run struct{ Shell string } }
			Jobs        map[string]struct{ Permissions map[string]string }
		}
		if err := yaml.Unmarshal([]byte(text), &workflow); err != nil {
			t.Fatal(err)
		}
		if workflow.Permissions == nil || len(workflow.Permissions) != 0 {
			t.Errorf("%s: the workflow's permissions are %v, want {}", path, workflow.Permissions)
		}
		if workflow.Defaults.Run.Shell != "bash" {
			t.Errorf("%s: the shell of steps is %q, want bash, which GitHub runs with pipefail", path, workflow.Defaults.Run.Shell)
		}
		if regexp.MustCompile(`subject-name:.*github\.`).MatchString(text) {
			t.Errorf("%s attests a name in the letters of the repository", path)
		}
		for name, job := range workflow.Jobs {
			for what, right := range job.Permissions {
				if right == "write" && (filepath.Base(path) != "release.yaml" || name != "release") {
					t.Errorf("%s: job %s may write %s", path, name, what)
				}
			}
		}
	}
}

// krew checks that the manifest fits the archives beside it.
func krew(t *testing.T, dir, version string) {
	t.Helper()
	var manifest struct {
		Spec struct {
			Version   string
			Platforms []struct {
				Selector         struct{ MatchLabels map[string]string }
				URI, SHA256, Bin string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(dir, "krew.yaml"))), &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Spec.Version != "v"+version || len(manifest.Spec.Platforms) == 0 {
		t.Errorf("krew.yaml has version %s and %d platforms", manifest.Spec.Version, len(manifest.Spec.Platforms))
	}
	for _, platform := range manifest.Spec.Platforms {
		archive := read(t, filepath.Join(dir, filepath.Base(platform.URI)))
		if sum := sha256.Sum256([]byte(archive)); hex.EncodeToString(sum[:]) != platform.SHA256 {
			t.Errorf("%s has another checksum", platform.URI)
		}
		unzipped, err := gzip.NewReader(strings.NewReader(archive))
		if err != nil {
			t.Fatal(err)
		}
		if packed := entries(t, unzipped); !slices.Contains(packed, platform.Bin) || !slices.Contains(packed, "LICENSE") {
			t.Errorf("%s holds %q", platform.URI, packed)
		}
		if os := platform.Selector.MatchLabels["os"]; !strings.Contains(platform.URI, "_"+os+"_"+platform.Selector.MatchLabels["arch"]+".") {
			t.Errorf("%s is for %v", platform.URI, platform.Selector.MatchLabels)
		}
	}
}

// files are the files of an image in a registry, without the leading slash.
func files(t *testing.T, image string) []string {
	t.Helper()
	reference, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(reference, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	content := mutate.Extract(pulled)
	defer func() { _ = content.Close() }()
	return entries(t, content)
}

func entries(t *testing.T, archive io.Reader) (names []string) {
	t.Helper()
	for from := tar.NewReader(archive); ; {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(strings.TrimPrefix(header.Name, "."), "/"))
	}
}

func run(t *testing.T, dir string, env []string, command string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if !filepath.IsAbs(command) && strings.Contains(command, "/") {
		cmd.Path = filepath.Join(dir, command)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("%s: %v\n%s%s", command, err, out.String(), complaint.String())
	}
	return out.String()
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func match(t *testing.T, path, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(read(t, path))
	if found == nil {
		t.Fatalf("%s has no %s", path, pattern)
	}
	return found[1]
}
