package chart

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/apiservertest"
)

var update = flag.Bool("update", false, "write README.md and the goldens instead of comparing them")

const (
	release   = "heymarket-operator"
	namespace = "heymarket-system"
)

var (
	root     = filepath.Join("..", "..", "..")
	chartDir = filepath.Join(root, "charts", "heymarket-operator")
)

func TestMain(m *testing.M) { apiservertest.Main(m) }

// helmBinary builds the helm that hack/tools pins, which takes minutes the first time, and returns its path.
var helmBinary = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "tool", "-n", "-modfile=hack/tools/go.mod", "helm")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
})

// needHelm skips the test where helm cannot be built; with HEYMARKET_REQUIRE_ALL=1, and when goldens are to be written, it fails.
func needHelm(t *testing.T) string {
	t.Helper()
	path, err := helmBinary()
	if err != nil {
		sentence := fmt.Sprintf("needs helm, which hack/tools/go.mod could not build: %v", err)
		if os.Getenv("HEYMARKET_REQUIRE_ALL") == "1" || *update {
			t.Fatal(sentence)
		}
		t.Skip(sentence)
	}
	return path
}

// helm runs helm with only the given configuration. An error is helm's output.
func helm(ctx context.Context, path, home, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	// An unreachable cluster: a rendering that asks for one would hang or fail, not find that of the person at the keyboard.
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + filepath.Join(home, "kubeconfig")}
	cmd.Stdin = strings.NewReader(stdin)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), errors.New(strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// render renders the chart of a directory with values in YAML.
func render(t *testing.T, dir, values string, args ...string) (string, error) {
	t.Helper()
	return helm(t.Context(), needHelm(t), t.TempDir(), values, append([]string{"template", release, dir, "--namespace", namespace, "--values", "-"}, args...)...)
}

// rendered are the objects that the chart renders with values in YAML. It fails the test when there is an error.
func rendered(t *testing.T, values string) []client.Object {
	t.Helper()
	text, err := render(t, chartDir, values)
	if err != nil {
		t.Fatalf("render: %v\nwith\n%s", err, values)
	}
	objects, err := decode(text)
	if err != nil {
		t.Fatalf("%v\nwith\n%s", err, values)
	}
	return objects
}

// installed are the objects that stay, without those that are there only while Helm tests or uninstalls.
func installed(objects []client.Object) []client.Object {
	return slices.DeleteFunc(slices.Clone(objects), func(o client.Object) bool { return o.GetAnnotations()["helm.sh/hook"] != "" })
}

var strict = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), apiextensionsv1.AddToScheme(scheme), monitoringv1.AddToScheme(scheme)); err != nil {
		panic(err)
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// decode reads objects; unknown and duplicate fields are errors.
func decode(text string) ([]client.Object, error) {
	var objects []client.Object
	for _, document := range documents(text) {
		object, _, err := strict.Decode([]byte(document), nil, nil)
		if err != nil {
			return nil, fmt.Errorf("decode: %w\n%s", err, document)
		}
		objects = append(objects, object.(client.Object))
	}
	return objects, nil
}

// documents are the YAML documents of a text that hold anything.
func documents(text string) []string {
	var list []string
	for document := range strings.SplitSeq("\n"+text, "\n---") {
		for line := range strings.Lines(document) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				list = append(list, document)
				break
			}
		}
	}
	return list
}

// find is the one object of a type and name; an empty name stands for any.
func find[T client.Object](t *testing.T, objects []client.Object, name string) T {
	t.Helper()
	var found []T
	for _, object := range objects {
		if typed, ok := object.(T); ok && (name == "" || object.GetName() == name) {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		var none T
		t.Fatalf("there are %d of %T %s, want 1", len(found), none, name)
	}
	return found[0]
}

func file(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
