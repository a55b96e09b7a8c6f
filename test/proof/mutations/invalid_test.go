package mutations

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// violation is one that a schema forbids.
type violation struct {
	path, what string
	spec       map[string]any
}

// violations returns every way in which a present value, and only it, can violate the OpenAPI schema. v is the whole spec,
// and set puts another value in the place of the present one.
func violations(s *apiextensionsv1.JSONSchemaProps, path string, v any, set func(any) map[string]any) []violation {
	var out []violation
	add := func(what string, value any) { out = append(out, violation{path, what, set(value)}) }
	if wrong, ok := kinds[s.Type]; ok && !s.XIntOrString {
		add("another type", wrong)
	}
	switch v := v.(type) {
	case string:
		if len(s.Enum) > 0 {
			add("no value of the enum", v+"x")
		}
		if s.MaxLength != nil {
			add("too long", v+strings.Repeat("a", int(*s.MaxLength)+1))
		}
		if s.MinLength != nil && *s.MinLength > 0 {
			add("too short", "")
		}
		if p := pattern(s); p != "" && !s.XIntOrString {
			for _, bad := range []string{v + "\x01", "\x00"} {
				if !regexp.MustCompile(p).MatchString(bad) {
					add("outside the pattern", bad)
				}
			}
		}
		if lo, hi, ok := durations(s); ok {
			if lo > 0 {
				add("less than the least duration", (lo / 2).String())
			}
			add("more than the longest duration", (2 * hi).String())
		}
	case int64:
		if s.Minimum != nil {
			add("less than the minimum", int64(*s.Minimum)-1)
		}
		if s.Maximum != nil {
			add("more than the maximum", int64(*s.Maximum)+1)
		}
		if s.Format == "int32" {
			add("more than 32 bits", int64(1)<<40)
		}
	case []any:
		out = append(out, listViolations(s, path, v, set)...)
	case map[string]any:
		out = append(out, objectViolations(s, path, v, set)...)
	}
	return out
}

func listViolations(s *apiextensionsv1.JSONSchemaProps, path string, v []any, set func(any) map[string]any) []violation {
	var out []violation
	if s.MinItems != nil && *s.MinItems > 0 {
		out = append(out, violation{path, "too few items", set([]any{})})
	}
	if s.MaxItems != nil && len(v) > 0 {
		many := slices.Repeat([]any{v[0]}, int(*s.MaxItems)+1)
		out = append(out, violation{path, "too many items", set(many)})
	}
	if s.XListType != nil && *s.XListType != "atomic" && len(v) > 0 {
		out = append(out, violation{path, "the same twice", set(append(slices.Clone(v), v[0]))})
	}
	for i := range v {
		out = append(out, violations(s.Items.Schema, path+"[]", v[i], func(item any) map[string]any {
			list := slices.Clone(v)
			list[i] = item
			return set(list)
		})...)
	}
	return out
}

func objectViolations(s *apiextensionsv1.JSONSchemaProps, path string, v map[string]any, set func(any) map[string]any) []violation {
	var out []violation
	below := func(name string) func(any) map[string]any {
		return func(value any) map[string]any {
			m := maps.Clone(v)
			m[name] = value
			return set(m)
		}
	}
	without := func(name string) map[string]any {
		m := maps.Clone(v)
		delete(m, name)
		return set(m)
	}
	if s.AdditionalProperties != nil {
		for _, name := range sorted(v) {
			out = append(out, violations(s.AdditionalProperties.Schema, path+"{}", v[name], below(name))...)
		}
		return out
	}
	for _, name := range s.Required {
		if s.Properties[name].Default == nil {
			out = append(out, violation{join(path, name), "missing", without(name)})
		}
	}
	out = append(out, violation{path, "an unknown field", below("unheardOf")("x")})
	for _, name := range sorted(v) {
		p := s.Properties[name]
		out = append(out, violations(&p, join(path, name), v[name], below(name))...)
	}
	return out
}

// broken returns the spec with one violation in it.
func (g generator) broken(s *apiextensionsv1.JSONSchemaProps, spec map[string]any) violation {
	all := violations(s, "", spec, func(v any) map[string]any {
		m, _ := v.(map[string]any)
		return m
	})
	all = slices.DeleteFunc(all, func(v violation) bool { return v.spec == nil })
	// Each field has the same chance, or the lists with most items would take them all.
	byPath := map[string][]violation{}
	for _, v := range all {
		byPath[v.path] = append(byPath[v.path], v)
	}
	paths := sorted(byPath)
	of := byPath[paths[g.IntN(len(paths))]]
	v := of[g.IntN(len(of))]
	v.spec = runtime.DeepCopyJSON(v.spec)
	return v
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// decode reads JSON with whole numbers as int64, as unstructured objects have them.
func decode(raw []byte) any {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		panic(err)
	}
	if f, ok := v.(float64); ok {
		return int64(f)
	}
	return v
}
