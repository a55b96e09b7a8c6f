package main

import (
	"bytes"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/controller"
)

func TestBadFlagsEndWithASentence(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want []string // what the sentence names
	}{
		{nil, []string{"--redis-url-file", "name a file"}},
		{[]string{"--bogus"}, []string{"-bogus", "--help"}},
		{[]string{"--leader-elect=maybe"}, []string{"leader-elect", "maybe"}},
		{[]string{"--redis-url-file=f", "extra"}, []string{`"extra"`, "--help"}},
		{[]string{"--redis-url-file=f", "--log-level=loud"}, []string{"--log-level", "loud", "debug"}},
		{[]string{"--redis-url-file=f", "--redis-isolation=None"}, []string{"--redis-isolation", `"None"`, "Managed"}},
		{[]string{"--redis-url-file=f", "--redis-isolation=Managed"}, []string{"--redis-isolation", "POD_NAMESPACE"}},
		{[]string{"--redis-url-file=f", "--redis-rotation=5m"}, []string{"--redis-rotation", "5m", "1h"}},
		{[]string{"--redis-url-file=f", "--max-backlog-bytes=64 MB"}, []string{"--max-backlog-bytes", "64 MB", "64Mi"}},
		{[]string{"--redis-url-file=f", "--max-backlog-bytes=64"}, []string{"--max-backlog-bytes", "1Mi"}},
		{[]string{"--redis-url-file=f", "--max-backlog-bytes=-1Gi"}, []string{"--max-backlog-bytes", "1Mi"}},
		{[]string{"--redis-url-file=f", "--max-concurrent-rollouts=-1"}, []string{"--max-concurrent-rollouts", "-1", "no limit"}},
		{[]string{"--redis-url-file=f", "--traces-endpoint=collector:4317"}, []string{"--traces-endpoint", "http://collector.observability:4318"}},
		{[]string{"--redis-url-file=f", "--traces-endpoint=https://me:secret@collector"}, []string{"--traces-endpoint", "without a password"}},
		{[]string{"--redis-url-file=f", "--traces-endpoint=http://collector:4317"}, []string{"--traces-endpoint", "port 4317", "gRPC", "usually 4318"}},
		{[]string{"--redis-url-file=f", "--traces-ratio=1.5"}, []string{"--traces-ratio", "1.5", "from 0 to 1"}},
		{[]string{"--redis-url-file=f", "--traces-ratio=NaN"}, []string{"--traces-ratio", "from 0 to 1"}},
		{[]string{"--redis-url-file=f", "--log-format=xml"}, []string{"--log-format", "xml", "json"}},
		{[]string{"--redis-url-file=f", "--metrics-bind-address=8080"}, []string{"--metrics-bind-address", "8080", ":port"}},
		{[]string{"--redis-url-file=f", "--health-probe-bind-address=x"}, []string{"--health-probe-bind-address", ":port"}},
		{[]string{"--redis-url-file=f", "--ingress-class=a b"}, []string{"--ingress-class", "a b"}},
		{[]string{"--redis-url-file=f", "--namespaces=a,B"}, []string{"--namespaces", `"B"`}},
		{[]string{"--redis-url-file=f", "--network-policies"}, []string{"--network-policies", "POD_NAMESPACE"}},
		{[]string{"--redis-url-file=f", "--network-policies", "--network-policy-events-from=a b"}, []string{"--network-policy-events-from", `"a b"`}},
		{[]string{"--redis-url-file=f", "--network-policies", "--network-policy-operations-from=a,B"}, []string{"--network-policy-operations-from", `"B"`}},
		{[]string{"--redis-url-file=f", "--gateway=gateways/public,internal"}, []string{"--gateway", `"internal"`, "gateways/public"}},
		{[]string{"--redis-url-file=f", "--receiver-user-id=0"}, []string{"receiver-user-id", `"0"`, "Platform", "from 1 to"}},
		{[]string{"--redis-url-file=f", "--receiver-user-id=root"}, []string{"receiver-user-id", `"root"`, "Platform"}},
		{[]string{"--redis-url-file=f", "--probe-interval=10s"}, []string{"--probe-interval", "10s", "1m"}},
		{[]string{"--redis-url-file=f", "--probe-interval=-1m"}, []string{"--probe-interval", "-1m"}},
		{[]string{"--redis-url-file=f", "--gateway=a/b/c"}, []string{"--gateway", `"a/b/c"`}},
		{[]string{"--redis-url-file=f", "--target-addresses=Private"}, []string{"--target-addresses", "Private", "Public"}},
		{[]string{"--redis-url-file=f", "--trusted-proxies=10.0.0.0/8,10.0.0.1"}, []string{"--trusted-proxies", `"10.0.0.1"`, "10.244.0.0/16"}},
		{[]string{"--redis-url-file=f", "--target-addresses="}, []string{"--target-addresses", "Any"}},
		{[]string{"--redis-url-file=f", "--target-addresses=Any,10.0.0.0/8"}, []string{"--target-addresses", "Any,10.0.0.0/8"}},
		{[]string{"--redis-url-file=f", "--target-addresses=Public,10.96.0.1/12"}, []string{"--target-addresses", `"10.96.0.1/12"`, "Public,10.96.0.0/12"}},
		{[]string{"--redis-url-file=f", "--network-policy-events-from=a"}, []string{"--network-policies", "set it"}},
		{[]string{"--redis-url-file=f", "--host-template={{.Host}}"}, []string{"--host-template", "hooks.example.com"}},
		{[]string{"--redis-url-file=f", "--allowed-hosts=a.example.com,b c"}, []string{"--allowed-hosts", `"b c"`}},
		{[]string{"--redis-url-file=f", "--host-template=a b"}, []string{"--host-template", "a b"}},
		{[]string{"--redis-url-file=f", "--allowed-annotations=Default,a b"}, []string{"--allowed-annotations", `"a b"`}},
		{[]string{"--redis-url-file=f", "--allowed-labels=*a"}, []string{"--allowed-labels", `"*a"`}},
		{[]string{"--redis-url-file=f", "--network-policies", "--network-policy-target-namespaces=*,a"}, []string{"--network-policy-target-namespaces", `"*"`}},
		{[]string{"--redis-url-file=f", "--network-policy-target-namespaces=a"}, []string{"--network-policies", "set it"}},
	} {
		var stdout, stderr bytes.Buffer
		if code := realMain(t.Context(), tc.args, &stdout, &stderr); code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", tc.args, code, exitUsage)
		}
		said := stderr.String()
		if strings.Count(said, "\n") != 1 {
			t.Errorf("%v: more than a sentence: %s", tc.args, said)
		}
		for _, w := range tc.want {
			if !strings.Contains(said, w) {
				t.Errorf("%v: %q does not name %q", tc.args, said, w)
			}
		}
	}
}

// A single test, because realMain sets the process's logger.
func TestBadRedisFilesEndWithASentence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, ca := filepath.Join(dir, "url"), filepath.Join(dir, "ca.crt")
	for _, tc := range []struct {
		files map[string]string
		args  []string
		want  []string
	}{
		{map[string]string{url: "http://:secret@redis"}, []string{"--redis-url-file=" + url}, []string{"--redis-url-file: " + url, "redis://"}},
		{
			map[string]string{url: "rediss://:secret@redis", ca: "0\x82\x01\x0a"},
			[]string{"--redis-url-file=" + url, "--redis-ca-file=" + ca},
			[]string{"--redis-ca-file: " + ca, "no certificate in PEM form"},
		},
	} {
		for file, content := range tc.files {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var stderr bytes.Buffer
		if code := realMain(t.Context(), tc.args, &bytes.Buffer{}, &stderr); code != exitFailure {
			t.Errorf("%v: exit code %d, want %d", tc.args, code, exitFailure)
		}
		said := stderr.String()
		if strings.Contains(said, "secret") || strings.Count(said, "\n") != 1 {
			t.Errorf("%v: said %q", tc.args, said)
		}
		for _, w := range tc.want {
			if !strings.Contains(said, w) {
				t.Errorf("%v: %q does not name %q", tc.args, said, w)
			}
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"--help": "--redis-url-file", "--version": "heymarket-operator manager dev"} {
		var out bytes.Buffer
		if code := realMain(t.Context(), []string{arg}, &out, &out); code != 0 || !strings.Contains(strings.ReplaceAll(out.String(), "  -", "  --"), want) {
			t.Errorf("%s: exit code %d: %s", arg, code, out.String())
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	o, err := parseOptions([]string{
		"--redis-url-file=f", "--namespaces= a,b,,a", "--log-level=debug", "--log-format=text",
		"--host-template={{.Name}}.example.com", "--metrics-bind-address=0", "--leader-elect", "--max-concurrent-rollouts=3", "--max-backlog-bytes=64Mi",
		"--gateway=gateways/public, gateways/internal", "--target-addresses=Public, 10.96.0.0/12,fd00:10::/112", "--trusted-proxies=10.244.0.0/16, fd00::/8",
		"--traces-endpoint=http://collector.observability:4318", "--traces-ratio=0.25",
	}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.namespaces, []string{"a", "b"}) || o.logLevel != slog.LevelDebug || !o.leaderElect || o.metricsAddress != "0" || o.maxRollouts != 3 || o.maxBacklog != 64<<20 {
		t.Errorf("options: %+v", o)
	}
	if want := (controller.Gateways{{Namespace: "gateways", Name: "public"}, {Namespace: "gateways", Name: "internal"}}); !slices.Equal(o.gateways, want) {
		t.Errorf("gateways: %+v", o.gateways)
	}
	if want := (controller.TargetAddresses{Public: true, AndNetworks: []string{"10.96.0.0/12", "fd00:10::/112"}}); !cmp.Equal(o.targets, want) {
		t.Errorf("target addresses: %+v", o.targets)
	}
	if !slices.Equal(o.trustedProxies, []string{"10.244.0.0/16", "fd00::/8"}) {
		t.Errorf("trusted proxies: %q", o.trustedProxies)
	}
	if want := (controller.Traces{Endpoint: "http://collector.observability:4318", Ratio: 0.25}); o.traces != want {
		t.Errorf("traces: %+v", o.traces)
	}
	if host, err := o.hostTemplate.Host("ns", "n"); err != nil || host != "n.example.com" {
		t.Errorf("host %q, %v", host, err)
	}
	if _, err := parseOptions([]string{"-h"}, &bytes.Buffer{}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

func TestNetworkPolicyOptions(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "heymarket-system")
	o, err := parseOptions([]string{
		"--redis-url-file=f", "--network-policies", "--network-policy-events-from=traefik", "--network-policy-operations-from=monitoring, keda,keda",
		"--network-policy-target-namespaces=crm,data",
	}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	want := &controller.NetworkPolicy{OperatorNamespace: "heymarket-system", EventsFrom: []string{"traefik"}, OperationsFrom: []string{"monitoring", "keda"}, TargetNamespaces: []string{"crm", "data"}}
	if diff := cmp.Diff(want, o.networkPolicy); diff != "" {
		t.Error(diff)
	}
	if o, err := parseOptions([]string{"--redis-url-file=f"}, &bytes.Buffer{}); err != nil || o.networkPolicy != nil {
		t.Errorf("without the flag: %+v, %v", o.networkPolicy, err)
	}
}

func TestAllowLists(t *testing.T) {
	t.Parallel()
	o, err := parseOptions([]string{"--redis-url-file=f"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(controller.DefaultAnnotations, o.annotations); diff != "" {
		t.Errorf("annotations without the flag (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(controller.DefaultLabels, o.labels); diff != "" {
		t.Errorf("labels without the flag (-want +got):\n%s", diff)
	}
	o, err = parseOptions([]string{"--redis-url-file=f", "--allowed-annotations=example.com/*", "--allowed-labels=Default,team"}, &bytes.Buffer{})
	wantLabels := append(slices.Clone(controller.DefaultLabels), "team")
	if err != nil || !slices.Equal(o.annotations, []string{"example.com/*"}) || !slices.Equal(o.labels, wantLabels) {
		t.Errorf("annotations %v, labels %v, %v", o.annotations, o.labels, err)
	}
}
