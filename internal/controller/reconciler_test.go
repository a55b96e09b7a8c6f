package controller

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// firstWrites are its children and one status.
var firstWrites = []string{
	"PATCH secrets/support-url",
	"PATCH secrets/support-receiver",
	"PATCH services/support-receiver",
	"PATCH deployments/support-receiver",
	"PATCH poddisruptionbudgets/support-receiver",
	"PATCH ingresses/support-receiver",
	"PATCH heymarketwebhooks/support/status",
}

func TestNewWebhookSettlesAndIsQuiet(t *testing.T) {
	t.Parallel()
	w := settled(t)
	if diff := cmp.Diff(firstWrites, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := w.exist(); got != allChildren {
		t.Errorf("children: %s", got)
	}
	w.quiet()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonRolloutInProgress)
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonAddressPending, `"support-receiver"`, "kubectl get ingressclass")
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonRolloutInProgress, "Not Available")

	w.rollOut(2)
	w.serve("10.1.0.1", "10.1.0.2")
	w.admit("203.0.113.7")
	if res := w.reconcile(); res.RequeueAfter != 0 {
		t.Errorf("a settled resource is polled every %s", res.RequeueAfter)
	}
	w.condition(v1alpha1.ConditionReady, true, v1alpha1.ReasonReady)
	if diff := cmp.Diff([]string{"PATCH heymarketwebhooks/support/status"}, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	w.quiet()

	status := w.hook().Status
	host := w.namespace + ".hooks.example.com"
	if status.Host != host || status.URL != "https://"+host+"/"+w.namespace+"/support/****" || status.Image != "heymarket.dev/operator:v1" {
		t.Errorf("status: %+v", status)
	}
	url := string(w.urlSecret().Data[desired.KeyURL])
	if want := "https://" + host + w.config().Paths[0]; url != want {
		t.Errorf("url = %s, want %s", url, want)
	}
	if got := w.recorded(); len(got) != 0 {
		t.Errorf("a resource that was good at once caused events: %v", got)
	}
}

// The whole spec survives the API server's defaulting and normalisation without a second write.
func TestLargeSpecIsQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"other": canary, "old": "old-" + canary})
	w.secret("keys", map[string]string{"one": signingKey, "two": signingKey})
	w.secret("ca", map[string]string{"ca.crt": certificate(t)})
	w.webhook(`
token: {secretKeyRef: {name: heymarket, key: other}, previousSecretKeyRef: {name: heymarket, key: old}}
webhookID: 9007199254740993
eventTypes: [chat_closed, message_sent]
targets:
- {name: crm, url: 'https://crm.example.com/in', eventTypes: [chat_closed], timeout: 30s, retry: {maxAttempts: 3, minBackoff: 1500ms}}
- name: svc
  service: {name: archive, port: 8443, path: /e, scheme: HTTPS}
  filter: event.type == "chat_closed"
  format: CloudEvents
  order: Conversation
  ratePerSecond: 5
  signing: {secretKeyRef: {name: keys, key: one}, previousSecretKeyRef: {name: keys, key: two}}
  headers: [{name: X-Team, value: support}, {name: Authorization, secretKeyRef: {name: keys, key: two}}]
  tls: {caSecretKeyRef: {name: ca, key: ca.crt}, serverName: archive.internal}
retention: {deadLetters: 24h, deadLetterLimit: 5}
paused: true
deduplication: {window: 1h, key: string(event.data.id)}
exposure:
  host: hooks.example.com
  ingress: {className: traefik, tlsSecretName: tls, annotations: {cert-manager.io/cluster-issuer: le, empty: ''}}
receiver:
  replicas: 3
  logLevel: debug
  resources: {requests: {cpu: 0.5, memory: 0.1Gi}, limits: {memory: '268435456', cpu: '1'}}
  nodeSelector: {kubernetes.io/arch: amd64}
  tolerations: [{key: dedicated, value: hooks, effect: NoExecute, tolerationSeconds: 60}, {operator: Exists}]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution: [{weight: 10, podAffinityTerm: {topologyKey: rack, labelSelector: {matchLabels: {a: b}}}}]
  topologySpreadConstraints:
  - {maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}
  - {maxSkew: 1, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b}}}
  priorityClassName: important
  podAnnotations: {example.com/a: b, empty: ''}
  podLabels: {team: hooks, empty: ''}
  imagePullSecrets: [{name: registry}, {name: another}]
  podSecurityContext: {runAsUser: 1000660000, runAsGroup: 1000660000}
`)
	w.reconcile()
	if diff := cmp.Diff(firstWrites, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	w.quiet()
	if got := *w.config().WebhookID; got != 9007199254740993 {
		t.Errorf("webhookID = %d", got)
	}
}

func TestEmptyResourcesAreQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + "receiver: {resources: {}}")
	w.reconcile()
	w.quiet()
	if r := w.deployment().Spec.Template.Spec.Containers[0].Resources; len(r.Limits)+len(r.Requests) != 0 {
		t.Errorf("resources: %v", r)
	}
}

func TestMissingTokenIsAConditionThatHeals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.webhook(smallest)
	refused := func(reason string, words ...string) {
		t.Helper()
		if res := w.reconcile(); res.RequeueAfter != 0 {
			t.Errorf("polled every %s, although a watch tells", res.RequeueAfter)
		}
		w.condition(v1alpha1.ConditionAccepted, false, reason, words...)
		w.condition(v1alpha1.ConditionReady, false, reason, words...)
		w.condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonNotDeployed)
		w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonNotExposed)
		if got := w.exist(); got != "" {
			t.Errorf("children: %s", got)
		}
		if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning "+reason) {
			t.Errorf("events: %v", got)
		}
		w.quiet()
		if got := w.recorded(); len(got) != 0 {
			t.Errorf("the same again caused events: %v", got)
		}
	}
	refused(v1alpha1.ReasonTokenSecretNotFound, `"heymarket"`, `"token"`, w.namespace, "create it")
	w.secret("heymarket", map[string]string{"Token": canary})
	refused(v1alpha1.ReasonTokenKeyNotFound, `"heymarket"`, `"token"`, "add it")
	secret := get(w, "heymarket", &corev1.Secret{})
	change(w, secret, func(s *corev1.Secret) { s.Data["token"] = []byte(" \n") })
	refused(v1alpha1.ReasonTokenEmpty, `"heymarket"`, `"token"`, "put")

	change(w, secret, func(s *corev1.Secret) { s.Data["token"] = []byte(canary + "\n") })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	if got := w.exist(); got != allChildren {
		t.Errorf("children: %s", got)
	}
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Normal Accepted") {
		t.Errorf("events: %v", got)
	}
}

// Each reference is resolved, and each mistake is reported with its place and remedy.
func TestReferencesAreConditions(t *testing.T) {
	t.Parallel()
	const reference = `
token: {secretKeyRef: {name: heymarket}, previousSecretKeyRef: {name: heymarket, key: previous}}
targets:
- name: crm
  url: https://crm.example.com/in
  signing: {secretKeyRef: {name: crm, key: signing}, previousSecretKeyRef: {name: crm, key: signing-before}}
  headers: [{name: Authorization, secretKeyRef: {name: crm, key: authorization}}]
  tls: {caSecretKeyRef: {name: ca, key: ca.crt}}
`
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(reference)
	refused := func(reason string, words ...string) {
		t.Helper()
		w.reconcile()
		w.condition(v1alpha1.ConditionAccepted, false, reason, words...)
		if got := w.exist(); got != "" {
			t.Errorf("children: %s", got)
		}
	}
	put := func(secret, key, value string) {
		t.Helper()
		change(w, get(w, secret, &corev1.Secret{}), func(s *corev1.Secret) {
			if s.Data == nil {
				s.Data = map[string][]byte{}
			}
			s.Data[key] = []byte(value)
		})
	}
	refused(v1alpha1.ReasonTokenKeyNotFound, `"heymarket"`, "spec.token.previousSecretKeyRef", `"previous"`, "add it")
	put("heymarket", "previous", "\n")
	refused(v1alpha1.ReasonTokenEmpty, "spec.token.previousSecretKeyRef")
	put("heymarket", "previous", "old-"+canary)
	refused(v1alpha1.ReasonSecretNotFound, `"crm"`, "spec.targets[crm].signing.secretKeyRef", `"signing"`, w.namespace, "create it with a signing key")
	w.secret("crm", map[string]string{})
	refused(v1alpha1.ReasonSecretKeyNotFound, "spec.targets[crm].signing.secretKeyRef", "add it")
	put("crm", "signing", "whsec_"+canary)
	refused(v1alpha1.ReasonSecretValueInvalid, `"crm"`, `"signing"`, "spec.targets[crm].signing.secretKeyRef", "openssl rand")
	put("crm", "signing", signingKey)
	put("crm", "signing-before", "")
	refused(v1alpha1.ReasonSecretValueInvalid, "spec.targets[crm].signing.previousSecretKeyRef", "is empty")
	put("crm", "signing-before", signingKey+"\n")
	put("crm", "authorization", "Bearer "+canary+"\n\nX-Injected: yes\n")
	refused(v1alpha1.ReasonSecretValueInvalid, "spec.targets[crm].headers[Authorization].secretKeyRef", "line break")
	put("crm", "authorization", "Bearer "+canary+"\n")
	refused(v1alpha1.ReasonSecretNotFound, `"ca"`, "spec.targets[crm].tls.caSecretKeyRef", "PEM")
	w.secret("ca", map[string]string{"ca.crt": "no certificate"})
	refused(v1alpha1.ReasonSecretValueInvalid, "spec.targets[crm].tls.caSecretKeyRef", "BEGIN CERTIFICATE")
	put("ca", "ca.crt", certificate(t))
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.quiet()

	// What is mounted decides about the Pod template, and what is in it does not.
	generation := w.deployment().Generation
	put("crm", "authorization", "Bearer another-"+canary)
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		s := h.Spec.Targets[0].Signing
		s.SecretKeyRef, *s.PreviousSecretKeyRef = *s.PreviousSecretKeyRef, s.SecretKeyRef
	})
	w.reconcile()
	if got := w.deployment().Generation; got != generation {
		t.Error("keys that changed places restarted the Pods")
	}
	if got := len(w.config().Targets[0].SigningKeyFiles); got != 2 {
		t.Errorf("%d signing keys, want 2", got)
	}
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Token.PreviousSecretKeyRef = nil })
	w.reconcile()
	if got := w.deployment().Generation; got == generation {
		t.Error("a token that is no longer wanted is still mounted")
	}
	w.quiet()
}

// The URL of a resource's own Redis is mounted from the user's Secret, and the shared one is removed from the namespace.
func TestOwnRedis(t *testing.T) {
	t.Parallel()
	w := settled(t)
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Redis = &v1alpha1.Redis{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "redis", Key: "url"}}
	})
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonSecretNotFound, `"redis"`, "spec.redis.secretKeyRef", `"url"`)
	w.secret("redis", map[string]string{"url": "http://user:" + canary + "@redis"})
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonSecretValueInvalid, "spec.redis.secretKeyRef", "must begin with redis://")
	change(w, get(w, "redis", &corev1.Secret{}), func(s *corev1.Secret) { s.Data["url"] = []byte("redis://user:" + canary + "@redis\n") })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Redis.CASecretKeyRef = &v1alpha1.SecretKeyReference{Name: "redis", Key: "ca.crt"}
	})
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonSecretValueInvalid, "spec.redis.caSecretKeyRef has no effect", "rediss://")
	change(w, get(w, "redis", &corev1.Secret{}), func(s *corev1.Secret) { s.Data["url"] = []byte("rediss://user:" + canary + "@redis") })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonSecretKeyNotFound, "spec.redis.caSecretKeyRef")
	change(w, get(w, "redis", &corev1.Secret{}), func(s *corev1.Secret) { s.Data["ca.crt"] = []byte(certificate(t)) })
	w.reconcile()
	if got, want := w.config().RedisCAFile, "/etc/heymarket/secrets/redis/ca.crt"; got != want {
		t.Errorf("redisCAFile = %s, want %s", got, want)
	}
	if _, found := w.configSecret().Data[desired.KeyRedisURL]; found {
		t.Error("the shared URL is still in the namespace")
	}
	if got, want := w.config().RedisURLFile, "/etc/heymarket/secrets/redis/url"; got != want {
		t.Errorf("redisURLFile = %s, want %s", got, want)
	}
	w.quiet()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Redis = nil })
	w.reconcile()
	if got := string(w.configSecret().Data[desired.KeyRedisURL]); got != w.redis {
		t.Error("the shared URL did not come back")
	}
	w.quiet()
}

// Certificates for the shared Redis are given to the receiver with its URL, without a restart, and removed with their flag,
// or when a resource uses its own Redis.
func TestCertificatesOfTheSharedRedis(t *testing.T) {
	t.Parallel()
	w := settled(t)
	generation := w.deployment().Generation
	given := func(ca []byte, file string) {
		t.Helper()
		w.reconcile()
		if diff := cmp.Diff(string(ca), string(w.configSecret().Data[desired.KeyRedisCA])); diff != "" {
			t.Errorf("certificates (-want +got):\n%s", diff)
		}
		if _, found := w.configSecret().Data[desired.KeyRedisCA]; found != (ca != nil) {
			t.Errorf("the key is there: %v", found)
		}
		if got := w.config().RedisCAFile; got != file {
			t.Errorf("redisCAFile = %q, want %q", got, file)
		}
		w.quiet()
	}
	const file = "/etc/heymarket/config/redis-ca.crt"
	w.redis, w.redisCA = "rediss://redis.example.com:6379/0", []byte(certificate(t))
	given(w.redisCA, file)
	w.redisCA = bytes.Repeat(w.redisCA, 2)
	digest := desired.DigestOf(w.configSecret().Data)
	given(w.redisCA, file)
	if desired.DigestOf(w.configSecret().Data) != digest {
		t.Error("other certificates change the configuration, which only names their file")
	}
	w.redisCA = nil
	given(nil, "")
	if got := w.deployment().Generation; got != generation {
		t.Error("certificates restart the receiver")
	}

	w.redisCA = []byte(certificate(t))
	given(w.redisCA, file)
	w.secret("redis", map[string]string{"url": "redis://redis"})
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Redis = &v1alpha1.Redis{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "redis", Key: "url"}}
	})
	given(nil, "")
}

func TestBadExpressionIsACondition(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.admit("203.0.113.7")
	w.reconcile()
	before := w.deployment().ResourceVersion + w.configSecret().ResourceVersion
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Targets[0].Filter = `event.typ == "chat_closed"` })
	if res := w.reconcile(); res.RequeueAfter != 0 {
		t.Errorf("polled every %s", res.RequeueAfter)
	}
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonFilterInvalid, "spec.targets[crm].filter has a mistake at line:column 1:6:", "typ")
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning FilterInvalid") {
		t.Errorf("events: %v", got)
	}
	w.quiet()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Targets[0].Filter, h.Spec.Deduplication.Key = `event.type == "chat_closed"`, "size(event.data)"
	})
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonFilterInvalid, "spec.deduplication.key has a mistake at line:column 1:", "string")
	if after := w.deployment().ResourceVersion + w.configSecret().ResourceVersion; after != before {
		t.Error("a bad expression was rolled out")
	}
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Deduplication.Key = "string(size(event.data))" })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	if c := w.config(); c.Targets[0].Filter == "" || c.Deduplication.Key == "" {
		t.Error("the receiver does not know the expressions")
	}
	w.quiet()
}

func TestMistakeLeavesWhatRunsAlone(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.rollOut(2)
	w.serve("10.1.0.1", "10.1.0.2")
	w.reconcile()
	deployment, url := w.deployment(), w.hook().Status.URL
	w.do(w.person.Delete(t.Context(), get(w, "heymarket", &corev1.Secret{})))
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Type = v1alpha1.ExposureNone })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonTokenSecretNotFound)
	// The receiver serves every part of the new generation that there is in its configuration.
	w.condition(v1alpha1.ConditionAvailable, true, v1alpha1.ReasonServing)
	if got := w.exist(); got != allChildren {
		t.Errorf("children: %s", got)
	}
	if got := w.deployment(); got.ResourceVersion != deployment.ResourceVersion {
		t.Error("the Deployment was written")
	}
	if got := w.hook().Status.URL; got != url {
		t.Errorf("url = %s, want %s: nothing new was rolled out", got, url)
	}
	w.quiet()
}

func TestChangeOfTargetRestartsNothing(t *testing.T) {
	t.Parallel()
	w := settled(t)
	before := w.deployment()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Targets[0].URL = new("http://crm.example.com/v2") })
	w.writes.take()
	w.reconcile()
	if diff := cmp.Diff([]string{"PATCH secrets/support-receiver", "PATCH heymarketwebhooks/support/status"}, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := w.config().Targets[0].URL; got != "http://crm.example.com/v2" {
		t.Errorf("url = %s", got)
	}
	if after := w.deployment(); after.Generation != before.Generation {
		t.Error("the Deployment has changed")
	}
	w.quiet()
}

func TestNewRedisURLRestartsNothing(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.writes.take()
	w.redis = "rediss://:secret@another.example.com:6380/1"
	w.reconcile()
	if diff := cmp.Diff([]string{"PATCH secrets/support-receiver"}, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := string(w.configSecret().Data[desired.KeyRedisURL]); got != w.redis {
		t.Error("the Secret has another URL of Redis")
	}
	w.quiet()
}

func TestDriftIsUndone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		drift func(*world)
		write string
		good  func(*world) bool
	}{
		"replicas": {
			func(w *world) {
				change(w, w.deployment(), func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(7)) })
			},
			"PATCH deployments/support-receiver",
			func(w *world) bool { return *w.deployment().Spec.Replicas == 2 },
		},
		"image": {
			func(w *world) {
				change(w, w.deployment(), func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "evil:1" })
			},
			"PATCH deployments/support-receiver",
			func(w *world) bool {
				return w.deployment().Spec.Template.Spec.Containers[0].Image == "heymarket.dev/operator:v1"
			},
		},
		"security context": {
			func(w *world) {
				change(w, w.deployment(), func(d *appsv1.Deployment) { d.Spec.Template.Spec.SecurityContext.RunAsNonRoot = new(false) })
			},
			"PATCH deployments/support-receiver",
			func(w *world) bool { return *w.deployment().Spec.Template.Spec.SecurityContext.RunAsNonRoot },
		},
		"target port": {
			func(w *world) {
				change(w, w.service(), func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(22) })
			},
			"PATCH services/support-receiver",
			func(w *world) bool { return w.service().Spec.Ports[0].TargetPort == intstr.FromString("http") },
		},
		"label": {
			func(w *world) {
				change(w, w.service(), func(s *corev1.Service) { delete(s.Labels, contract.LabelManagedBy) })
			},
			"PATCH services/support-receiver",
			func(w *world) bool { return w.service().Labels[contract.LabelManagedBy] == contract.ManagedByValue },
		},
		"configuration": {
			func(w *world) {
				change(w, w.configSecret(), func(s *corev1.Secret) { s.Data[desired.KeyConfig] = []byte("{}") })
			},
			"PATCH secrets/support-receiver",
			func(w *world) bool { return len(w.config().Targets) == 1 },
		},
		"URL": {
			func(w *world) {
				change(w, w.urlSecret(), func(s *corev1.Secret) { delete(s.Data, desired.KeyURL) })
			},
			"PATCH secrets/support-url",
			func(w *world) bool { return strings.HasPrefix(string(w.urlSecret().Data[desired.KeyURL]), "https://") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := settled(t)
			segment := string(w.urlSecret().Data[desired.KeySegment])
			tc.drift(w)
			w.writes.take()
			w.reconcile()
			want := []string{tc.write}
			if name == "label" { // The caches lack it, and the API server refuses to create it.
				want = append(want, tc.write)
			}
			if got := w.writes.take(); !slices.Equal(got, want) {
				t.Errorf("writes: %v, want %v", got, want)
			}
			if !tc.good(w) {
				t.Error("the drift is still there")
			}
			if got := string(w.urlSecret().Data[desired.KeySegment]); got != segment {
				t.Error("the segment has changed")
			}
			w.quiet()
		})
	}
}

func TestOthersMayAdd(t *testing.T) {
	t.Parallel()
	w := settled(t)
	change(w, w.deployment(), func(d *appsv1.Deployment) {
		d.Annotations["example.com/note"] = "mine"
		d.Spec.Template.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "2026-11-21T00:00:00Z"}
		d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Name: "sidecar", Image: "mesh:1"})
	})
	change(w, w.configSecret(), func(s *corev1.Secret) { s.Data["theirs"] = []byte("x") })
	w.quiet()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.Replicas = new(int32(3)) })
	w.reconcile()
	d := w.deployment()
	if len(d.Spec.Template.Spec.Containers) != 2 || d.Annotations["example.com/note"] != "mine" || *d.Spec.Replicas != 3 {
		t.Errorf("others' additions are gone: %v", d)
	}
	w.quiet()
}

// The number of replicas is handed to the autoscaler and back without changing in between.
func TestAutoscaling(t *testing.T) {
	t.Parallel()
	w := settled(t)
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.Replicas = new(int32(5)) })
	w.reconcile()
	seen := watchReplicas(w)
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Receiver.Autoscaling = &v1alpha1.Autoscaling{MinReplicas: new(int32(3)), MaxReplicas: 10}
	})
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted, "spec.receiver.replicas has no effect beside spec.receiver.autoscaling")
	if got, want := w.exist(), strings.Replace(allChildren, ", Ingress", ", HorizontalPodAutoscaler support-receiver, Ingress", 1); got != want {
		t.Errorf("children: %s, want %s", got, want)
	}
	if spec := w.autoscaler().Spec; *spec.MinReplicas != 3 || spec.MaxReplicas != 10 || *spec.Metrics[0].Resource.Target.AverageUtilization != 80 {
		t.Errorf("autoscaler: %+v", spec)
	}
	w.quiet()
	scale := func(n int32) {
		t.Helper()
		d := w.deployment()
		s := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: n}}
		w.do(w.person.SubResource("scale").Update(t.Context(), d, client.WithSubResourceBody(s)))
	}
	scale(8) // as the autoscaler does
	w.quiet()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Receiver.LogLevel = "debug"
		h.Spec.Receiver.PriorityClassName = "important"
	})
	w.reconcile()
	w.quiet()
	scale(6)

	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.Autoscaling = nil })
	w.reconcile()
	if got := w.exist(); got != allChildren {
		t.Errorf("children: %s", got)
	}
	w.quiet()
	if got, want := seen(), []int32{5, 8, 6, 5}; !slices.Equal(got, want) {
		t.Errorf("replicas: %v, want %v", got, want)
	}

	// One replica needs no budget, because a drain would wait for it forever.
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.Replicas = new(int32(1)) })
	w.reconcile()
	if got, want := w.exist(), strings.Replace(allChildren, ", PodDisruptionBudget support-receiver", "", 1); got != want {
		t.Errorf("children: %s, want %s", got, want)
	}
	w.quiet()
}

// A receiver that is autoscaled from the start begins with the minimum number, not with one.
func TestAutoscalingFromTheFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + "receiver: {autoscaling: {minReplicas: 4, maxReplicas: 9}}")
	w.reconcile()
	seen := watchReplicas(w)
	w.reconcile()
	w.quiet()
	if got := seen(); !slices.Equal(got, []int32{4}) {
		t.Errorf("replicas: %v, want 4", got)
	}
}

// watchReplicas returns the numbers that the Deployment has had since, each once in a row.
func watchReplicas(w *world) func() []int32 {
	w.t.Helper()
	c, err := client.NewWithWatch(apiservertest.Config(w.t), client.Options{Scheme: Scheme()})
	w.do(err)
	events, err := c.Watch(w.t.Context(), &appsv1.DeploymentList{}, client.InNamespace(w.namespace))
	w.do(err)
	return func() []int32 {
		w.t.Helper()
		change(w, w.deployment(), func(d *appsv1.Deployment) { d.Annotations = map[string]string{"the": "end"} })
		var out []int32
		for e := range events.ResultChan() {
			d := e.Object.(*appsv1.Deployment)
			if n := *d.Spec.Replicas; len(out) == 0 || out[len(out)-1] != n {
				out = append(out, n)
			}
			if d.Annotations["the"] == "end" {
				events.Stop()
				break
			}
		}
		return out
	}
}

func TestDeletedChildrenComeBack(t *testing.T) {
	t.Parallel()
	for name, child := range map[string]func(*world) client.Object{
		"URL Secret":           func(w *world) client.Object { return w.urlSecret() },
		"configuration Secret": func(w *world) client.Object { return w.configSecret() },
		"Service":              func(w *world) client.Object { return w.service() },
		"Deployment":           func(w *world) client.Object { return w.deployment() },
		"PodDisruptionBudget":  func(w *world) client.Object { return w.budget() },
		"Ingress":              func(w *world) client.Object { return w.ingress() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := settled(t)
			url := string(w.urlSecret().Data[desired.KeyURL])
			w.do(w.person.Delete(t.Context(), child(w)))
			w.reconcile()
			if got := w.exist(); got != allChildren {
				t.Errorf("children: %s", got)
			}
			if string(w.urlSecret().Data[desired.KeyURL]) != url {
				t.Error("the URL that was typed into Heymarket has changed")
			}
			w.quiet()
		})
	}
}

func TestExposureNonePrunesIngress(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.r.Settings.HostTemplate = nil
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Type = v1alpha1.ExposureNone })
	w.reconcile()
	if got, want := w.exist(), strings.TrimSuffix(allChildren, ", Ingress support-receiver"); got != want {
		t.Errorf("children: %s, want %s", got, want)
	}
	w.condition(v1alpha1.ConditionExposed, true, v1alpha1.ReasonNotRequested, `"support-receiver"`)
	if got, want := string(w.urlSecret().Data[desired.KeyURL]), "http://support-receiver."+w.namespace+".svc"+w.config().Paths[0]; got != want {
		t.Errorf("url = %s, want %s", got, want)
	}
	w.quiet()

	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Type = v1alpha1.ExposureIngress })
	w.reconcile()
	if got := w.exist(); got != allChildren {
		t.Errorf("children: %s", got)
	}
	w.quiet()
}

// Of two resources that claim the same host and path the older one keeps it, and the newer takes it over when it is
// released.
func TestHostConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	host := w.namespace + ".example.com"
	w.secret("heymarket", map[string]string{"token": canary})
	other := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "a-first"}}
	w.do(yaml.UnmarshalStrict([]byte(smallest), &other.Spec))
	other.Spec.Exposure = v1alpha1.Exposure{Host: host, Path: "/hooks/x"}
	w.do(w.person.Create(t.Context(), other))
	w.webhook(smallest + "exposure: {host: " + host + "}")
	w.reconcile()
	w.admit("203.0.113.7")
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, true, v1alpha1.ReasonAdmitted)
	w.recorded()

	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Path = "/hooks/x" })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonHostConflict, `"a-first"`, w.namespace, host+"/hooks/x/", "set another")
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonRolloutInProgress)
	if got := w.recorded(); len(got) != 2 || !strings.HasPrefix(got[0], "Warning HostConflict") || !strings.HasPrefix(got[1], "Warning URLChanged") {
		t.Errorf("events: %v", got)
	}
	if got := w.exist(); strings.Contains(got, "Ingress") {
		t.Errorf("children: %s", got)
	}
	w.quiet()

	change(w, other, func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Path = "/hooks/y" })
	w.reconcile()
	if got := w.ingress().Spec.Rules[0].HTTP.Paths[0].Path; got != "/hooks/x/" {
		t.Errorf("path = %s", got)
	}
	if got := w.config().Paths[0]; !strings.HasPrefix(got, "/hooks/x/") {
		t.Errorf("the receiver listens at another path")
	}
	w.quiet()

	// What stands at another host stays there.
	change(w, other, func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Exposure = v1alpha1.Exposure{Host: "b." + host, Path: "/hooks/x"}
	})
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Host = "b." + host })
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonHostConflict)
	if got := w.ingress().Spec.Rules[0].Host; got != host {
		t.Errorf("host = %s, want %s", got, host)
	}
	w.quiet()
	w.do(w.person.Delete(t.Context(), other))
	w.reconcile()
	if got := w.ingress().Spec.Rules[0].Host; got != "b."+host {
		t.Errorf("host = %s, want %s", got, "b."+host)
	}
}

func TestHostThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	w := settled(t)
	var err error
	w.r.Settings.AllowedHosts, err = ParseAllowedHosts("{{.Namespace}}.example.com")
	w.do(err)
	w.reconcile() // The operator's own template needs no permission.
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Host = "other.example.com" })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonHostNotAllowed, `"other.example.com"`, w.namespace, "--allowed-hosts")
	if got := w.ingress().Spec.Rules[0].Host; got != w.namespace+".hooks.example.com" {
		t.Errorf("host = %s", got)
	}
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Host = w.namespace + ".example.com" })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.quiet()
}

func TestHostFromIngress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Settings.HostTemplate = nil
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	w.reconcile()
	if u, found := w.urlSecret().Data[desired.KeyURL]; found {
		t.Errorf("url = %s before there is a host", u)
	}
	w.quiet()
	w.admit("203.0.113.7")
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, true, v1alpha1.ReasonAdmitted)
	if got, want := string(w.urlSecret().Data[desired.KeyURL]), "https://203.0.113.7"+w.config().Paths[0]; got != want {
		t.Errorf("url = %s, want %s", got, want)
	}
	if host := w.ingress().Spec.Rules[0].Host; host != "" {
		t.Errorf("the Ingress asks for host %q, which nobody has set", host)
	}
	w.quiet()
}

// The children before it in the table exist by then, and stay as they are.
func TestForeignChildIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, foreign := range map[string]client.Object{
		"Service":             &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 9}}}},
		"Secret":              &corev1.Secret{Data: map[string][]byte{"segment": []byte(strings.Repeat("a", 26))}},
		"PodDisruptionBudget": &policyv1.PodDisruptionBudget{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.secret("heymarket", map[string]string{"token": canary})
			obj := foreign.DeepCopyObject().(client.Object)
			obj.SetNamespace(w.namespace)
			obj.SetName("support-receiver")
			w.do(w.person.Create(t.Context(), obj))
			w.webhook(smallest)
			res := w.reconcile()
			if res.RequeueAfter != 30*time.Second {
				t.Errorf("looks again in %s: no watch tells when the name is free", res.RequeueAfter)
			}
			w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildNameTaken, name+` "support-receiver"`, "delete or rename it")
			earlier, _, _ := strings.Cut(allChildren, name+" support-receiver")
			if got, want := w.exist(), earlier+name+" support-receiver"; got != want {
				t.Errorf("children: %s, want %s", got, want)
			}
			segment := string(w.urlSecret().Data[desired.KeySegment])
			after := foreign.DeepCopyObject().(client.Object)
			w.do(w.person.Get(t.Context(), w.key("support-receiver"), after))
			if after.GetResourceVersion() != obj.GetResourceVersion() {
				t.Error("it was written")
			}
			w.quiet()
			w.do(w.person.Delete(t.Context(), obj))
			w.reconcile()
			w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
			if got := w.exist(); got != allChildren {
				t.Errorf("children: %s", got)
			}
			if got := string(w.urlSecret().Data[desired.KeySegment]); got != segment {
				t.Error("the URL is another one than at first")
			}
		})
	}
}

// Creating a resource's children reads nothing of them from the API server, and creating one that exists changes nothing: it may
// have lost the label by which the caches find it.
func TestChildrenAreNotReadBeforeTheyAreCreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	var read []string
	w.r.Live = noted{w.r.Live, func(name string) { read = append(read, name) }}
	w.reconcile()
	if got, want := strings.Join(read, " "), "heymarket"; w.exist() != allChildren || got != want {
		t.Errorf("read %q, want %q; children: %s", got, want, w.exist())
	}
	before := w.urlSecret()
	for _, child := range []client.Object{w.urlSecret(), w.configSecret(), w.service(), w.deployment(), w.budget(), w.ingress()} {
		labels := child.GetLabels()
		delete(labels, contract.LabelManagedBy)
		change(w, child, func(o client.Object) { o.SetLabels(labels) })
	}
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	if after := w.urlSecret(); after.UID != before.UID || !reflect.DeepEqual(after.Data, before.Data) || after.Labels[contract.LabelManagedBy] == "" {
		t.Errorf("the URL, or its label, is lost: labels %v", after.Labels)
	}
	w.quiet()
}

// noted is a reader that names each object that is read.
type noted struct {
	client.Reader
	note func(name string)
}

func (n noted) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	n.note(key.Name)
	return n.Reader.Get(ctx, key, obj, opts...)
}

// An object that another owner creates just before the operator writes is not taken over either.
func TestForeignChildOfTheLastMomentIsLeftAlone(t *testing.T) {
	t.Parallel()
	for child, foreign := range map[string]client.Object{
		"Secret":              &corev1.Secret{},
		"Service":             &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 9}}}},
		"PodDisruptionBudget": &policyv1.PodDisruptionBudget{},
	} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.secret("heymarket", map[string]string{"token": canary})
			w.webhook(smallest)
			foreign.SetNamespace(w.namespace)
			foreign.SetName("support-receiver")
			w.r.Client = overtaken{w.r.Client, func(written client.Object) {
				if reflect.TypeOf(written) == reflect.TypeOf(foreign) && written.GetName() == foreign.GetName() && foreign.GetUID() == "" {
					w.do(w.person.Create(t.Context(), foreign))
				}
			}}
			w.reconcile()
			w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildNameTaken, child+` "support-receiver"`)
			after := foreign.DeepCopyObject().(client.Object)
			w.do(w.person.Get(t.Context(), w.key("support-receiver"), after))
			if after.GetResourceVersion() != foreign.GetResourceVersion() {
				t.Errorf("it was written: %s", after.GetManagedFields())
			}
		})
	}
}

// overtaken is a client whose patches are preceded by a call.
type overtaken struct {
	client.Client
	before func(client.Object)
}

func (o overtaken) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	o.before(obj)
	return o.Client.Patch(ctx, obj, patch, opts...)
}

func TestRefusedChildNamesTheCause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + "receiver: {resources: {requests: {memory: 1Gi}, limits: {memory: 64Mi}}}")
	if _, err := w.tryReconcile(); err == nil || errors.Is(err, reconcile.TerminalError(nil)) {
		t.Errorf("error %v, want one that leads to another try: it may have been a policy, and nothing tells when that changes", err)
	}
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildRefused, "Deployment", "requests", "must be less than or equal to memory limit")
	w.writes.take()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.Resources = nil })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
	w.quiet()
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.admit("203.0.113.7")
	available := func(ok bool, reason string, again bool) {
		t.Helper()
		res := w.reconcile()
		w.condition(v1alpha1.ConditionAvailable, ok, reason)
		if got := res.RequeueAfter != 0; got != again {
			t.Errorf("%s: looks again in %s, want %v", reason, res.RequeueAfter, again)
		}
		w.quiet()
	}
	available(false, v1alpha1.ReasonRolloutInProgress, false)
	w.rollOut(0)
	available(false, v1alpha1.ReasonNoReadyReplicas, false)
	w.rollOut(2)
	available(false, v1alpha1.ReasonStatusUnreachable, true)
	w.serve("10.1.0.1")
	available(false, v1alpha1.ReasonStatusUnreachable, true)
	w.serve("10.1.0.1", "10.1.0.2")
	available(true, v1alpha1.ReasonServing, false)
	w.rollOut(1)
	available(true, v1alpha1.ReasonServing, false)

	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Deduplication.Window = "1h" })
	available(false, v1alpha1.ReasonConfigurationPending, true)
	w.condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonConfigurationPending, "kubelet", "logs")
	w.serve("10.1.0.1")
	available(true, v1alpha1.ReasonServing, false)

	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.Replicas = new(int32(3)) })
	available(false, v1alpha1.ReasonRolloutInProgress, false)
	d := w.deployment()
	d.Status.ObservedGeneration = d.Generation
	d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
	w.do(w.person.Status().Update(t.Context(), d))
	available(false, v1alpha1.ReasonRolloutStuck, false)
}

func TestDurable(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.condition(v1alpha1.ConditionDurable, false, v1alpha1.ReasonDurabilityUnknown)
	w.rollOut(2)
	w.admit("203.0.113.7")
	w.serve("10.1.0.1", "10.1.0.2")
	durable := func(ok bool, reason string, events ...string) {
		t.Helper()
		w.reconcile()
		w.condition(v1alpha1.ConditionDurable, ok, reason)
		got := w.recorded()
		if len(got) != len(events) {
			t.Fatalf("events: %v, want %v", got, events)
		}
		for i := range got {
			if !strings.HasPrefix(got[i], events[i]) {
				t.Errorf("event %q, want %q", got[i], events[i])
			}
		}
		w.quiet()
	}
	// A Pod that is looking for Redis in its first moments is nothing to warn of.
	w.says("10.1.0.1", func(p *contract.Status) { p.Redis, p.Durable = contract.RedisConnecting, false })
	durable(false, v1alpha1.ReasonDurabilityUnknown)
	w.says("10.1.0.1", func(p *contract.Status) { p.Redis, p.Durable = "ok", true })
	durable(true, v1alpha1.ReasonDurable)
	w.condition(v1alpha1.ConditionReady, true, v1alpha1.ReasonReady)

	// One Pod with a problem is enough; problems that two report are listed once.
	for _, a := range []string{"10.1.0.1", "10.1.0.2"} {
		w.says(a, troubled(contract.RedisForgets, contract.RedisEvicts))
	}
	both := contract.RedisEvicts.Message() + " " + contract.RedisForgets.Message()
	durable(false, v1alpha1.ReasonNotDurable, "Warning NotDurable "+both)
	w.condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonNotDurable, "Not Durable: "+both)
	w.says("10.1.0.1", troubled(contract.RedisUnreachable))
	durable(false, v1alpha1.ReasonRedisUnreachable, "Warning RedisUnreachable ")

	// A Pod that is not ready because of Redis is asked as well.
	w.says("10.1.0.2", troubled(contract.RedisUnreachable))
	w.rollOut(0)
	durable(false, v1alpha1.ReasonRedisUnreachable)
	w.condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonNoReadyReplicas)
	w.rollOut(2)
	w.serve("10.1.0.1", "10.1.0.2")
	durable(true, v1alpha1.ReasonDurable, "Normal Durable")

	// A Pod that has not asked Redis yet is asked again.
	w.says("10.1.0.1", func(p *contract.Status) { p.Durable = false })
	if res := w.reconcile(); res.RequeueAfter != 3*time.Second {
		t.Errorf("asked again after %s, want %s", res.RequeueAfter, 3*time.Second)
	}
	w.condition(v1alpha1.ConditionDurable, false, v1alpha1.ReasonDurabilityUnknown)
}

// aMinuteLater lets the figures of the status change again.
func (w *world) aMinuteLater() {
	w.t.Helper()
	hook := w.hook()
	if hook.Status.CountTime != nil {
		hook.Status.CountTime = new(metav1.NewTime(hook.Status.CountTime.Add(-countPeriod)))
		w.do(w.person.Status().Update(w.t.Context(), hook))
	}
}

// The status has what waits for a target, and is not written again for small differences.
func TestWhatWaitsIsWrittenRarely(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.rollOut(2)
	w.serve("10.1.0.1", "10.1.0.2")
	start := time.Now().Truncate(time.Minute)
	waits := func(ago, until int) {
		t.Helper()
		oldest, next := start.Add(-time.Duration(ago)*time.Minute), start.Add(time.Duration(until)*time.Minute)
		w.says("10.1.0.2", func(p *contract.Status) {
			p.Targets[0].Pending, p.Targets[0].OldestPending, p.Targets[0].NextAttempt = 1, oldest, next
			p.Targets[0].LastError = &contract.TargetError{Class: contract.ErrorTimeout, Since: oldest}
		})
		w.aMinuteLater()
	}
	expect := func(ago, until int) {
		t.Helper()
		at := func(minutes int) *metav1.Time {
			return new(metav1.NewTime(start.Add(time.Duration(minutes) * time.Minute).Local()))
		}
		want := v1alpha1.TargetStatus{
			Name: "crm", Circuit: v1alpha1.CircuitClosed, Pending: 1, OldestPending: at(-ago), NextAttempt: at(until),
			LastError: &v1alpha1.TargetError{Class: "Timeout", Since: *at(-ago)},
		}
		if diff := cmp.Diff(want, w.hook().Status.Targets[0]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	waits(30, 10)
	w.reconcile()
	expect(30, 10)
	waits(28, 13)
	w.quiet()
	expect(30, 10)
	waits(20, 40)
	w.reconcile()
	expect(20, 40)
	w.says("10.1.0.2", func(p *contract.Status) {
		p.Targets[0] = contract.TargetStatus{Name: "crm", Circuit: contract.CircuitClosed}
	})
	w.aMinuteLater()
	w.reconcile()
	if diff := cmp.Diff(v1alpha1.TargetStatus{Name: "crm", Circuit: v1alpha1.CircuitClosed}, w.hook().Status.Targets[0]); diff != "" {
		t.Errorf("after it has recovered (-want +got):\n%s", diff)
	}
}

// The figures of the status are coarse, and change at most once a minute.
func TestFigures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(`
token: {secretKeyRef: {name: heymarket}}
targets: [{name: crm, url: 'http://crm.example.com/in'}, {name: log, url: 'http://log.example.com'}]
`)
	w.reconcile()
	if s := w.hook().Status; s.Pending != nil || s.DeadLetters != nil || s.Targets != nil || s.CountTime != nil {
		t.Errorf("figures without a Pod: %+v", s)
	}
	w.rollOut(2)
	w.serve("10.1.0.1", "10.1.0.2")
	w.reconcile()
	w.recorded()
	figures := func(pending, dead int64, targets ...v1alpha1.TargetStatus) {
		t.Helper()
		s := w.hook().Status
		if *s.Pending != pending || *s.DeadLetters != dead {
			t.Errorf("pending %d, dead letters %d, want %d and %d", *s.Pending, *s.DeadLetters, pending, dead)
		}
		if diff := cmp.Diff(targets, s.Targets); diff != "" {
			t.Errorf("targets (-want +got):\n%s", diff)
		}
	}
	idle := []v1alpha1.TargetStatus{{Name: "crm", Circuit: "Closed"}, {Name: "log", Circuit: "Closed"}}
	figures(0, 0, idle...)
	w.quiet()

	w.says("10.1.0.1", func(p *contract.Status) {
		p.Targets[0] = contract.TargetStatus{Name: "crm", Pending: 4321, DeadLetters: 12, Circuit: "Open"}
	})
	w.says("10.1.0.2", func(p *contract.Status) {
		p.Targets[0] = contract.TargetStatus{Name: "crm", Pending: 4322, DeadLetters: 12, Circuit: "Closed"}
		p.Targets[1] = contract.TargetStatus{Name: "log", Pending: 900, Circuit: "none of the three"}
	})
	w.quiet() // Within the minute nothing is written.
	figures(0, 0, idle...)
	w.aMinuteLater()
	w.reconcile()
	busy := []v1alpha1.TargetStatus{{Name: "crm", Pending: 4000, DeadLetters: 10, Circuit: "Open"}, {Name: "log", Pending: 900, Circuit: "Closed"}}
	figures(5000, 10, busy...)
	got := w.recorded()
	if len(got) != 2 || !strings.HasPrefix(got[0], `Warning CircuitOpened Target "crm"`) || !strings.HasPrefix(got[1], `Warning DeadLetters Target "crm"`) {
		t.Errorf("events: %v", got)
	}

	// A change that does not affect the first digit is not written.
	w.aMinuteLater()
	w.says("10.1.0.2", func(p *contract.Status) { p.Targets[0].Pending = 4400 })
	w.quiet()
	// Neither is a Pod that has lost sight of Redis, or one that is gone.
	w.says("10.1.0.1", func(p *contract.Status) { p.Redis, p.Targets[0] = "away", contract.TargetStatus{Name: "crm"} })
	w.says("10.1.0.2", func(p *contract.Status) { p.Redis, p.Targets[0] = "away", contract.TargetStatus{Name: "crm"} })
	w.reconcile()
	figures(5000, 10, busy...)

	w.serve("10.1.0.1", "10.1.0.2")
	w.reconcile()
	figures(0, 0, idle...)
	if got := strings.Join(w.recorded(), "\n"); !strings.Contains(got, `Normal CircuitClosed Target "crm"`) {
		t.Errorf("events: %s", got)
	}
	// A target that is removed goes from the status.
	w.aMinuteLater()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Targets = h.Spec.Targets[1:] })
	w.reconcile()
	figures(0, 0, idle[1])
	// What receivers of another webhook count is not for this one to read.
	w.serve("10.1.0.1", "10.1.0.2")
	for _, a := range []string{"10.1.0.1", "10.1.0.2"} {
		w.says(a, func(p *contract.Status) { p.ConfigDigest, p.Targets[0].Pending = "sha256:of another", 77 })
	}
	w.aMinuteLater()
	w.reconcile()
	figures(0, 0, idle[1])
}

// The status shows when each token was last used, throughout a rotation and its restarts.
func TestTokenUse(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.secret("next", map[string]string{"token": "next-" + canary})
	start := time.Now().Truncate(time.Second).Add(-time.Hour)
	used := func(current, previous time.Duration) {
		w.rollOut(2)
		w.serve("10.1.0.1", "10.1.0.2")
		w.says("10.1.0.2", func(p *contract.Status) {
			p.Tokens = []contract.TokenStatus{{Name: "current"}, {Name: "previous"}}
			if current > 0 {
				p.Tokens[0].LastUsed = start.Add(current)
			}
			if previous > 0 {
				p.Tokens[1].LastUsed = start.Add(previous)
			}
		})
		w.reconcile()
	}
	expect := func(secret string, current time.Duration, previousSecret string, previous, last time.Duration) {
		t.Helper()
		w.quiet()
		status := w.hook().Status
		minutes := func(at *metav1.Time) time.Duration {
			if at == nil {
				return 0
			}
			return at.Sub(start)
		}
		s := status.Token
		got := []any{s.SecretKeyRef.Name, minutes(s.LastUsed), "", minutes(s.PreviousLastUsed), minutes(status.LastEventTime)}
		if s.PreviousSecretKeyRef != nil {
			got[2] = s.PreviousSecretKeyRef.Name
		}
		if diff := cmp.Diff([]any{secret, current, previousSecret, previous, last}, got); diff != "" {
			t.Errorf("secret, last used, previous, last used, last event (-want +got):\n%s", diff)
		}
	}
	expect("heymarket", 0, "", 0, 0)
	used(time.Minute, 0)
	expect("heymarket", time.Minute, "", 0, time.Minute)
	used(5*time.Minute, 0) // less than a step later
	expect("heymarket", time.Minute, "", 0, time.Minute)
	used(6*time.Minute, 0)
	expect("heymarket", 6*time.Minute, "", 0, 6*time.Minute)

	// The rotation begins: the token becomes the previous one, and keeps its time.
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		previous := h.Spec.Token.SecretKeyRef
		h.Spec.Token = v1alpha1.Token{SecretKeyRef: v1alpha1.TokenReference{Name: "next", Key: "token"}, PreviousSecretKeyRef: &previous}
	})
	// Pods with the old configuration still call it the current one.
	w.says("10.1.0.2", func(p *contract.Status) { p.Tokens[0].LastUsed = start.Add(20 * time.Minute) })
	w.reconcile()
	expect("next", 0, "heymarket", 6*time.Minute, 6*time.Minute)
	used(0, 0) // Pods that have just started report no use.
	expect("next", 0, "heymarket", 6*time.Minute, 6*time.Minute)
	used(30*time.Minute, 21*time.Minute)
	expect("next", 30*time.Minute, "heymarket", 21*time.Minute, 30*time.Minute)
	w.recorded()

	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Token.PreviousSecretKeyRef = nil })
	used(30*time.Minute, 0)
	expect("next", 30*time.Minute, "", 0, 30*time.Minute)
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], `Normal RotationFinished`) || !strings.Contains(got[0], `"next"`) {
		t.Errorf("events: %v", got)
	}

	// A time in the future is ignored.
	used(48*time.Hour, 0)
	expect("next", 30*time.Minute, "", 0, 30*time.Minute)
}

// The status has the time at which each target last accepted an event: the latest of all Pods, and it survives the Pods.
func TestLastDelivered(t *testing.T) {
	t.Parallel()
	w := settled(t)
	start := time.Now().Truncate(time.Minute).Add(-time.Hour)
	pods := func(minutes ...int) {
		t.Helper()
		w.rollOut(2)
		w.serve("10.1.0.1", "10.1.0.2")
		for i, m := range minutes {
			w.says([]string{"10.1.0.1", "10.1.0.2"}[i], func(p *contract.Status) {
				if m > 0 {
					p.Targets[0].LastDelivered = start.Add(time.Duration(m) * time.Minute)
				}
			})
		}
		w.aMinuteLater()
		w.reconcile()
	}
	expect := func(minutes int) {
		t.Helper()
		w.quiet()
		var got int
		if at := w.hook().Status.Targets[0].LastDelivered; at != nil {
			got = int(at.Sub(start).Minutes())
		}
		if got != minutes {
			t.Errorf("last delivered in minute %d, want %d", got, minutes)
		}
	}
	pods(0, 0)
	expect(0)
	pods(1, 3)
	expect(3)
	pods(7, 3) // less than a step later
	expect(3)
	pods(8, 3)
	expect(8)
	pods(0, 0) // new Pods
	expect(8)
	pods(2000, 20) // One of the clocks is ahead.
	expect(20)
}

func TestCoarse(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]int64{0: 0, 7: 7, 9: 9, 10: 10, 19: 10, 99: 90, 100: 100, 4321: 4000, 1_000_000: 1_000_000, 1<<63 - 1: 9_000_000_000_000_000_000} {
		if got := roundDown(n); got != want {
			t.Errorf("roundDown(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestDeletionNeedsNoFinalizer(t *testing.T) {
	t.Parallel()
	w := settled(t)
	hook := w.hook()
	if len(hook.Finalizers) != 0 {
		t.Errorf("finalizers: %v", hook.Finalizers)
	}
	for _, child := range []client.Object{w.urlSecret(), w.configSecret(), w.service(), w.deployment(), w.budget(), w.ingress()} {
		if refs := child.GetOwnerReferences(); len(refs) != 1 || !metav1.IsControlledBy(child, hook) {
			t.Errorf("%T %s has owners %v, so the garbage collector would leave it", child, child.GetName(), refs)
		}
	}
	// Deletion with another owner's finalizer: the operator does not keep the children.
	change(w, hook, func(h *v1alpha1.HeymarketWebhook) { h.Finalizers = []string{"example.com/wait"} })
	w.do(w.person.Delete(t.Context(), hook))
	w.do(w.person.Delete(t.Context(), w.service()))
	w.quiet()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Finalizers = nil })
	w.quiet() // It is gone.
}

// Children that are being deleted are not adopted; the resource waits until they are deleted.
func TestChildrenOfAnEarlierResource(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.do(w.person.Delete(t.Context(), w.hook()))
	for _, child := range w.children() {
		change(w, child, func(o client.Object) { o.SetFinalizers([]string{"example.com/wait"}) })
		w.do(w.person.Delete(t.Context(), child))
	}
	w.webhook(smallest)
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildNameTaken, "earlier HeymarketWebhook")
	for _, child := range w.children() {
		change(w, child, func(o client.Object) { o.SetFinalizers(nil) })
	}
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
}

// The real admission of the restricted Pod Security Standard accepts the receiver's Pod for every resource.
func TestPodIsRestricted(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]string{
		"the smallest": "",
		"all that is allowed": `
receiver:
  nodeSelector: {disk: ssd}
  tolerations: [{operator: Exists}]
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: rack, labelSelector: {matchLabels: {a: b}}}]}}
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
  podAnnotations: {example.com/a: b}
  podLabels: {a: b}
  imagePullSecrets: [{name: registry}]
  resources: {limits: {cpu: 1, memory: 1Gi}}
`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.secret("heymarket", map[string]string{"token": canary})
			w.webhook(smallest + spec)
			w.reconcile()
			template := w.deployment().Spec.Template
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "probe", Labels: template.Labels, Annotations: template.Annotations}, Spec: template.Spec}
			if err := w.person.Create(t.Context(), pod, client.DryRunAll); err != nil {
				t.Errorf("refused: %v", err)
			}
			pod.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = new(true)
			pod.ResourceVersion = ""
			if err := w.person.Create(t.Context(), pod, client.DryRunAll); err == nil {
				t.Error("the control, a Pod that may escalate, was accepted")
			}
		})
	}
}

func TestTimesOfTransitionStay(t *testing.T) {
	t.Parallel()
	w := settled(t)
	before := meta.FindStatusCondition(w.hook().Status.Conditions, v1alpha1.ConditionAccepted).LastTransitionTime
	hook := w.hook()
	for i := range hook.Status.Conditions {
		hook.Status.Conditions[i].LastTransitionTime = metav1.NewTime(before.Add(-1e12))
	}
	w.do(w.person.Status().Update(t.Context(), hook))
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.WebhookID = new(int64(1)) })
	w.reconcile()
	after := meta.FindStatusCondition(w.hook().Status.Conditions, v1alpha1.ConditionAccepted).LastTransitionTime
	if !after.Before(&before) {
		t.Error("the time of transition moved although nothing did but the generation")
	}
}
