package mutations

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/internal/testenv"
)

// schema is the CRD's.
type schema struct {
	spec *apiextensionsv1.JSONSchemaProps
	// sentences are the messages of all rules.
	sentences []string
}

func readSchema(t *testing.T) schema {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(root, "config", "crd", "heymarket.dev_heymarketwebhooks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(file, &crd); err != nil {
		t.Fatal(err)
	}
	spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	out := schema{spec: &spec}
	walk(&spec, "", func(s *apiextensionsv1.JSONSchemaProps, _ string) {
		for _, v := range s.XValidations {
			if v.MessageExpression == "" {
				out.sentences = append(out.sentences, v.Message)
			}
			// Of a message that is computed the longer parts are the rule's own words.
			for i, part := range strings.Split(v.MessageExpression, "'") {
				if i%2 == 1 && len(part) > 12 {
					out.sentences = append(out.sentences, part)
				}
			}
		}
	})
	return out
}

// walk visits a schema and all below it. Paths are like targets[].headers[].name and receiver.podLabels{}.
func walk(s *apiextensionsv1.JSONSchemaProps, path string, visit func(s *apiextensionsv1.JSONSchemaProps, path string)) {
	visit(s, path)
	for name := range s.Properties {
		p := s.Properties[name]
		walk(&p, join(path, name), visit)
	}
	if s.Items != nil && s.Items.Schema != nil {
		walk(s.Items.Schema, path+"[]", visit)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		walk(s.AdditionalProperties.Schema, path+"{}", visit)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// Generated values must match the schema, whatever it currently is: for a schema that this package cannot read it would
// generate nothing, and prove nothing.
func TestEveryFieldIsUnderstood(t *testing.T) {
	t.Parallel()
	fields := 0
	walk(readSchema(t).spec, "", func(s *apiextensionsv1.JSONSchemaProps, path string) {
		fields++
		if len(s.AllOf)+len(s.OneOf) > 0 || s.Not != nil || len(s.AnyOf) > 0 && !s.XIntOrString {
			t.Errorf("%s: the generator knows no allOf, oneOf, anyOf and not", path)
		}
		if s.XPreserveUnknownFields != nil || s.XEmbeddedResource {
			t.Errorf("%s: the generator knows no open objects", path)
		}
		if !s.XIntOrString && kinds[s.Type] == nil {
			t.Errorf("%s: the generator knows no type %q", path, s.Type)
		}
		if _, err := word(random(1), pattern(s)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	})
	if fields < 100 {
		t.Errorf("the schema has %d fields, want more than 100", fields)
	}
}

// kinds are the types of a schema, each with a value of another one.
var kinds = map[string]any{"object": "text", "array": int64(7), "string": map[string]any{}, "integer": "seven", "boolean": fmt.Sprint(true)}
