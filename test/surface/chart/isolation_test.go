package chart

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// The bundled Redis isolates namespaces by default; your own Redis does so on request.
func TestRedisIsolation(t *testing.T) {
	t.Parallel()
	for values, managed := range map[string]bool{
		"":                           true,
		"redis: {isolation: Shared}": false,
		"redis: {url: 'redis://:p@redis.example.com:6379/0'}":                     false,
		"redis: {url: 'redis://:p@redis.example.com:6379/0', isolation: Managed}": true,
		"redis: {existingSecret: {name: r}, isolation: Managed, rotation: 24h}":   true,
	} {
		args := find[*appsv1.Deployment](t, rendered(t, values), "").Spec.Template.Spec.Containers[0].Args
		if slices.Contains(args, "--redis-isolation=Managed") != managed {
			t.Errorf("%s: the manager's arguments are %q", values, args)
		}
	}
}
