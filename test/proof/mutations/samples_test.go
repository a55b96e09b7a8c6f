package mutations

import (
	"math/rand/v2"
	"strings"
)

// samples are values for what a schema does not describe: expressions, URLs, and the vocabulary of Kubernetes' own
// types. Their keys are ends of paths, and the longest that fits holds. What stands in no list is made from the schema
// alone.
var samples = map[string][]any{
	"targets[].url": {
		"http://crm.example.com/in", "https://crm.example.com/in?a=b", "http://crm:8080", "https://[2001:db8::1]:8443/x", "https://192.0.2.7/hooks/a",
	},
	"targets[].filter": {
		`event.type == "message_sent"`, `has(event.data.id)`, `event.data.text.contains("x")`,
		`event.nothing == 1`, `1 + 1`, `(`, // Mistakes.
	},
	"deduplication.key": {`string(event.data.id)`, `event.type`, `1`, `event.`},

	"resources.limits{}":   quantities,
	"resources.requests{}": quantities,

	"operator":                             {"In", "NotIn", "Exists", "DoesNotExist"},
	"tolerations[].operator":               {"Exists", "Equal"},
	"tolerations[].effect":                 {"NoSchedule", "PreferNoSchedule", "NoExecute", ""},
	"tolerations[].key":                    {"a", "example.com/b"},
	"tolerations[].value":                  {"c", ""},
	"matchExpressions[].key":               {"a", "kubernetes.io/os", "example.com/b"},
	"values[]":                             {"x", "y", "7"},
	"matchLabels{}":                        {"x", "y"},
	"matchLabelKeys[]":                     {"pod-template-hash", "a"},
	"mismatchLabelKeys[]":                  {"b"},
	"namespaces[]":                         {"a", "b"},
	"topologyKey":                          {"kubernetes.io/hostname", "topology.kubernetes.io/zone"},
	"whenUnsatisfiable":                    {"DoNotSchedule", "ScheduleAnyway"},
	"nodeAffinityPolicy":                   {"Honor", "Ignore"},
	"nodeTaintsPolicy":                     {"Honor", "Ignore"},
	"maxSkew":                              {int64(1), int64(2), int64(5)},
	"minDomains":                           {int64(1), int64(3)},
	"weight":                               {int64(1), int64(50), int64(100)},
	"receiver.nodeSelector{}":              {"linux", "x", ""},
	"matchFields[].key":                    {"metadata.name"},
	"receiver.podAnnotations{}":            {"x", "", "ä b"},
	"exposure.ingress.annotations{}":       {"x", "", "letsencrypt"},
	"exposure.serviceAnnotations{}":        {"x", "", "letsencrypt"},
	"targets[].headers[].value":            {"x", "a b", "ü"},
	"receiver.priorityClassName":           {"high", "low"},
	"receiver.imagePullSecrets[].name":     {"pull", "registry"},
	"exposure.httpRoute.parentRefs[].name": {"public", "private"},
}

// keys are the keys of maps whose keys no rule describes.
var keys = map[string][]string{
	"resources.limits":      {"cpu", "memory", "ephemeral-storage"},
	"resources.requests":    {"cpu", "memory", "ephemeral-storage"},
	"matchLabels":           {"a", "example.com/b"},
	"receiver.nodeSelector": {"kubernetes.io/os", "example.com/pool", "a"},
}

var quantities = []any{"10m", "100m", "0.1", "1", int64(1), "1000m", "64Mi", "128Mi", "134217728", "1e3", "0.5Gi", "2G", "100u"}

func sample(r *rand.Rand, path string) (any, bool) {
	list, ok := ending(samples, path)
	if !ok {
		return nil, false
	}
	return list[r.IntN(len(list))], true
}

func ending[T any](table map[string]T, path string) (out T, ok bool) {
	longest := -1
	for suffix, v := range table {
		if (path == suffix || strings.HasSuffix(path, "."+suffix)) && len(suffix) > longest {
			out, ok, longest = v, true, len(suffix)
		}
	}
	return out, ok
}
