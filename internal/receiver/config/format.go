package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// introduced maps members of the configuration to the format that introduced them, such as "targets[].colour": 2.
// Members not listed are of format 1.
var introduced = map[string]int{
	"addresses.allowNetworks":    2,
	"restrictRedis":              3,
	"targets[].retry.statuses":   3,
	"deduplication.retryHorizon": 3,
	"maxBacklogBytes":            3,
}

// formatOf returns the lowest format that has every member of an encoded configuration.
func formatOf(encoded []byte, introduced map[string]int) (int, error) {
	used, err := members(encoded)
	if err != nil {
		return 0, err
	}
	format := 1
	for m := range used {
		format = max(format, introduced[m])
	}
	return format, nil
}

// Ignored returns the members of an encoded configuration that this build does not know, sorted, such as
// "targets[].colour". They have no effect. Decode allows them only from a newer operator.
func Ignored(encoded []byte) []string {
	used, err := members(encoded)
	if err != nil {
		return nil // Decode reports the error.
	}
	known := map[string]bool{}
	addKnown(known, "", reflect.TypeFor[Config]())
	maps.DeleteFunc(used, func(m string, _ bool) bool { return known[m] })
	return slices.Sorted(maps.Keys(used))
}

// members returns the paths of all members; the elements of an array share one path.
func members(encoded []byte) (map[string]bool, error) {
	var root any
	if err := json.Unmarshal(encoded, &root); err != nil {
		return nil, fmt.Errorf("receiver configuration: %w", err)
	}
	out := map[string]bool{}
	addMembers(out, "", root)
	return out, nil
}

func addMembers(out map[string]bool, at string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for name, v := range value {
			out[at+name] = true
			addMembers(out, at+name+".", v)
		}
	case []any:
		for _, v := range value {
			addMembers(out, strings.TrimSuffix(at, ".")+"[].", v)
		}
	}
}

func addKnown(out map[string]bool, at string, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		addKnown(out, at, t.Elem())
	case reflect.Slice:
		addKnown(out, strings.TrimSuffix(at, ".")+"[].", t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			out[at+name] = true
			addKnown(out, at+name+".", f.Type)
		}
	}
}
