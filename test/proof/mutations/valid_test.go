package mutations

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// generator makes values that OpenAPI takes. A rule in CEL that spans fields may still refuse them.
type generator struct{ *rand.Rand }

func (g generator) one(n int) bool { return g.IntN(n) == 0 }

// value makes one from nothing.
func (g generator) value(s *apiextensionsv1.JSONSchemaProps, path string) any {
	if v, ok := sample(g.Rand, path); ok {
		return v
	}
	switch {
	case len(s.Enum) > 0:
		return decode(s.Enum[g.IntN(len(s.Enum))].Raw)
	case s.XIntOrString:
		return int64(g.IntN(100))
	case s.Type == "object" && s.AdditionalProperties != nil:
		m := map[string]any{}
		for range g.IntN(3) {
			m[g.key(s, path)] = g.value(s.AdditionalProperties.Schema, path+"{}")
		}
		return m
	case s.Type == "object":
		return g.object(s, path)
	case s.Type == "array":
		return g.list(s, path)
	case s.Type == "integer":
		return g.integer(s)
	case s.Type == "boolean":
		return g.one(2)
	}
	return g.text(s)
}

func (g generator) object(s *apiextensionsv1.JSONSchemaProps, path string) map[string]any {
	m := map[string]any{}
	for _, name := range sorted(s.Properties) {
		if p := s.Properties[name]; slices.Contains(s.Required, name) || g.one(3) {
			m[name] = g.value(&p, join(path, name))
		}
	}
	for s.MinProperties != nil && len(m) < int(*s.MinProperties) {
		name := sorted(s.Properties)[g.IntN(len(s.Properties))]
		p := s.Properties[name]
		m[name] = g.value(&p, join(path, name))
	}
	return m
}

func (g generator) list(s *apiextensionsv1.JSONSchemaProps, path string) []any {
	lo, hi := 0, 3
	if s.MinItems != nil {
		lo = int(*s.MinItems)
	}
	if hi = lo + hi; s.MaxItems != nil {
		hi = min(hi, int(*s.MaxItems))
	}
	out := []any{} // Not null, which would be no list.
	for range lo + g.IntN(hi-lo+1) {
		out = g.with(s, path, out)
	}
	return out
}

// with adds an item, unless it is there already and may not be there twice.
func (g generator) with(s *apiextensionsv1.JSONSchemaProps, path string, list []any) []any {
	for range 20 {
		item := g.value(s.Items.Schema, path+"[]")
		if !slices.ContainsFunc(list, func(other any) bool { return s.XListType != nil && identity(s, other) == identity(s, item) }) {
			return slices.Insert(slices.Clone(list), g.IntN(len(list)+1), item)
		}
	}
	return list
}

// identity is the part of an item that must be unique in a list.
func identity(s *apiextensionsv1.JSONSchemaProps, item any) string {
	switch *s.XListType {
	case "set":
		return fmt.Sprint(item)
	case "map":
		var id []string
		for _, key := range s.XListMapKeys {
			id = append(id, fmt.Sprint(item.(map[string]any)[key]))
		}
		return strings.Join(id, "/")
	default:
		return fmt.Sprintf("%p %d", item, rand.Int())
	}
}

func (g generator) key(s *apiextensionsv1.JSONSchemaProps, path string) string {
	if list, ok := ending(keys, path); ok {
		return list[g.IntN(len(list))]
	}
	return g.spelt(pattern(s), 1, 63)
}

func (g generator) integer(s *apiextensionsv1.JSONSchemaProps) any {
	lo, hi := int64(0), int64(100)
	if s.Minimum != nil {
		lo = int64(*s.Minimum)
		hi = lo + 100
	}
	if s.Maximum != nil {
		hi = int64(*s.Maximum)
	}
	switch g.IntN(6) {
	case 0:
		return lo
	case 1:
		return hi
	case 2, 3, 4:
		return lo + g.Int64N(min(hi-lo, 5)+1)
	}
	return lo + g.Int64N(hi-lo+1)
}

func (g generator) text(s *apiextensionsv1.JSONSchemaProps) any {
	if lo, hi, ok := durations(s); ok {
		switch g.IntN(4) {
		case 0:
			return short(lo)
		case 1:
			return short(hi)
		}
		return short((lo + time.Duration(g.Int64N(int64(hi-lo)))).Truncate(min(time.Second, cmp.Or(lo, time.Second))))
	}
	lo, hi := 0, 100
	if s.MinLength != nil {
		lo = int(*s.MinLength)
	}
	if s.MaxLength != nil {
		hi = int(*s.MaxLength)
	}
	return g.spelt(pattern(s), lo, hi)
}

// spelt returns a string of the pattern with lo to hi characters, now and then of exactly hi.
func (g generator) spelt(expression string, lo, hi int) string {
	if expression == "" {
		expression = "^[a-z]{1,6}$"
	}
	compiled := regexp.MustCompile(expression)
	for range 100 {
		w, err := word(g.Rand, expression)
		if err != nil {
			panic(err) // TestEveryFieldIsUnderstood has a better message.
		}
		if g.one(40) && len(w) > 0 {
			if long := w + strings.Repeat("a", max(0, hi-len(w))); compiled.MatchString(long) {
				w = long
			}
		}
		if n := len([]rune(w)); lo <= n && n <= hi && compiled.MatchString(w) {
			return w
		}
	}
	panic("no string of " + expression + " was found") // The schema asks for something strange.
}

// short writes whole units where it can.
func short(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "" || !strings.ContainsAny(s[len(s)-1:], "smh") {
		return d.String()
	}
	return s
}

// change returns a copy of v with one change somewhere in it, and its place.
func (g generator) change(s *apiextensionsv1.JSONSchemaProps, path string, v any) (any, string) {
	switch v := v.(type) {
	case map[string]any:
		if s.AdditionalProperties != nil {
			return g.changeMap(s, path, v)
		}
		return g.changeObject(s, path, v)
	case []any:
		return g.changeList(s, path, v)
	}
	return g.value(s, path), path
}

func (g generator) changeObject(s *apiextensionsv1.JSONSchemaProps, path string, v map[string]any) (any, string) {
	// What a rule binds together changes together, or one member of a union would never replace another.
	if len(s.XValidations) > 0 && path != "" && g.one(5) {
		return g.object(s, path), path
	}
	out := runtime.DeepCopyJSON(v)
	names := sorted(s.Properties)
	name := names[g.IntN(len(names))]
	p := s.Properties[name]
	below := join(path, name)
	old, present := out[name]
	switch {
	case !present:
		out[name] = g.value(&p, below)
	case !slices.Contains(s.Required, name) && g.one(4):
		delete(out, name)
	default:
		out[name], below = g.change(&p, below, old)
	}
	return out, below
}

func (g generator) changeMap(s *apiextensionsv1.JSONSchemaProps, path string, v map[string]any) (any, string) {
	out := runtime.DeepCopyJSON(v)
	if old := sorted(v); len(old) > 0 && g.one(2) {
		delete(out, old[g.IntN(len(old))])
	} else {
		out[g.key(s, path)] = g.value(s.AdditionalProperties.Schema, path+"{}")
	}
	return out, path + "{}"
}

func (g generator) changeList(s *apiextensionsv1.JSONSchemaProps, path string, v []any) (any, string) {
	out := runtime.DeepCopyJSONValue(v).([]any)
	most, least := 64, 0
	if s.MaxItems != nil {
		most = int(*s.MaxItems)
	}
	if s.MinItems != nil {
		least = int(*s.MinItems)
	}
	switch n := g.IntN(10); {
	case len(out) == 0 || n < 2 && len(out) < min(most, 5) || n == 0 && len(out) < most:
		return g.with(s, path, out), path + "[]"
	case n < 4 && len(out) > least:
		i := g.IntN(len(out))
		return slices.Delete(out, i, i+1), path + "[]"
	case n < 5:
		g.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		return out, path + "[]"
	}
	i := g.IntN(len(out))
	changed, where := g.change(s.Items.Schema, path+"[]", out[i])
	rest := slices.Delete(slices.Clone(out), i, i+1)
	if s.XListType != nil && slices.ContainsFunc(rest, func(o any) bool { return identity(s, o) == identity(s, changed) }) {
		return out, where // The same twice is for the invalid changes.
	}
	out[i] = changed
	return out, where
}
