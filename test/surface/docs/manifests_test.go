package docs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"

	"heymarket.dev/operator/internal/apiservertest"
)

// TestManifests lets a real API server validate every manifest of the documentation, and every fragment, which begins with spec:
// and is inserted into the quickstart's HeymarketWebhook. Nothing is stored.
func TestManifests(t *testing.T) {
	t.Parallel()
	api, err := client.New(apiservertest.Config(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root, all := pages(t)
	smallest, err := os.ReadFile(filepath.Join(root, "examples", "quickstart", "webhook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	judged := 0
	for _, page := range all {
		for _, b := range page.Blocks {
			if b.Language != "yaml" || b.NotRun != "" {
				continue
			}
			decoder := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(b.Text)))
			for {
				document, err := decoder.Read()
				if errors.Is(err, io.EOF) {
					break
				}
				var object map[string]any
				if err := sigsyaml.UnmarshalStrict(document, &object); err != nil {
					t.Errorf("%s: %v", page.Where(b), err)
					break
				}
				if _, whole := object["kind"]; !whole {
					object, err = completed(smallest, object)
				}
				if err == nil {
					err = judge(t, api, object)
				}
				if err != nil {
					t.Errorf("%s: %v", page.Where(b), err)
				}
				judged++
			}
		}
	}
	if judged == 0 {
		t.Error("there is no manifest")
	}
	t.Logf("%d manifests judged", judged)
}

// completed is the smallest HeymarketWebhook with the fields of a part in the place of its own.
func completed(smallest []byte, part map[string]any) (map[string]any, error) {
	spec, ok := part["spec"].(map[string]any)
	if !ok || len(part) != 1 {
		return nil, errors.New("is neither a manifest nor a part of a HeymarketWebhook that begins with spec: and has nothing beside it")
	}
	var whole map[string]any
	if err := sigsyaml.Unmarshal(smallest, &whole); err != nil {
		return nil, err
	}
	maps.Copy(whole["spec"].(map[string]any), spec)
	return whole, nil
}

// judge has the API server look at an object, without keeping it, in a namespace that is there.
func judge(t *testing.T, api client.Client, manifest map[string]any) error {
	t.Helper()
	object := &unstructured.Unstructured{Object: manifest}
	if object.GetKind() != "Namespace" {
		object.SetNamespace("default")
	}
	err := client.NewDryRunClient(client.WithFieldValidation(api, "Strict")).Create(t.Context(), object)
	if err != nil {
		return fmt.Errorf("the API server refuses it: %w", err)
	}
	return nil
}
