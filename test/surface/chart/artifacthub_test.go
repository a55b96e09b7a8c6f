package chart

import (
	"encoding/base64"
	"encoding/xml"
	"regexp"
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

// Artifact Hub's annotations are correct: the CRDs are the chart's, the examples can be applied, and the rest are terms that
// Artifact Hub knows (https://artifacthub.io/docs/topics/annotations/helm/).
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

// The package alone is enough: links are absolute, those to our own pages lead to a page, and the icon needs no server.
func TestLinksHoldWhenTheChartIsPackaged(t *testing.T) {
	t.Parallel()
	var about struct {
		Home, Icon, Description string
		Sources                 []string
		Maintainers             []struct{ Name, URL string }
	}
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "Chart.yaml")), &about); err != nil {
		t.Fatal(err)
	}
	if about.Home == "" || len(about.Sources) == 0 || len(about.Maintainers) == 0 || about.Maintainers[0].URL == "" {
		t.Errorf("home, sources or maintainers are missing: %+v", about)
	}
	encoded, _ := strings.CutPrefix(about.Icon, "data:image/svg+xml;base64,")
	if drawing, err := base64.StdEncoding.DecodeString(encoded); err != nil || xml.Unmarshal(drawing, new(struct {
		XMLName xml.Name `xml:"svg"`
	})) != nil {
		t.Errorf("the icon is no drawing in itself: %v", err)
	}
	readme := file(t, chartDir, "README.md")
	for _, link := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(readme, -1) {
		if !strings.HasPrefix(link[1], "https://") && !strings.HasPrefix(link[1], "#") {
			t.Errorf("README.md links to %s, which is not in the package", link[1])
		}
	}
	for _, text := range []string{readme, file(t, chartDir, "values.yaml"), strings.ReplaceAll(file(t, chartDir, "templates", "NOTES.txt"), "{{ .Chart.Home }}", about.Home)} {
		for _, link := range regexp.MustCompile(regexp.QuoteMeta(about.Home)+`/([a-z0-9/.-]+)(?:#([a-z0-9-]+))?`).FindAllStringSubmatch(text, -1) {
			page := file(t, root, link[1])
			heading := regexp.MustCompile(`(?m)^#+ ` + strings.ReplaceAll(link[2], "-", "[ -]") + `$`)
			if link[2] != "" && !heading.MatchString(strings.ToLower(page)) {
				t.Errorf("%s has no heading #%s", link[1], link[2])
			}
		}
	}
}
