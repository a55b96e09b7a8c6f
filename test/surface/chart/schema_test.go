package chart

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Each wrong value is rejected, and the message names its place and the mistake.
func TestWrongValuesAreRefused(t *testing.T) {
	t.Parallel()
	needHelm(t)
	for values, want := range map[string][]string{
		// Names that there are not, at every depth.
		"replicaCount: 2":                                {"at ''", "'replicaCount' not allowed"},
		"image: {repo: x}":                               {"at '/image'", "'repo' not allowed"},
		"redis: {urll: redis://a}":                       {"at '/redis'", "'urll' not allowed"},
		"redis: {caSecret: {value: x}}":                  {"at '/redis/caSecret'", "'value' not allowed"},
		"redis: {bundled: {enabled: false}}":             {"at '/redis/bundled'", "'enabled' not allowed"},
		"redis: {bundled: {persistence: {storage: x}}}":  {"at '/redis/bundled/persistence'", "'storage' not allowed"},
		"monitoring: {podMonitor: {scrape: 1s}}":         {"at '/monitoring/podMonitor'", "'scrape' not allowed"},
		"resources: {limit: {memory: 1Gi}}":              {"at '/resources'", "'limit' not allowed"},
		"affinity: {podAffinty: {}}":                     {"at '/affinity'", "'podAffinty' not allowed"},
		"tolerations: [{keys: a}]":                       {"at '/tolerations/0'", "'keys' not allowed"},
		"networkPolicy: {metricsFrom: [{selector: {}}]}": {"at '/networkPolicy/metricsFrom/0'", "'selector' not allowed"},
		"imagePullSecrets: [{secret: a}]":                {"at '/imagePullSecrets/0'", "'secret' not allowed"},
		"affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpression: []}]}}}": {
			"at '/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0'", "'matchExpression' not allowed",
		},
		"podSecurityContext: {runAsUsr: 1}":                      {"at '/podSecurityContext'", "'runAsUsr' not allowed"},
		"containerSecurityContext: {fsGroup: 1}":                 {"at '/containerSecurityContext'", "'fsGroup' not allowed"},
		"strategy: {maxSurge: 1}":                                {"at '/strategy'", "'maxSurge' not allowed"},
		"livenessProbe: {httpGet: {}}":                           {"at '/livenessProbe'", "'httpGet' not allowed"},
		"extraEnv: [{name: A, valu: b}]":                         {"at '/extraEnv/0'", "'valu' not allowed"},
		"extraVolumeMounts: [{name: a, path: /b}]":               {"at '/extraVolumeMounts/0'", "'mountPath'"},
		"monitoring: {podMonitor: {relabelings: [{source: a}]}}": {"at '/monitoring/podMonitor/relabelings/0'", "'source' not allowed"},
		"receiver: {resources: {limit: {}}}":                     {"at '/receiver/resources'", "'limit' not allowed"},
		// Wrong types.
		"global: {imagePullSecrets: registry}":  {"at '/global/imagePullSecrets'", "want array"},
		"podSecurityContext: {runAsUser: root}": {"at '/podSecurityContext/runAsUser'", "want null or integer"},
		"extraArgs: [log-level]":                {"at '/extraArgs/0'", "does not match"},
		"extraObjects: [{kind: ConfigMap}]":     {"at '/extraObjects/0'", "'apiVersion'"},
		"replicas: two":                         {"at '/replicas'", "want integer"},
		"replicas: 1.5":                         {"at '/replicas'", "want integer"},
		"namespaces: staging":                   {"at '/namespaces'", "want array"},
		"crds: {enabled: 'yes'}":                {"at '/crds/enabled'", "want boolean"},
		"crds: true":                            {"at '/crds'", "want object"},
		"commonLabels: {a: 1}":                  {"at '/commonLabels/a'", "or string"},
		"podAnnotations: {a: true}":             {"at '/podAnnotations/a'", "or string"},
		"imagePullSecrets: [registry]":          {"at '/imagePullSecrets/0'", "want object"},
		"hostTemplate: 5":                       {"at '/hostTemplate'", "want string"},
		// Values out of their range.
		"replicas: -1":                                                {"at '/replicas'", "minimum"},
		"image: {pullPolicy: Sometimes}":                              {"at '/image/pullPolicy'", "'Always', 'IfNotPresent', 'Never'"},
		"image: {repository: 'example.com/operator:1.2'}":             {"at '/image/repository'", "does not match"},
		"image: {digest: 'sha256:123'}":                               {"at '/image/digest'", "does not match"},
		"log: {level: trace}":                                         {"at '/log/level'", "'debug', 'info', 'warn', 'error'"},
		"log: {format: logfmt}":                                       {"at '/log/format'", "'json', 'text'"},
		"redis: {url: 'http://redis:6379'}":                           {"at '/redis/url'", "rediss?://"},
		"redis: {caSecret: {name: My CA}}":                            {"at '/redis/caSecret/name'", "does not match"},
		"redis: {caSecret: {name: ca, key: 'a/b'}}":                   {"at '/redis/caSecret/key'", "does not match"},
		"redis: {bundled: {password: short}}":                         {"at '/redis/bundled/password'", "{16,128}"},
		"redis: {bundled: {password: 'with/slashes/in/it/and/more'}}": {"at '/redis/bundled/password'", "does not match"},
		"redis: {bundled: {maxMemory: 256Mi}}":                        {"at '/redis/bundled/maxMemory'", "does not match"},
		"redis: {bundled: {persistence: {mode: Maybe}}}":              {"at '/redis/bundled/persistence/mode'", "'Auto', 'Always', 'Never'"},
		"redis: {bundled: {persistence: {size: 2 GB}}}":               {"at '/redis/bundled/persistence/size'", "does not match"},
		"resources: {requests: {memory: 64MB}}":                       {"at '/resources/requests/memory'", "does not match"},
		"receiver: {networkPolicy: {eventsFrom: [Staging]}}":          {"at '/receiver/networkPolicy/eventsFrom/0'", "does not match"},
		"gateways: [public]":                                          {"at '/gateways/0'", "does not match"},
		"traces: {endpoint: 'collector:4317'}":                        {"at '/traces/endpoint'", "does not match"},
		"traces: {ratio: 2}":                                          {"at '/traces/ratio'", "maximum"},
		"trustedProxies: [10.0.0.1]":                                  {"at '/trustedProxies/0'", "does not match"},
		"targetAddresses: [Private]":                                  {"at '/targetAddresses/0'", "does not match"},
		"namespaces: [Staging]":                                       {"at '/namespaces/0'", "does not match"},
		"namespaces: [a, a]":                                          {"at '/namespaces'", "equal"},
		"allowedHosts: ['a.com,b.com']":                               {"at '/allowedHosts/0'", "does not match"},
		"allowedAnnotations: ['a b']":                                 {"at '/allowedAnnotations/0'", "does not match"},
		"allowedLabels: ['a,b']":                                      {"at '/allowedLabels/0'", "does not match"},
		"receiver: {networkPolicy: {targetNamespaces: [Crm]}}":        {"at '/receiver/networkPolicy/targetNamespaces/0'", "does not match"},
		"ingressClass: My Class":                                      {"at '/ingressClass'", "does not match"},
		"commonLabels: {'a b': c}":                                    {"at '/commonLabels'", "'a b' not allowed"},
		"podDisruptionBudget: {maxUnavailable: half}":                 {"at '/podDisruptionBudget/maxUnavailable'", "does not match"},
		"monitoring: {podMonitor: {interval: 30 seconds}}":            {"at '/monitoring/podMonitor/interval'", "does not match"},
		"fullnameOverride: Heymarket":                                 {"at '/fullnameOverride'", "does not match"},
		"tolerations: [{effect: NoRun}]":                              {"at '/tolerations/0/effect'", "'NoSchedule'"},
		"topologySpreadConstraints: [{maxSkew: 1}]":                   {"at '/topologySpreadConstraints/0'", "'topologyKey'"},
		// A rule that a schema could express only obscurely.
		"redis: {url: 'redis://a:1', existingSecret: {name: b}}":    {"redis.url", "redis.existingSecret.name", "keep the one"},
		"redis: {caSecret: {name: ca}}":                             {"redis.caSecret.name", "the bundled Redis has no TLS", "redis.existingSecret.name"},
		"traces: {endpoint: 'http://collector:4317'}":               {"traces.endpoint has port 4317", "OTLP over gRPC", "usually 4318"},
		"traces: {endpoint: 'https://[::1]:4317/v1/traces'}":        {"traces.endpoint has port 4317"},
		"redis: {url: 'redis://a:1', caSecret: {name: ca}}":         {"redis.caSecret.name", "begins with redis://", "begin it with rediss://"},
		"replicas: 2\nleaderElection: {enabled: false}":             {"replicas is 2", "leaderElection.enabled"},
		"receiver: {networkPolicy: {eventsFrom: [traefik]}}":        {"receiver.networkPolicy.enabled", "eventsFrom"},
		"targetAddresses: [10.0.0.0/8]":                             {"targetAddresses is [10.0.0.0/8]", "[Public]"},
		"targetAddresses: [Any, Public]":                            {"targetAddresses is [Any, Public]", "[Any]"},
		"podDisruptionBudget: {minAvailable: 1, maxUnavailable: 0}": {"podDisruptionBudget.minAvailable", "keep one"},
		"dnsPolicy: None": {"dnsPolicy is None", "dnsConfig.nameservers"},
		"strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}":                                {"strategy.type is Recreate", "keep one"},
		"nameOverride: heymarket-redis":                                                           {"nameOverride is heymarket-redis", "choose another"},
		"serviceAccount: {automount: false}":                                                      {"serviceAccount.automount is false", "extraVolumeMounts", "/var/run/secrets/kubernetes.io/serviceaccount"},
		"extraArgs: ['--namespaces=staging']":                                                     {"extraArgs has --namespaces", "rights", "the chart's other values"},
		"extraArgs: [--metrics-bind-address, --log-level=warn]":                                   {"extraArgs has --metrics-bind-address", "ports"},
		"extraEnv: [{name: POD_NAMESPACE, value: a}]":                                             {"extraEnv has the name POD_NAMESPACE", "the chart itself"},
		"extraEnv: [{name: A, value: a}, {name: A, value: b}]":                                    {"extraEnv has the name A twice"},
		"extraVolumes: [{name: redis, emptyDir: {}}]":                                             {"extraVolumes has the name redis", "the chart itself"},
		"extraVolumeMounts: [{name: a, mountPath: /etc/heymarket/redis-ca}]":                      {"extraVolumeMounts has the mountPath /etc/heymarket/redis-ca"},
		"hostAliases: [{ip: 10.0.0.5, hostnames: [a]}, {ip: 10.0.0.5, hostnames: [b]}]":           {"hostAliases has the ip 10.0.0.5 twice"},
		"monitoring: {podMonitor: {interval: 1m, scrapeTimeout: 61s}}":                            {"monitoring.podMonitor.scrapeTimeout is 61s", "longer than the interval"},
		"monitoring: {serviceMonitor: {interval: 900ms, scrapeTimeout: 1s}}":                      {"monitoring.serviceMonitor.scrapeTimeout is 1s"},
		"monitoring: {podMonitor: {interval: 30s1m}}":                                             {"at '/monitoring/podMonitor/interval'", "does not match"},
		"monitoring: {serviceMonitor: {namespace: a.b}}":                                          {"at '/monitoring/serviceMonitor/namespace'", "does not match"},
		"monitoring: {prometheusRule: {alerts: {HeymarketOldestEvent: {for: 30s1m}}}}":            {"at '/monitoring/prometheusRule/alerts/HeymarketOldestEvent/for'", "does not match"},
		"extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: null}]":                       {"extraObjects[0]", "metadata"},
		"extraObjects:\n- |\n  apiVersion: v1\n  metadata: {name: a}\n  ---\n  kind: ConfigMap\n": {"extraObjects[0]", "kind"},
		"extraObjects: ['- a']":                                                                   {"extraObjects[0] has what is no manifest"},
		"serviceAccount: {create: false}":                                                         {"serviceAccount.create", "serviceAccount.name"},
		"redis: {bundled: {persistence: {mode: Never, storageClass: s}}}":                         {"redis.bundled.persistence.mode", "redis.bundled.persistence.storageClass"},
	} {
		t.Run(values, func(t *testing.T) {
			t.Parallel()
			_, err := render(t, chartDir, values)
			if err == nil {
				t.Fatal("it is rendered")
			}
			for _, part := range want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the message lacks %q: %v", part, err)
				}
			}
		})
	}
}

type schema = map[string]any

func readSchema(t *testing.T) schema {
	t.Helper()
	var s schema
	if err := json.Unmarshal([]byte(file(t, chartDir, "values.schema.json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// Every object of the schema lists its names, or has one type for all values.
func TestSchemaIsClosed(t *testing.T) {
	t.Parallel()
	var walk func(path string, s any)
	walk = func(path string, s any) {
		if list, ok := s.([]any); ok {
			for _, item := range list {
				walk(path, item)
			}
		}
		object, ok := s.(schema)
		if !ok {
			return
		}
		_, properties := object["properties"]
		if _, said := object["additionalProperties"]; (properties || object["type"] == "object") && !said {
			t.Errorf("%s takes any name: say additionalProperties", path)
		}
		if more, isBool := object["additionalProperties"].(bool); isBool && more {
			t.Errorf("%s takes any name: additionalProperties is true", path)
		}
		for key, value := range object {
			walk(path+"/"+key, value)
		}
	}
	walk("", readSchema(t))
}

// values.yaml and the schema have the same names.
func TestSchemaAndValuesKnowTheSameNames(t *testing.T) {
	t.Parallel()
	var values map[string]any
	if err := yaml.UnmarshalStrict([]byte(file(t, chartDir, "values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	var compare func(path string, s schema, values map[string]any)
	compare = func(path string, s schema, values map[string]any) {
		properties, _ := s["properties"].(schema)
		for name := range properties {
			if _, there := values[name]; !there && path+name != "enabled" {
				t.Errorf("%s%s is in values.schema.json and not in values.yaml", path, name)
			}
		}
		for name, value := range values {
			property, there := properties[name].(schema)
			if !there {
				t.Errorf("%s%s is in values.yaml and not in values.schema.json", path, name)
				continue
			}
			if nested, ok := value.(map[string]any); ok && property["properties"] != nil {
				compare(path+name+".", property, nested)
			}
		}
	}
	compare("", readSchema(t), values)
}

// A parent chart passes global values, and may enable this one by a condition.
func TestChartAsAPartOfAnother(t *testing.T) {
	t.Parallel()
	rendered(t, "enabled: true\nglobal: {anything: {at: all}}")
}

// Nothing in the chart's directory is packaged by mistake.
func TestChartHoldsOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	want := []string{".helmignore", "Chart.yaml", "README.md", "files", "templates", "values.schema.json", "values.yaml"}
	found, err := filepath.Glob(filepath.Join(chartDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if name := filepath.Base(path); !slices.Contains(want, name) {
			t.Errorf("there is %s in the chart, beside %v", name, want)
		}
	}
}
