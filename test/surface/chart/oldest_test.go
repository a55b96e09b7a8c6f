package chart

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"
)

// The rules of the CRD compile with the functions of CEL that the oldest Kubernetes in Chart.yaml has, and with those of each newer one; docs/requirements.md
// names the oldest that would do for the rules alone.
func TestRulesCompileInTheOldestKubernetes(t *testing.T) {
	t.Parallel()
	var about struct{ KubeVersion string }
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "Chart.yaml")), &about); err != nil {
		t.Fatal(err)
	}
	oldest := version.MustParseGeneric(regexp.MustCompile(`[0-9.]+`).FindString(about.KubeVersion))
	needs := minimum(t)
	if needs > oldest.Minor() {
		t.Errorf("the rules need Kubernetes 1.%d, Chart.yaml allows 1.%d", needs, oldest.Minor())
	}
	page := file(t, root, "docs", "requirements.md")
	for _, sentence := range []string{fmt.Sprintf("Kubernetes 1.%d or later", oldest.Minor()), fmt.Sprintf("compile with the functions of 1.%d", needs)} {
		if !strings.Contains(page, sentence) {
			t.Errorf("docs/requirements.md lacks %q", sentence)
		}
	}
}

// docs/requirements.md names every kind that an installation creates, and every image that it pulls.
func TestRequirementsAreComplete(t *testing.T) {
	t.Parallel()
	page := file(t, root, "docs", "requirements.md")
	for _, values := range []string{"", "crds: {keep: false}\nredis: {bundled: {persistence: {mode: Always}}}\npodDisruptionBudget: {enabled: true}\n" + allMonitoring} {
		objects := rendered(t, values)
		for _, object := range objects {
			if kind := object.GetObjectKind().GroupVersionKind().Kind; !regexp.MustCompile(`\b` + kind + `\b`).MatchString(page) {
				t.Errorf("docs/requirements.md does not name the kind %s", kind)
			}
		}
		for name, template := range templates(objects) {
			for _, container := range template.Spec.Containers {
				image := strings.TrimSuffix(container.Image, ":"+appVersion(t))
				if !strings.Contains(page, "`"+image+"`") {
					t.Errorf("docs/requirements.md does not name the image %s of %s", image, name)
				}
			}
		}
	}
}

func appVersion(t *testing.T) string {
	t.Helper()
	var about struct{ AppVersion string }
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "Chart.yaml")), &about); err != nil {
		t.Fatal(err)
	}
	return about.AppVersion
}

// minimum is the minor version of the first Kubernetes whose functions all rules compile with, and with those of every later one.
func minimum(t *testing.T) (minor uint) {
	t.Helper()
	var v1 apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal([]byte(file(t, root, "config", "crd", "heymarket.dev_heymarketwebhooks.yaml")), &v1); err != nil {
		t.Fatal(err)
	}
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v1.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := structuralschema.NewStructural(&props)
	if err != nil {
		t.Fatal(err)
	}
	newest := environment.DefaultCompatibilityVersion().Minor()
	for minor = newest; minor > 0; minor-- {
		rules, refused := compile(t, structural, true, environment.MustBaseEnvSet(version.MajorMinor(1, minor)))
		if rules < 50 {
			t.Fatalf("found %d rules", rules)
		}
		if len(refused) > 0 {
			if minor == newest {
				t.Fatalf("1.%d refuses rules: %q", minor, refused)
			}
			t.Logf("1.%d refuses, for example, %s", minor, slices.Min(refused))
			return minor + 1
		}
	}
	return 0
}

// compile counts the rules of a schema, and those of them that an environment refuses.
func compile(t *testing.T, s *structuralschema.Structural, root bool, env *environment.EnvSet) (rules int, refused []string) {
	t.Helper()
	results, err := cel.Compile(s, model.SchemaDeclType(s, root), celconfig.PerCallLimit, env, cel.NewExpressionsEnvLoader())
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range results {
		rules++
		if result.Error != nil || result.MessageExpressionError != nil {
			refused = append(refused, fmt.Sprint(s.XValidations[i].Rule, result.Error, result.MessageExpressionError))
		}
	}
	below := func(s *structuralschema.Structural, root bool) {
		r, bad := compile(t, s, root, env)
		rules, refused = rules+r, append(refused, bad...)
	}
	for name, property := range s.Properties {
		if root && name == "metadata" {
			continue
		}
		below(&property, property.XEmbeddedResource)
	}
	if s.Items != nil {
		below(s.Items, s.Items.XEmbeddedResource)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		below(s.AdditionalProperties.Structural, false)
	}
	return rules, refused
}
