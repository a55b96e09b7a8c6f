// Package admit processes a HeymarketWebhook as an API server does before it stores one: it rejects fields that are not in the
// CustomResourceDefinition, sets defaults, and checks the schema and the CEL rules. The code and the error messages are the API
// server's own.
package admit

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/config/crd"
)

// definition is the CustomResourceDefinition, prepared once.
type definition struct {
	structure *schema.Structural
	schema    validation.SchemaValidator
	rules     *cel.Validator
}

var prepared = sync.OnceValues(func() (definition, error) {
	var d definition
	var all apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(crd.HeymarketWebhook, &all); err != nil {
		return d, err
	}
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(all.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		return d, err
	}
	var err error
	if d.structure, err = schema.NewStructural(&props); err != nil {
		return d, err
	}
	if d.schema, _, err = validation.NewSchemaValidator(&props); err != nil {
		return d, err
	}
	d.rules = cel.NewValidator(d.structure, true, celconfig.PerCallLimit)
	return d, nil
})

// HeymarketWebhook returns the resource in a YAML or JSON document as an API server would store it. Its errors are those of
// kubectl: for unknown fields as with --validate=strict, otherwise the API server's.
func HeymarketWebhook(ctx context.Context, document []byte) (*v1alpha1.HeymarketWebhook, error) {
	d, err := prepared()
	if err != nil {
		return nil, fmt.Errorf("read the CustomResourceDefinition: %w", err)
	}
	text, err := toJSON(document)
	if err != nil {
		return nil, err
	}
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	delete(object.Object, "status")
	unknown := pruning.PruneWithOptions(object.Object, d.structure, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(object.Object, d.structure)
	metaErr, more := objectmeta.CoerceWithOptions(nil, object.Object, d.structure, true, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	if metaErr != nil {
		return nil, metaErr
	}
	if unknown = append(unknown, more...); len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, fmt.Errorf("HeymarketWebhook in version %q cannot be handled as a HeymarketWebhook: strict decoding error: unknown field \"%s\"",
			v1alpha1.GroupVersion.Version, strings.Join(unknown, `", unknown field "`))
	}
	defaulting.Default(object.Object, d.structure)
	if errs := d.check(ctx, &object); len(errs) > 0 {
		return nil, apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("HeymarketWebhook").GroupKind(), object.GetName(), errs)
	}
	webhook := &v1alpha1.HeymarketWebhook{}
	return webhook, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, webhook)
}

// toJSON converts YAML, and leaves JSON unchanged: YAML folds some characters that JSON keeps.
func toJSON(document []byte) ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(document), []byte("{")) {
		return yaml.YAMLToJSONStrict(document)
	}
	var value jsontext.Value
	return document, json.Unmarshal(document, &value) // it rejects duplicate names, too
}

// check is the API server's validation of a new resource.
func (d definition) check(ctx context.Context, object *unstructured.Unstructured) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaAccessor(object, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	errs = append(errs, validation.ValidateCustomResource(nil, object.Object, d.schema)...)
	errs = append(errs, objectmeta.Validate(ctx, nil, object.Object, d.structure, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.structure, object.Object)...)
	if slices.ContainsFunc(errs, blocksRules) {
		return append(errs, field.Invalid(nil, nil, rulesNotChecked))
	}
	broken, _ := d.rules.Validate(ctx, nil, d.structure, object.Object, nil, celconfig.RuntimeCELCostBudget)
	return append(errs, broken...)
}

// blocksRules reports whether rules are not evaluated on an object with this mistake: they rely on its absence.
func blocksRules(err *field.Error) bool {
	switch err.Type {
	case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
		return true
	}
	return false
}

const rulesNotChecked = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
