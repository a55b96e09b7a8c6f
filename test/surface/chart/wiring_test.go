package chart

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

// wire is what a value does: set to a value, it brings a text into the rendering, or takes one away, that is otherwise not there.
type wire struct {
	value string // in YAML
	brings,
	removes string
	with string // other values, without which it has no effect
}

const (
	monitors   = "monitoring: {podMonitor: {enabled: true}}"
	services   = "monitoring: {serviceMonitor: {enabled: true}}"
	rules      = "monitoring: {prometheusRule: {enabled: true}}"
	dashboards = "monitoring: {dashboard: {enabled: true}}"
	policies   = "receiver: {networkPolicy: {enabled: true}}"
	ownSecret  = "redis: {existingSecret: {name: mine}}"
	ownCA      = "redis: {existingSecret: {name: mine}, caSecret: {name: authority}}"
)

// wires has a row for every value: a value that is documented and leads nowhere breaks no other test.
var wires = map[string]wire{
	"replicas":                                       {value: "3", brings: "replicas: 3"},
	"leaderElection.enabled":                         {value: "false", removes: "- --leader-elect"},
	"image.registry":                                 {value: "mirror.example.com", brings: `image: "mirror.example.com/heymarket.dev/operator:`},
	"image.repository":                               {value: "registry.example.com/hm", brings: `image: "registry.example.com/hm:`},
	"image.tag":                                      {value: "9.9.9", brings: `operator:9.9.9"`},
	"image.digest":                                   {value: "sha256:" + strings.Repeat("a", 64), brings: `@sha256:aaa`},
	"image.pullPolicy":                               {value: "Always", brings: `imagePullPolicy: "Always"`},
	"imagePullSecrets":                               {value: "[{name: registry}]", brings: "imagePullSecrets:\n        - name: registry"},
	"userID":                                         {value: "Platform", brings: "--receiver-user-id=Platform"},
	"receiver.image":                                 {value: "example.com/receiver:1", brings: `--receiver-image=example.com/receiver:1`},
	"receiver.imagePullSecrets":                      {value: "[{name: registry}]", brings: `--receiver-defaults={\"imagePullSecrets\":[{\"name\":\"registry\"}]}`},
	"receiver.resources":                             {value: "{limits: {memory: 256Mi}}", brings: `--receiver-defaults={\"resources\":{\"limits\":{\"memory\":\"256Mi\"}}}`},
	"receiver.nodeSelector":                          {value: "{pool: hooks}", brings: `--receiver-defaults={\"nodeSelector\":{\"pool\":\"hooks\"}}`},
	"receiver.tolerations":                           {value: "[{operator: Exists}]", brings: `--receiver-defaults={\"tolerations\":[{\"operator\":\"Exists\"}]}`},
	"receiver.priorityClassName":                     {value: "messaging", brings: `--receiver-defaults={\"priorityClassName\":\"messaging\"}`},
	"receiver.networkPolicy.enabled":                 {value: "true", brings: "- --network-policies"},
	"receiver.networkPolicy.eventsFrom":              {value: "[traefik]", brings: "--network-policy-events-from=traefik,", with: policies},
	"receiver.networkPolicy.operationsFrom":          {value: "[monitoring]", brings: "--network-policy-operations-from=monitoring", with: policies},
	"receiver.networkPolicy.targetNamespaces":        {value: "[crm]", brings: "--network-policy-target-namespaces=crm", with: policies},
	"namespaces":                                     {value: "[staging, production]", brings: "--namespaces=staging,production"},
	"hostTemplate":                                   {value: "'{{.Namespace}}.example.com'", brings: "--host-template={{.Namespace}}.example.com"},
	"allowedHosts":                                   {value: "[a.example.com]", brings: "--allowed-hosts=a.example.com"},
	"allowedAnnotations":                             {value: "[example.com/a]", brings: "--allowed-annotations=example.com/a"},
	"allowedLabels":                                  {value: "[example.com/b]", brings: "--allowed-labels=example.com/b"},
	"ingressClass":                                   {value: "traefik", brings: "--ingress-class=traefik"},
	"gateways":                                       {value: "[gateways/public]", brings: "--gateway=gateways/public"},
	"targetAddresses":                                {value: "[Public, 10.96.0.0/12]", brings: "--target-addresses=Public,10.96.0.0/12"},
	"trustedProxies":                                 {value: "[10.244.0.0/16]", brings: "--trusted-proxies=10.244.0.0/16"},
	"traces.endpoint":                                {value: "http://collector:4318", brings: "--traces-endpoint=http://collector:4318"},
	"traces.ratio":                                   {value: "0.25", brings: "--traces-ratio=0.25"},
	"probe.interval":                                 {value: "5m", brings: "--probe-interval=5m"},
	"maxConcurrentRollouts":                          {value: "3", brings: "--max-concurrent-rollouts=3"},
	"maxBacklogBytes":                                {value: "64Mi", brings: "--max-backlog-bytes=64Mi"},
	"log.level":                                      {value: "debug", brings: "--log-level=debug"},
	"log.format":                                     {value: "text", brings: "--log-format=text"},
	"redis.url":                                      {value: "redis://redis.example.com:6379/0", removes: "redis-server"},
	"redis.existingSecret.name":                      {value: "mine", brings: `secretName: "mine"`},
	"redis.existingSecret.key":                       {value: "other", brings: `key: "other"`, with: ownSecret},
	"redis.caSecret.name":                            {value: "authority", brings: `secretName: "authority"`, with: ownSecret},
	"redis.caSecret.key":                             {value: "other.crt", brings: `key: "other.crt"`, with: ownCA},
	"redis.isolation":                                {value: "Shared", removes: "--redis-isolation=Managed"},
	"redis.rotation":                                 {value: "2h", brings: "--redis-rotation=2h"},
	"redis.bundled.image":                            {value: "example.com/redis:8", brings: "example.com/redis:8"},
	"redis.bundled.pullPolicy":                       {value: "Never", brings: `imagePullPolicy: "Never"`},
	"redis.bundled.password":                         {value: "abcdefghijklmnop", brings: "f39dac6cbaba"},
	"redis.bundled.maxMemory":                        {value: "64mb", brings: "64mb"},
	"redis.bundled.persistence.mode":                 {value: "Always", brings: "kind: PersistentVolumeClaim"},
	"redis.bundled.persistence.storageClass":         {value: "fast", brings: `storageClassName: "fast"`},
	"redis.bundled.persistence.size":                 {value: "9Gi", brings: "9Gi", with: "redis: {bundled: {persistence: {mode: Always}}}"},
	"redis.bundled.resources.requests.cpu":           {value: "77m", brings: "cpu: 77m"},
	"redis.bundled.resources.requests.memory":        {value: "77Mi", brings: "memory: 77Mi"},
	"redis.bundled.resources.limits.memory":          {value: "777Mi", brings: "memory: 777Mi"},
	"redis.bundled.nodeSelector":                     {value: "{pool: redis}", brings: "pool: redis"},
	"redis.bundled.tolerations":                      {value: "[{key: bundled, operator: Exists}]", brings: "key: bundled"},
	"crds.enabled":                                   {value: "false", removes: "kind: CustomResourceDefinition"},
	"crds.keep":                                      {value: "false", brings: "- check-uninstall", removes: "helm.sh/resource-policy: keep"},
	"rbac.create":                                    {value: "false", removes: "kind: ClusterRoleBinding"},
	"rbac.aggregate":                                 {value: "false", removes: "rbac.authorization.k8s.io/aggregate-to-edit"},
	"serviceAccount.create":                          {value: "false", removes: "kind: ServiceAccount\nmetadata:\n  name: \"heymarket-operator\"\n", with: "serviceAccount: {name: heymarket-operator}"},
	"serviceAccount.name":                            {value: "other", brings: `serviceAccountName: "other"`},
	"serviceAccount.annotations":                     {value: "{example.com/role: arn}", brings: "example.com/role: arn"},
	"serviceAccount.labels":                          {value: "{example.com/team: hooks}", brings: "example.com/team: hooks"},
	"serviceAccount.automount":                       {value: "false", brings: "      automountServiceAccountToken: false\n      enableServiceLinks: false\n      terminationGracePeriodSeconds: 30"},
	"deploymentAnnotations":                          {value: "{example.com/a: b}", brings: "example.com/a: b"},
	"strategy":                                       {value: "{type: Recreate}", brings: "strategy:\n    type: Recreate"},
	"revisionHistoryLimit":                           {value: "2", brings: "revisionHistoryLimit: 2"},
	"terminationGracePeriodSeconds":                  {value: "77", brings: "terminationGracePeriodSeconds: 77"},
	"livenessProbe":                                  {value: "{periodSeconds: 77}", brings: "periodSeconds: 77"},
	"podSecurityContext":                             {value: "{supplementalGroups: [77]}", brings: "supplementalGroups:\n        - 77"},
	"containerSecurityContext":                       {value: "{runAsUser: 77}", brings: "runAsUser: 77"},
	"hostAliases":                                    {value: "[{ip: 10.0.0.7, hostnames: [redis]}]", brings: "ip: 10.0.0.7"},
	"dnsPolicy":                                      {value: "Default", brings: "dnsPolicy: Default"},
	"extraArgs":                                      {value: "[--log-level=debug]", brings: `- "--log-level=debug"`},
	"extraEnv":                                       {value: "[{name: HTTPS_PROXY, value: x}]", brings: "name: HTTPS_PROXY"},
	"extraVolumes":                                   {value: "[{name: more, emptyDir: {}}]", brings: "name: more"},
	"extraVolumeMounts":                              {value: "[{name: more, mountPath: /more}]", brings: "mountPath: /more"},
	"resources.requests.cpu":                         {value: "77m", brings: "cpu: 77m"},
	"resources.requests.memory":                      {value: "77Mi", brings: "memory: 77Mi"},
	"resources.limits.memory":                        {value: "777Mi", brings: "memory: 777Mi"},
	"priorityClassName":                              {value: "high", brings: `priorityClassName: "high"`},
	"nodeSelector":                                   {value: "{pool: system}", brings: "pool: system"},
	"tolerations":                                    {value: "[{key: system, operator: Exists}]", brings: "key: system"},
	"affinity":                                       {value: "{podAntiAffinity: {}}", brings: "podAntiAffinity: {}"},
	"topologySpreadConstraints":                      {value: "[{maxSkew: 7, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {}}]", brings: "maxSkew: 7"},
	"podLabels":                                      {value: "{example.com/c: d}", brings: "example.com/c: d"},
	"podAnnotations":                                 {value: "{example.com/e: f}", brings: "example.com/e: f"},
	"podDisruptionBudget.enabled":                    {value: "true", brings: "kind: PodDisruptionBudget"},
	"podDisruptionBudget.maxUnavailable":             {value: "40%", brings: "maxUnavailable: 40%", with: "podDisruptionBudget: {enabled: true}"},
	"podDisruptionBudget.minAvailable":               {value: "60%", brings: "minAvailable: 60%", removes: "maxUnavailable: 1", with: "podDisruptionBudget: {enabled: true}"},
	"monitoring.podMonitor.enabled":                  {value: "true", brings: "kind: PodMonitor"},
	"monitoring.podMonitor.labels":                   {value: "{release: prom}", brings: "release: prom", with: monitors},
	"monitoring.podMonitor.interval":                 {value: "7s", brings: "interval: 7s", with: monitors},
	"monitoring.podMonitor.scrapeTimeout":            {value: "6s", brings: "scrapeTimeout: 6s", with: monitors},
	"monitoring.podMonitor.relabelings":              {value: "[{targetLabel: cluster, replacement: eu}]", brings: "replacement: eu", with: monitors},
	"monitoring.podMonitor.namespace":                {value: "prom", brings: `namespace: "prom"`, with: monitors},
	"monitoring.serviceMonitor.enabled":              {value: "true", brings: "kind: ServiceMonitor"},
	"monitoring.serviceMonitor.labels":               {value: "{release: prom}", brings: "release: prom", with: services},
	"monitoring.serviceMonitor.interval":             {value: "7s", brings: "interval: 7s", with: services},
	"monitoring.serviceMonitor.scrapeTimeout":        {value: "6s", brings: "scrapeTimeout: 6s", with: services},
	"monitoring.serviceMonitor.relabelings":          {value: "[{targetLabel: cluster, replacement: eu}]", brings: "replacement: eu", with: services},
	"monitoring.serviceMonitor.namespace":            {value: "prom", brings: `namespace: "prom"`, with: services},
	"monitoring.prometheusRule.enabled":              {value: "true", brings: "kind: PrometheusRule"},
	"monitoring.prometheusRule.labels":               {value: "{release: prom}", brings: "release: prom", with: rules},
	"monitoring.prometheusRule.alertLabels":          {value: "{team: messaging}", brings: "team: messaging", with: rules},
	"monitoring.prometheusRule.runbookURL":           {value: "https://wiki.example.com/alerts", brings: "runbook_url: https://wiki.example.com/alerts#", with: rules},
	"monitoring.prometheusRule.alerts":               {value: "{HeymarketDeadLetters: {enabled: false}}", removes: "alert: HeymarketDeadLetters\n", with: rules},
	"monitoring.prometheusRule.objectives.accepted":  {value: "98.76", brings: "98.76", with: rules},
	"monitoring.prometheusRule.objectives.delivered": {value: "87.65", brings: "87.65", with: rules},
	"monitoring.dashboard.enabled":                   {value: "true", brings: "heymarket-fleet.json"},
	"monitoring.dashboard.labels.grafana_dashboard":  {value: `"2"`, brings: `grafana_dashboard: "2"`, with: dashboards},
	"monitoring.dashboard.annotations":               {value: "{folder: hooks}", brings: "folder: hooks", with: dashboards},
	"networkPolicy.enabled":                          {value: "true", brings: "kind: NetworkPolicy"},
	"networkPolicy.metricsFrom":                      {value: "[{namespaceSelector: {matchLabels: {prom: \"yes\"}}}]", brings: `prom: "yes"`, with: "networkPolicy: {enabled: true}"},
	"tests.enabled":                                  {value: "false", removes: "helm.sh/hook: test"},
	"nameOverride":                                   {value: "hooks", brings: `app.kubernetes.io/name: "hooks"`},
	"fullnameOverride":                               {value: "hooks", brings: `name: "hooks"`},
	"extraObjects":                                   {value: "[{kind: ConfigMap, apiVersion: v1, metadata: {name: '{{ .Release.Name }}-extra'}}]", brings: "name: 'heymarket-operator-extra'"},
	"global.imagePullSecrets":                        {value: "[registry]", brings: "imagePullSecrets:\n        - name: registry"},
	"commonLabels":                                   {value: "{example.com/g: h}", brings: "example.com/g: h"},
	"commonAnnotations":                              {value: "{example.com/i: j}", brings: "example.com/i: j"},
}

func TestEveryValueHasAnEffect(t *testing.T) {
	t.Parallel()
	var defaults map[string]any
	if err := yaml.Unmarshal([]byte(file(t, chartDir, "values.yaml")), &defaults); err != nil {
		t.Fatal(err)
	}
	left := maps.Clone(wires)
	for _, name := range leaves("", defaults) {
		if _, there := wires[name]; !there {
			t.Errorf("%s has no row: say what it does", name)
		}
		delete(left, name)
	}
	for name := range left {
		t.Errorf("%s has a row and is not in values.yaml", name)
	}
	var before sync.Map
	plain := func(t *testing.T, with string) string {
		once, _ := before.LoadOrStore(with, sync.OnceValue(func() string { return wired(t, with) }))
		return once.(func() string)()
	}
	for name, w := range wires {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			without := plain(t, w.with)
			with := wired(t, set(t, w.with, name, w.value))
			if w.brings == "" && w.removes == "" {
				t.Error("the row says nothing")
			}
			if w.brings != "" && (strings.Contains(without, w.brings) || !strings.Contains(with, w.brings)) {
				t.Errorf("%s does not bring %q, or it was there before", w.value, w.brings)
			}
			if w.removes != "" && (!strings.Contains(without, w.removes) || strings.Contains(with, w.removes)) {
				t.Errorf("%s does not remove %q, or it was not there before", w.value, w.removes)
			}
		})
	}
}

// leaves are the paths of values that are no maps, or empty ones.
func leaves(path string, value any) (all []string) {
	m, _ := value.(map[string]any)
	if len(m) == 0 {
		return []string{path}
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, leaves(strings.TrimPrefix(path+"."+name, "."), m[name])...)
	}
	return all
}

// set returns values in YAML with one more.
func set(t *testing.T, values, path, value string) string {
	t.Helper()
	all := map[string]any{}
	var v any
	if err := yaml.Unmarshal([]byte(values), &all); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(value), &v); err != nil {
		t.Fatal(err)
	}
	at, names := all, strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		next, ok := at[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	at[names[len(names)-1]] = v
	out, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func wired(t *testing.T, values string) string {
	t.Helper()
	text, err := render(t, chartDir, values)
	if err != nil {
		t.Fatalf("render: %v\nwith\n%s", err, values)
	}
	return text
}

// What a person sets to null goes: the chart's own part of a security context, or the default of any other value.
func TestSecurityContextsCanBeReduced(t *testing.T) {
	t.Parallel()
	text := wired(t, "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}\ncontainerSecurityContext: {runAsNonRoot: null}")
	_, deployment, _ := strings.Cut(text, "kind: Deployment")
	deployment, _, _ = strings.Cut(deployment, "\n---")
	for _, gone := range []string{"runAsUser", "runAsGroup", "fsGroup", "null"} {
		if strings.Contains(deployment, gone) {
			t.Errorf("%s is still there:\n%s", gone, deployment)
		}
	}
	for _, stays := range []string{"runAsNonRoot: true", "seccompProfile", "readOnlyRootFilesystem: true"} {
		if strings.Count(deployment, stays) != 1 {
			t.Errorf("%s is there %d times:\n%s", stays, strings.Count(deployment, stays), deployment)
		}
	}
}
