package main

import (
	"bytes"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"heymarket.dev/operator/internal/controller"
)

// No other test notices a flag that is parsed but never passed on. So each has a row: an argument, and the destination of its
// value. Flags for files, the log and the version are used in main itself.
func TestEveryFlagReachesWhereItActs(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "heymarket-system")
	settings := func(o options) controller.Settings { return o.settings(&controller.Liveness{}) }
	host := func(o options) any {
		name, _ := settings(o).HostTemplate.Host("ns", "n")
		return name
	}
	rows := map[string]struct {
		arg  string
		got  func(options) any
		want any
	}{
		"redis-url-file":    {"f", func(o options) any { return o.redisURLFile }, "f"},
		"redis-ca-file":     {"ca", func(o options) any { return o.redisCAFile }, "ca"},
		"redis-isolation":   {"Managed", func(o options) any { return settings(o).RedisIsolation }, controller.RedisManaged},
		"redis-rotation":    {"2h", func(o options) any { return settings(o).RedisRotation }, 2 * time.Hour},
		"receiver-image":    {"example.com/receiver:1", func(o options) any { return settings(o).ReceiverImage }, "example.com/receiver:1"},
		"receiver-user-id":  {"1234", func(o options) any { return settings(o).ReceiverUserID }, int64(1234)},
		"receiver-defaults": {`{"priorityClassName":"messaging"}`, func(o options) any { return settings(o).ReceiverDefaults.PriorityClassName }, "messaging"},
		"host-template":     {"{{.Name}}.example.com", host, "n.example.com"},
		"allowed-hosts": {"{{.Namespace}}.example.com", func(o options) any { return settings(o).AllowedHosts }, must(t, func() (any, error) {
			return controller.ParseAllowedHosts("{{.Namespace}}.example.com")
		})},
		"allowed-annotations":              {"example.com/a", func(o options) any { return settings(o).AllowedAnnotations }, controller.AllowList{"example.com/a"}},
		"allowed-labels":                   {"example.com/b", func(o options) any { return settings(o).AllowedLabels }, controller.AllowList{"example.com/b"}},
		"ingress-class":                    {"traefik", func(o options) any { return settings(o).IngressClass }, "traefik"},
		"gateway":                          {"gateways/public", func(o options) any { return settings(o).Gateways }, controller.Gateways{{Namespace: "gateways", Name: "public"}}},
		"trusted-proxies":                  {"10.244.0.0/16", func(o options) any { return settings(o).TrustedProxies }, []string{"10.244.0.0/16"}},
		"target-addresses":                 {"Public,10.96.0.0/12", func(o options) any { return settings(o).TargetAddresses }, controller.TargetAddresses{Public: true, AndNetworks: []string{"10.96.0.0/12"}}},
		"traces-endpoint":                  {"http://collector:4318", func(o options) any { return settings(o).Traces.Endpoint }, "http://collector:4318"},
		"traces-ratio":                     {"0.25", func(o options) any { return settings(o).Traces.Ratio }, 0.25},
		"probe-interval":                   {"7m", func(o options) any { return settings(o).ProbeInterval }, 7 * time.Minute},
		"namespaces":                       {"a,b", func(o options) any { return settings(o).Namespaces }, []string{"a", "b"}},
		"max-concurrent-rollouts":          {"3", func(o options) any { return settings(o).MaxConcurrentRollouts }, 3},
		"max-backlog-bytes":                {"64Mi", func(o options) any { return settings(o).MaxBacklogBytes }, int64(64 << 20)},
		"network-policies":                 {"true", func(o options) any { return settings(o).NetworkPolicy.OperatorNamespace }, "heymarket-system"},
		"network-policy-events-from":       {"traefik", func(o options) any { return settings(o).NetworkPolicy.EventsFrom }, []string{"traefik"}},
		"network-policy-operations-from":   {"monitoring", func(o options) any { return settings(o).NetworkPolicy.OperationsFrom }, []string{"monitoring"}},
		"network-policy-target-namespaces": {"crm", func(o options) any { return settings(o).NetworkPolicy.TargetNamespaces }, []string{"crm"}},
		"leader-elect":                     {"true", func(o options) any { return o.manager(logr.Discard()).LeaderElection }, true},
		"metrics-bind-address":             {":1", func(o options) any { return o.manager(logr.Discard()).Metrics.BindAddress }, ":1"},
		"health-probe-bind-address":        {":2", func(o options) any { return o.manager(logr.Discard()).HealthProbeBindAddress }, ":2"},
		"log-level":                        {"debug", func(o options) any { return o.logLevel.String() }, "DEBUG"},
		"log-format":                       {"text", func(o options) any { return o.logFormat }, "text"},
		"version":                          {"false", func(o options) any { return o.version }, false},
	}
	var args []string
	for name, row := range rows {
		args = append(args, "--"+name+"="+row.arg)
	}
	o, err := parseOptions(args, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range rows {
		if got := row.got(o); !reflect.DeepEqual(got, row.want) {
			t.Errorf("--%s=%s arrives as %+v, want %+v", name, row.arg, got, row.want)
		}
	}

	var help bytes.Buffer
	_, _ = parseOptions([]string{"--help"}, &help)
	for _, m := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(help.String(), -1) {
		if _, there := rows[m[1]]; !there {
			t.Errorf("--%s has no row: say where its value has to arrive", m[1])
		}
	}
	// The other way round: no setting is left that no flag reaches.
	given := reflect.ValueOf(settings(o))
	for field, value := range given.Fields() {
		if field.IsExported() && value.IsZero() {
			t.Errorf("no flag reaches Settings.%s", field.Name)
		}
	}
}

func must(t *testing.T, f func() (any, error)) any {
	t.Helper()
	v, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return v
}
