package chart

import (
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/internal/apiservertest"
)

// What Artifact Hub shows of the chart is true: the CRDs are those that it brings, the examples can be applied, and the rest are
// words that Artifact Hub knows (https://artifacthub.io/docs/topics/annotations/helm/).
func TestArtifactHub(t *testing.T) {
	t.Parallel()
	var about struct {
		Version     string
		Annotations map[string]string
	}
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "Chart.yaml")), &about); err != nil {
		t.Fatal(err)
	}
	annotation := func(name string) string {
		value := about.Annotations["artifacthub.io/"+name]
		if value == "" {
			t.Errorf("artifacthub.io/%s is missing", name)
		}
		return value
	}
	for name, known := range map[string][]string{
		"category":             {"integration-delivery", "monitoring-logging", "networking", "streaming-messaging"},
		"operatorCapabilities": {"Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"},
		"operator":             {"true"},
	} {
		if value := annotation(name); !slices.Contains(known, value) {
			t.Errorf("artifacthub.io/%s is %q, want one of %q", name, value, known)
		}
	}
	if first := strings.HasPrefix(about.Version, "0."); first != (annotation("prerelease") == "true") {
		t.Errorf("artifacthub.io/prerelease is %q of version %s", annotation("prerelease"), about.Version)
	}
	if license := annotation("license"); license != "Apache-2.0" || !strings.Contains(file(t, root, "LICENSE"), "Apache License") {
		t.Errorf("artifacthub.io/license is %q, which is not that of LICENSE", license)
	}

	type shown struct{ Kind, Version, Name string }
	var listed, brought []shown
	if err := yaml.Unmarshal([]byte(annotation("crds")), &listed); err != nil {
		t.Fatal(err)
	}
	for _, object := range rendered(t, "") {
		if crd, ok := object.(*apiextensionsv1.CustomResourceDefinition); ok {
			for _, version := range crd.Spec.Versions {
				brought = append(brought, shown{crd.Spec.Names.Kind, version.Name, crd.Name})
			}
		}
	}
	same(t, "the CRDs on Artifact Hub", brought, listed)

	var examples []map[string]any
	if err := yaml.Unmarshal([]byte(annotation("crdsExamples")), &examples); err != nil || len(examples) == 0 {
		t.Fatalf("%d examples: %v", len(examples), err)
	}
	c, err := client.New(apiservertest.Config(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, example := range examples {
		u := &unstructured.Unstructured{Object: example}
		u.SetNamespace("default")
		if err := c.Create(t.Context(), u, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
			t.Errorf("the example %s cannot be applied: %v", u.GetName(), err)
		}
	}
}
