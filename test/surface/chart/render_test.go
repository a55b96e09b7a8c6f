package chart

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// A golden is the whole rendering of testdata/NAME.yaml, without the CRD, which is a copy, and without random values.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no values in testdata: %v", err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".values.yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := render(t, chartDir, file(t, path))
			if err != nil {
				t.Fatal(err)
			}
			var kept []string
			for _, document := range documents(text) {
				if !strings.Contains(document, "\nkind: CustomResourceDefinition\n") {
					kept = append(kept, strings.TrimSpace(document))
				}
			}
			got := made.ReplaceAllString(strings.Join(kept, "\n---\n")+"\n", "$1: (made)")
			got = copied.ReplaceAllString(got, "$1    (as in files/)\n")
			golden := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(file(t, golden), got); diff != "" {
				t.Errorf("%s is stale; `make generate` writes it (-golden +rendered):\n%s", golden, diff)
			}
		})
	}
}

// made are values that come from the password, which is another one each time.
var made = regexp.MustCompile(`(?m)(^  url|^  password|^  redis\.conf|heymarket\.dev/password-sha256): \S+$`)

// copied is a file that an object contains unchanged.
var copied = regexp.MustCompile(`(?m)(^  heymarket-[a-z]+\.json: \|\n)(?:(?:    .*)?\n)+`)

// ownToken has the manager's token mounted by the values instead of by Kubernetes.
const ownToken = "serviceAccount: {automount: false}\n" +
	"extraVolumes: [{name: token, projected: {sources: [{serviceAccountToken: {path: token}}, {configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}}]}}]\n" +
	"extraVolumeMounts: [{name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}]"

// choices are values that go with each other; each rendering takes one of every line. The first is the default.
var choices = [][]string{
	{"", "replicas: 3", "replicas: 0", "leaderElection: {enabled: false}"},
	{
		"", "image: {tag: 1.2.3}", "image: {registry: 'mirror.example.com:5000/cache'}", "image: {repository: 'registry.example.com:5000/team/heymarket', pullPolicy: Always}",
		"image: {digest: 'sha256:" + strings.Repeat("ab", 32) + "'}",
	},
	{"", "imagePullSecrets: [{name: registry}]", "imagePullSecrets: [{name: registry}]\nglobal: {imagePullSecrets: [registry, {name: more}], other: 1}"},
	{
		"", "receiver: {image: 'registry.example.com/heymarket@sha256:" + strings.Repeat("cd", 32) + "'}",
		"receiver: {imagePullSecrets: [{name: registry}], nodeSelector: {pool: hooks}, tolerations: [{operator: Exists}], priorityClassName: messaging, resources: {limits: {memory: 256Mi}}}",
	},
	{"", "userID: Platform", "userID: 1000660000"},
	{"", "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}", "podSecurityContext: {supplementalGroups: [4], fsGroupChangePolicy: Always}"},
	{"", "containerSecurityContext: {runAsNonRoot: null, runAsUser: 4711, seccompProfile: {type: RuntimeDefault}}"},
	{"", "deploymentAnnotations: {example.com/reload: 'true'}"},
	{"", "strategy: {type: Recreate, rollingUpdate: null}", "strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 50%}}"},
	{"", "revisionHistoryLimit: 0\nterminationGracePeriodSeconds: 0", "livenessProbe: {initialDelaySeconds: null, failureThreshold: 6}", "livenessProbe: {initialDelaySeconds: null}"},
	{"", "hostAliases: [{ip: 10.0.0.5, hostnames: [redis.example.com]}]"},
	{"", "dnsPolicy: None\ndnsConfig: {nameservers: [10.0.0.53], options: [{name: ndots, value: '2'}]}"},
	{
		"", "extraArgs: [--log-level=warn]\nextraEnv: [{name: A, value: b}, {name: C, valueFrom: {secretKeyRef: {name: a, key: b}}}]",
		"extraEnv: [{name: GOMEMLIMIT, value: 100MiB}]",
	},
	{
		"", "extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: more, namespace: '{{ .Release.Namespace }}'}}]",
		"extraObjects:\n- |\n  apiVersion: v1\n  kind: Secret\n  metadata: {name: more, namespace: heymarket-system}\n  data: {a: {{ b64enc .Release.Name }}}",
		"extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: more, namespace: staging, labels: {app.kubernetes.io/managed-by: stolen}}}]",
	},
	{"", "namespaces: [staging]", "namespaces: [staging, production, heymarket-system]"},
	{"", "hostTemplate: '{{.Namespace}}.hooks.example.com'", "hostTemplate: '{{.Name}}-{{ .Namespace }}.example.com'"},
	{"", "allowedHosts: ['{{.Namespace}}.example.com']", "allowedHosts: [hooks.example.com, '*.{{.Namespace}}.example.com']"},
	{"", "ingressClass: traefik"},
	{"", "log: {level: debug}", "log: {level: warn, format: text}"},
	{
		"", "redis: {url: 'redis://:p:@s%20s@redis.example.com:6379/0'}", "redis: {url: 'rediss://a:26379?master_set=main&addr=b:26379'}", "redis: {existingSecret: {name: my-redis}}",
		"redis: {url: 'rediss://redis.example.com:6379/0', caSecret: {name: authority}}", "redis: {existingSecret: {name: my-redis}, caSecret: {name: my-redis, key: root.pem}}",
		"redis: {existingSecret: {name: my-redis, key: some.key}, isolation: Managed, rotation: 24h}", "redis: {bundled: {password: abcdefghijklmnop0123}}",
		"redis: {bundled: {persistence: {mode: Always, size: 20Gi}}}", "redis: {bundled: {persistence: {storageClass: fast}}}", "redis: {bundled: {persistence: {mode: Never}}}",
		"redis: {bundled: {image: 'registry.example.com/redis:7.0', pullPolicy: Never, maxMemory: 1gb, resources: {}, nodeSelector: {disk: ssd}, tolerations: [{operator: Exists}]}}",
	},
	{"", "crds: {enabled: false}", "crds: {keep: false}"},
	{"", "rbac: {create: false}", "rbac: {aggregate: false}"},
	{
		"", "serviceAccount: {create: false, name: ours}", "serviceAccount: {name: other, annotations: {example.com/role: arn}, labels: {tier: platform, app.kubernetes.io/managed-by: stolen}}",
		"extraVolumes: [{name: more, emptyDir: {}}]\nextraVolumeMounts: [{name: more, mountPath: /more, readOnly: true}]", ownToken,
	},
	{"", "resources: {}", "resources: {limits: {memory: 1Gi, cpu: 2}, requests: {memory: 1.5e8, ephemeral-storage: 1Gi}}", "resources: {limits: {cpu: 500m}}", "resources: {limits: {memory: null}}"},
	{"", "priorityClassName: system-cluster-critical"},
	{"", "nodeSelector: {kubernetes.io/os: linux}"},
	{"", "tolerations: [{key: a, operator: Equal, value: b, effect: NoExecute, tolerationSeconds: 60}]"},
	{
		"", `affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, podAffinityTerm: {topologyKey: zone,
  labelSelector: {matchLabels: {app.kubernetes.io/name: heymarket-operator}}}}]}}`,
		`affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]}}}`,
	},
	{"", "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b}}}]"},
	{"", "podLabels: {team: messaging}", "podLabels: {app.kubernetes.io/name: stolen}"},
	{"", "podAnnotations: {example.com/scrape: 'true'}"},
	{"", "podDisruptionBudget: {enabled: true}", "podDisruptionBudget: {enabled: true, maxUnavailable: 50%}", "podDisruptionBudget: {enabled: true, minAvailable: 1}"},
	{
		"", "monitoring: {podMonitor: {enabled: true}}", "monitoring: {podMonitor: {enabled: true, labels: {release: prometheus}, interval: 1m30s}, prometheusRule: {enabled: true}}",
		"monitoring: {serviceMonitor: {enabled: true, interval: 30s}}", "monitoring: {podMonitor: {enabled: true}, serviceMonitor: {enabled: true, labels: {release: prometheus}}}",
		"monitoring: {podMonitor: {enabled: true, scrapeTimeout: 10s, namespace: staging, relabelings: [{action: LabelDrop, regex: pod}]}, prometheusRule: {enabled: true, namespace: staging}}",
		"monitoring: {prometheusRule: {enabled: true, labels: {release: prometheus}}, dashboard: {enabled: true, annotations: {folder: Messaging}}}",
	},
	{"", "networkPolicy: {enabled: true}", "networkPolicy: {enabled: true, metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}, {ipBlock: {cidr: 10.0.0.0/8}}]}"},
	{"", "tests: {enabled: false}"},
	{"", "nameOverride: hooks", "nameOverride: which-with-this-release--ends-in-dashes"},
	{"", "fullnameOverride: hm", "fullnameOverride: a-name-that-is-as-long-as-a-name-here-may-be"},
	{"", "commonLabels: {team: messaging}", "commonLabels: {app.kubernetes.io/name: stolen, app.kubernetes.io/managed-by: stolen}"},
	{"", "commonAnnotations: {example.com/owner: messaging, helm.sh/resource-policy: delete}"},
}

// renderings are sets of values: the default and every choice alone, and combinations of all of them, more than 500 together; fewer where something may be left
// out.
func renderings() (alone, combined []string) {
	alone = []string{""}
	for _, line := range choices {
		alone = append(alone, line[1:]...)
	}
	total := 150
	if os.Getenv("HEYMARKET_REQUIRE_ALL") == "1" {
		total = 520
	}
	random := rand.New(rand.NewPCG(4711, 0)) // the same combinations each time
	for len(alone)+len(combined) < total {
		var picked []string
		for _, line := range choices {
			picked = append(picked, line[random.IntN(len(line))])
		}
		set := strings.Join(slices.DeleteFunc(picked, func(s string) bool { return s == "" }), "\n")
		if strings.Contains(set, "replicas: 3") && strings.Contains(set, "leaderElection") {
			continue
		}
		combined = append(combined, set)
	}
	return alone, combined
}

var once sync.Map // set of values → what it renders, in YAML

// renderedOnce is rendered for those tests that look at the same many sets: rendering dominates their time.
func renderedOnce(t *testing.T, set string) []client.Object {
	t.Helper()
	text, there := once.Load(set)
	if !there {
		var err error
		if text, err = render(t, chartDir, set); err != nil {
			t.Fatalf("render: %v\nwith\n%s", err, set)
		}
		once.Store(set, text)
	}
	objects, err := decode(text.(string))
	if err != nil {
		t.Fatalf("%v\nwith\n%s", err, set)
	}
	return objects
}

// Every choice alone, and combinations of all of them, yield objects that match the API server's types to the last field, Pods
// that the restricted standard admits, and no two objects with the same name.
func TestEveryRenderingIsSound(t *testing.T) {
	t.Parallel()
	needHelm(t)
	alone, combined := renderings()
	sets := slices.Concat(alone, combined)
	standard, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, set := range sets {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			objects := renderedOnce(t, set)
			checkObjects(t, objects, set)
			for name, template := range templates(objects) {
				for _, result := range standard.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &template.ObjectMeta, &template.Spec) {
					if !result.Allowed {
						t.Errorf("the restricted standard refuses the Pods of %s: %s: %s", name, result.ForbiddenReason, result.ForbiddenDetail)
					}
				}
				checkTemplate(t, name, template)
			}
			if t.Failed() {
				t.Logf("with\n%s", set)
			}
		})
	}
}

func checkObjects(t *testing.T, objects []client.Object, set string) {
	t.Helper()
	seen := map[string]bool{}
	for _, object := range objects {
		kind := object.GetObjectKind().GroupVersionKind().Kind
		id := kind + " " + client.ObjectKeyFromObject(object).String()
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		if object.GetLabels()["app.kubernetes.io/managed-by"] != "Helm" || object.GetLabels()["app.kubernetes.io/instance"] != release {
			t.Errorf("%s has the labels %v", id, object.GetLabels())
		}
		if strings.Contains(set, "commonLabels: {team: messaging}") && object.GetLabels()["team"] != "messaging" {
			t.Errorf("%s has not the common labels", id)
		}
		if strings.Contains(set, "commonAnnotations") && object.GetAnnotations()["example.com/owner"] != "messaging" {
			t.Errorf("%s has not the common annotations", id)
		}
		clusterWide := map[string]bool{"CustomResourceDefinition": true, "ClusterRole": true, "ClusterRoleBinding": true}
		if clusterWide[kind] != (object.GetNamespace() == "") {
			t.Errorf("%s has the namespace %q", id, object.GetNamespace())
		}
	}
	if strings.Contains(set, "namespaces:") {
		for _, object := range objects {
			if binding, ok := object.(*rbacv1.ClusterRoleBinding); ok {
				t.Errorf("ClusterRoleBinding %s gives rights beyond the named namespaces", binding.Name)
			}
		}
	}
}

// checkTemplate checks that a workload selects its own Pods, and mounts what it has.
func checkTemplate(t *testing.T, name string, template workload) {
	t.Helper()
	for key, value := range template.selector {
		if template.Labels[key] != value {
			t.Errorf("%s selects %s=%s, its Pods have %q", name, key, value, template.Labels[key])
		}
	}
	volumes := map[string]bool{}
	for _, volume := range template.Spec.Volumes {
		volumes[volume.Name] = true
	}
	for _, container := range template.Spec.Containers {
		for _, mount := range container.VolumeMounts {
			if !volumes[mount.Name] {
				t.Errorf("%s mounts %s, which is no volume", name, mount.Name)
			}
		}
		for _, arg := range append(slices.Clone(container.Command), container.Args...) {
			if strings.Contains(arg, "p:@s") || strings.Contains(arg, "abcdefghijklmnop0123") {
				t.Errorf("a command line of %s tells the password", name)
			}
		}
	}
}

type workload struct {
	corev1.PodTemplateSpec

	selector map[string]string
}

// templates are the Pod templates of the objects, by kind and name.
func templates(objects []client.Object) map[string]workload {
	found := map[string]workload{}
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			found["Deployment "+o.Name] = workload{o.Spec.Template, o.Spec.Selector.MatchLabels}
		case *appsv1.StatefulSet:
			found["StatefulSet "+o.Name] = workload{o.Spec.Template, o.Spec.Selector.MatchLabels}
		case *batchv1.Job:
			found["Job "+o.Name] = workload{PodTemplateSpec: o.Spec.Template}
		case *corev1.Pod:
			found["Pod "+o.Name] = workload{PodTemplateSpec: corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}}
		}
	}
	return found
}

// Upgrades update the CRD, and uninstalling keeps it, unless configured otherwise.
func TestCRDIsBroughtAndKept(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]string{
		"": "keep", "commonAnnotations: {helm.sh/resource-policy: delete}": "keep", "crds: {keep: false}": "goes", "crds: {enabled: false}": "none",
	} {
		got := "none"
		for _, object := range rendered(t, values) {
			crd, ok := object.(*apiextensionsv1.CustomResourceDefinition)
			if !ok {
				continue
			}
			if got = "goes"; crd.Annotations["helm.sh/resource-policy"] == "keep" {
				got = "keep"
			}
		}
		if got != want {
			t.Errorf("%q: the CRD: %s, want %s", values, got, want)
		}
	}
}

// The names of cluster-wide objects and of those in the release's namespace contain the release's, so that two releases do not
// conflict.
func TestNamesFollowTheRelease(t *testing.T) {
	t.Parallel()
	helmPath := needHelm(t)
	for release, want := range map[string]string{
		"heymarket-operator":    "heymarket-operator",
		"hm":                    "hm-heymarket-operator",
		"my-heymarket-operator": "my-heymarket-operator",
	} {
		text, err := helm(t.Context(), helmPath, t.TempDir(), "", "template", release, chartDir, "--namespace", namespace)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := decode(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			if _, crd := object.(*apiextensionsv1.CustomResourceDefinition); !crd && !strings.HasPrefix(object.GetName(), want) {
				t.Errorf("release %s: %T is named %s, want %s…", release, object, object.GetName(), want)
			}
		}
	}
}

// The text of an extra object may hold several, and none: each is installed, or nothing is.
func TestTextsOfExtraObjects(t *testing.T) {
	t.Parallel()
	objects := rendered(t, `extraObjects:
- |
  ---
  {apiVersion: v1, kind: ConfigMap, metadata: {name: first, annotations: null}, data: {text: "a\n---\nb"}}
  ---
  # A comment.
  ---
  {apiVersion: v1, kind: ConfigMap, metadata: {name: second}}
- |
  {{ if eq .Release.Name "other" }}
  {apiVersion: v1, kind: ConfigMap, metadata: {name: third}}
  {{ end }}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: fourth}, data: {text: "a\n---\nb"}}
`)
	var got []string
	for _, object := range objects {
		if added, ok := object.(*corev1.ConfigMap); ok {
			got = append(got, added.Name+": "+added.Data["text"])
		}
	}
	slices.Sort(got)
	if want := []string{"first: a\n---\nb", "fourth: a\n---\nb", "second: "}; !slices.Equal(got, want) {
		t.Errorf("the extra objects are %q, want %q", got, want)
	}
}

// A new version of the chart, and values that are not about Redis, leave its Pod unchanged: on an emptyDir a restart would lose events.
func TestUpgradeLeavesRedisAlone(t *testing.T) {
	t.Parallel()
	next := filepath.Join(t.TempDir(), "chart")
	if err := os.CopyFS(next, os.DirFS(chartDir)); err != nil {
		t.Fatal(err)
	}
	versioned := regexp.MustCompile(`(?m)^(version|appVersion): .*$`).ReplaceAllString(file(t, chartDir, "Chart.yaml"), "$1: 99.0.0")
	if err := os.WriteFile(filepath.Join(next, "Chart.yaml"), []byte(versioned), 0o644); err != nil {
		t.Fatal(err)
	}
	const password = "redis: {bundled: {password: abcdefghijklmnop0123}}\n"
	text, err := render(t, next, password+"commonLabels: {a: b}\ncommonAnnotations: {a: b}\npodLabels: {a: b}\nreplicas: 2\nlog: {level: debug}\nnetworkPolicy: {enabled: true}")
	if err != nil {
		t.Fatal(err)
	}
	after, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	before := find[*appsv1.StatefulSet](t, rendered(t, password), "")
	if diff := cmp.Diff(before.Spec, find[*appsv1.StatefulSet](t, after, "").Spec); diff != "" {
		t.Errorf("the StatefulSet's spec changes:\n%s", diff)
	}
}

// The configurations of the bundled Redis, of the manager and of its Pod are consistent.
func TestBundledRedisAndItsSecretFit(t *testing.T) {
	t.Parallel()
	objects := rendered(t, "")
	secret := find[*corev1.Secret](t, objects, "")
	service := find[*corev1.Service](t, objects, "")
	redis := find[*appsv1.StatefulSet](t, objects, "")
	password := string(secret.Data["password"])
	if len(password) != 32 {
		t.Errorf("the password has %d characters, want 32", len(password))
	}
	want := map[string]string{
		"password":   password,
		"redis.conf": "requirepass " + password + "\n",
		"url":        "redis://:" + password + "@" + service.Name + "." + namespace + ".svc:6379/0",
	}
	got := map[string]string{}
	for key, value := range secret.Data {
		got[key] = string(value)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the Secret (-want +got):\n%s", diff)
	}
	if !maps.Equal(service.Spec.Selector, redis.Spec.Selector.MatchLabels) {
		t.Errorf("the Service selects %v, the StatefulSet %v", service.Spec.Selector, redis.Spec.Selector.MatchLabels)
	}
	command := strings.Join(redis.Spec.Template.Spec.Containers[0].Command, " ")
	for _, promise := range []string{"--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"} {
		if !strings.Contains(command, promise) {
			t.Errorf("%q lacks %s, which docs/redis.md asks for", command, promise)
		}
	}
	if strings.Contains(command, password) {
		t.Error("the command line tells the password")
	}
	manager := find[*appsv1.Deployment](t, objects, "")
	for key, value := range service.Spec.Selector {
		if manager.Spec.Template.Labels[key] != value {
			return
		}
	}
	t.Error("the Service of Redis selects the manager")
}

// With your own Redis nothing of the bundled one is rendered.
func TestOwnRedisReplacesTheBundledOne(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]corev1.SecretVolumeSource{
		"redis: {url: 'rediss://redis.example.com:6379/0'}":                   {SecretName: release + "-redis", Items: []corev1.KeyToPath{{Key: "url", Path: "url"}}},
		"redis: {existingSecret: {name: shared, key: redis}}":                 {SecretName: "shared", Items: []corev1.KeyToPath{{Key: "redis", Path: "url"}}},
		"redis: {url: 'redis://a:1', bundled: {persistence: {mode: Always}}}": {SecretName: release + "-redis", Items: []corev1.KeyToPath{{Key: "url", Path: "url"}}},
	} {
		objects := rendered(t, values)
		for _, object := range objects {
			switch o := object.(type) {
			case *appsv1.StatefulSet, *corev1.Service, *corev1.PersistentVolumeClaim:
				t.Errorf("%s: %T %s is still there", values, object, object.GetName())
			case *corev1.Secret:
				if got := slices.Collect(maps.Keys(o.Data)); !slices.Equal(got, []string{"url"}) || strings.Contains(values, "existingSecret") {
					t.Errorf("%s: there is a Secret %s with %v", values, o.Name, got)
				}
			}
		}
		got := *find[*appsv1.Deployment](t, objects, "").Spec.Template.Spec.Volumes[0].Secret
		got.DefaultMode = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the manager mounts (-want +got):\n%s", values, diff)
		}
	}
}

// Certificates for Redis are mounted for the manager, wherever the URL comes from, and no other key of their Secret is.
func TestCertificatesForRedisAreMounted(t *testing.T) {
	t.Parallel()
	const where = "/etc/heymarket/redis-ca"
	for values, want := range map[string]*corev1.SecretVolumeSource{
		"":                                    nil,
		"redis: {url: 'rediss://redis:6379'}": nil,
		"redis: {existingSecret: {name: r}}":  nil,
		"redis: {url: 'rediss://redis:6379', caSecret: {name: authority}}":              {SecretName: "authority", Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}},
		"redis: {existingSecret: {name: r}, caSecret: {name: r, key: root.pem}}":        {SecretName: "r", Items: []corev1.KeyToPath{{Key: "root.pem", Path: "ca.crt"}}},
		"redis: {existingSecret: {name: r}, caSecret: {name: authority, key: tls.pem}}": {SecretName: "authority", Items: []corev1.KeyToPath{{Key: "tls.pem", Path: "ca.crt"}}},
	} {
		pod := find[*appsv1.Deployment](t, rendered(t, values), "").Spec.Template.Spec
		var got *corev1.SecretVolumeSource
		for _, volume := range pod.Volumes {
			if volume.Name == "redis-ca" {
				got = volume.Secret
				got.DefaultMode = nil
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the manager mounts (-want +got):\n%s", values, diff)
		}
		container := pod.Containers[0]
		told := slices.Contains(container.Args, "--redis-ca-file="+where+"/ca.crt")
		mounted := slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "redis-ca" && m.MountPath == where && m.ReadOnly })
		if told != (want != nil) || mounted != (want != nil) {
			t.Errorf("%s: told of the file: %v, mounted: %v", values, told, mounted)
		}
	}
}

// Argo CD and others render without a cluster: with a password, two renderings are the same.
func TestRenderingWithAPasswordIsStable(t *testing.T) {
	t.Parallel()
	const values = "redis: {bundled: {password: abcdefghijklmnop0123}}"
	first, err := render(t, chartDir, values)
	if err != nil {
		t.Fatal(err)
	}
	second, err := render(t, chartDir, values)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("two renderings differ:\n%s", diff)
	}
}

func TestNotesSayTheNextCommand(t *testing.T) {
	t.Parallel()
	helmPath := needHelm(t)
	for values, want := range map[string][]string{
		"": {"rollout status deployment/heymarket-operator", "helm test heymarket-operator --namespace heymarket-system", "create namespace staging", "secret generic heymarket", "kind: HeymarketWebhook", "EVALUATION REDIS", "emptyDir", "redis.url", "NO HOST: ", "NO CERTIFICATE: ", "wait --for=condition=Ready", "describe heymarketwebhook support"},
		"hostTemplate: '{{.Namespace}}.hooks.example.com'\ngateways: [gateways/public]": {"namespace staging apply"},
		"redis: {bundled: {persistence: {mode: Always}}}":                               {"EVALUATION REDIS", "PersistentVolumeClaim heymarket-operator-redis"},
		"namespaces: [production]\nredis: {existingSecret: {name: r, key: k}}": {
			"for production", "NO HOST: ", "--namespace heymarket-system create secret generic r --from-file=k=/dev/stdin", "--namespace production apply", "crm.production.svc",
		},
	} {
		text, err := helm(t.Context(), helmPath, t.TempDir(), values, "install", release, chartDir, "--namespace", namespace, "--values", "-", "--dry-run=client")
		if err != nil {
			t.Fatal(err)
		}
		_, notes, found := strings.Cut(text, "\nNOTES:\n")
		if !found {
			t.Fatalf("no notes in\n%s", text)
		}
		for _, sentence := range want {
			if !strings.Contains(notes, sentence) {
				t.Errorf("%s: the notes lack %q:\n%s", values, sentence, notes)
			}
		}
		if strings.Contains(values, "existingSecret") && strings.Contains(notes, "EVALUATION") {
			t.Errorf("the notes warn of a Redis that is not there:\n%s", notes)
		}
		// Warnings are for those whom they concern; what is needed at last stands last.
		if settled := strings.Contains(values, "hostTemplate"); settled == strings.Contains(notes, "NO HOST") || settled == strings.Contains(notes, "NO CERTIFICATE") {
			t.Errorf("%s: the notes warn of the host or the certificate: %t\n%s", values, !settled, notes)
		}
		lines := strings.Split(strings.TrimSpace(notes), "\n")
		if last := lines[len(lines)-1]; !strings.HasSuffix(last, "get secret support-url --template '{{.data.url | base64decode}}'") {
			t.Errorf("%s: the last line is %q, not the URL", values, last)
		}
		// The manifest between the two marks is one that can be applied as it is.
		_, manifest, _ := strings.Cut(notes, "<<END\n")
		manifest, _, _ = strings.Cut(manifest, "\n  END\n")
		var webhook struct{ Kind string }
		if err := yaml.Unmarshal([]byte(manifest), &webhook); err != nil || webhook.Kind != "HeymarketWebhook" {
			t.Errorf("the notes' manifest is none (%v):\n%s", err, manifest)
		}
	}
}
