package condition

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/reach"
)

const token = "hunter2-Kf93Tz"

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// good are the facts about a webhook whose conditions are all True. It has one target, crm, with a header from a Secret.
func good() Facts {
	hook := &v1alpha1.HeymarketWebhook{
		ObjectMeta: metav1.ObjectMeta{Namespace: "staging", Name: "support"},
		Spec: v1alpha1.HeymarketWebhookSpec{
			Token: v1alpha1.Token{SecretKeyRef: v1alpha1.TokenReference{Name: "heymarket", Key: "token"}},
			Targets: []v1alpha1.Target{{Name: "crm", URL: new("https://crm.example.com/"), Headers: []v1alpha1.Header{
				{Name: "X-Key", SecretKeyRef: &v1alpha1.SecretKeyReference{Name: "crm", Key: "key"}},
			}}},
		},
	}
	secret := func(name, key, value string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{key: []byte(value)}}
	}
	old := metav1.ObjectMeta{Name: "support-receiver", Namespace: "staging", CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour))}
	serving := contract.Status{ConfigDigest: "d", Redis: contract.RedisOK, Durable: true}
	return Facts{
		Now: noon, Webhook: hook, ExposureTimeout: ExposureTimeout,
		Input: desired.Input{Webhook: hook, SharedRedis: desired.SharedRedis{URL: "redis://:a-shared-password@h"}, Host: "hooks.example.com", HostRequested: true, Image: "image"},
		Children: desired.Children{
			desired.Deployment.Child: &appsv1.Deployment{ObjectMeta: old, Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))}, Status: appsv1.DeploymentStatus{
				Replicas: 2, UpdatedReplicas: 2, Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"}},
			}},
			desired.Ingress.Child: &networkingv1.Ingress{ObjectMeta: old, Status: networkingv1.IngressStatus{LoadBalancer: networkingv1.IngressLoadBalancerStatus{
				Ingress: []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}},
			}}},
		},
		Want:               desired.Objects{ConfigDigest: "d"},
		Secrets:            map[string]*corev1.Secret{"heymarket": secret("heymarket", "token", token), "crm": secret("crm", "key", "a-value")},
		AllowedAnnotations: []string{"prometheus.io/*", AnnotationDNSHostname}, AllowedLabels: []string{"team"},
		Ready: []*contract.Status{&serving, &serving}, Reports: []contract.Status{serving, serving},
	}
}

// outcome is a row of the tables below: what happens to good facts and writes, and the condition that comes of it.
type outcome struct {
	change func(*Facts, *Writes)
	reason string
	ok     bool
	again  time.Duration
	// words stand in the message.
	words []string
}

func check(t *testing.T, of func(Facts, Writes) *Condition, table map[string]outcome) {
	t.Helper()
	for name, tc := range table {
		f, w := good(), Writes{}
		if tc.change != nil {
			tc.change(&f, &w)
		}
		f.Mistake = cmp.Or(f.Mistake, Check(f))
		c := of(f, w)
		switch {
		case c == nil && tc.reason == "":
			continue
		case c == nil || c.Reason != tc.reason || c.OK != tc.ok || c.Again != tc.again:
			t.Errorf("%s: %+v, want %s %t, again in %s", name, c, tc.reason, tc.ok, tc.again)
			continue
		}
		for _, word := range tc.words {
			if !strings.Contains(c.Message, word) {
				t.Errorf("%s: the message is %q, want it to name %q", name, c.Message, word)
			}
		}
		if strings.Contains(c.Message, token) || strings.Contains(c.Message, "a-shared-password") {
			t.Errorf("%s: the message is confidential: %s", name, c.Message)
		}
	}
}

// since makes the status report a condition for some time.
func since(f *Facts, name string, status metav1.ConditionStatus, d time.Duration) {
	meta.SetStatusCondition(&f.Webhook.Status.Conditions, metav1.Condition{Type: name, Status: status, Reason: "Before", LastTransitionTime: metav1.NewTime(f.Now.Add(-d))})
}

func crm(f *Facts) *v1alpha1.Target { return &f.Webhook.Spec.Targets[0] }

func service(f *Facts) {
	crm(f).URL, crm(f).Service = nil, &v1alpha1.ServiceReference{Name: "crm", Port: 80}
	f.Services = map[string]*corev1.Service{"crm": {Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []corev1.ServicePort{{Port: 80}}}}}
}

var errQuota = apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "support-receiver", errors.New("exceeded quota"))

func failure(c *desired.Child) *Failure {
	return &Failure{Child: c, Name: c.ObjectName("support"), Err: errQuota}
}

func TestAccepted(t *testing.T) {
	t.Parallel()
	const kept = "kept meanwhile"
	check(t, Accepted, map[string]outcome{
		"good": {reason: v1alpha1.ReasonAccepted, ok: true, words: []string{"The spec is valid and all references resolve."}},
		"a token with a blank": {
			func(f *Facts, _ *Writes) { f.Secrets["heymarket"].Data["token"] = []byte(token + " ") }, v1alpha1.ReasonAccepted, true, 0,
			[]string{`The value under key "token" of Secret "heymarket" of spec.token.secretKeyRef begins or ends with a blank`},
		},
		"replicas beside autoscaling": {
			func(f *Facts, _ *Writes) {
				f.Webhook.Spec.Receiver = v1alpha1.Receiver{Replicas: new(int32(3)), Autoscaling: &v1alpha1.Autoscaling{}}
			}, v1alpha1.ReasonAccepted, true, 0, []string{"spec.receiver.replicas has no effect"},
		},
		"a previous URL": {
			func(f *Facts, _ *Writes) {
				f.Input.Previous = []desired.PreviousPath{{Path: "/staging/support/" + strings.Repeat("a", 26), Replaced: noon.Add(-time.Hour)}}
			}, v1alpha1.ReasonAccepted, true, 167 * time.Hour, nil,
		},
		"a name that is taken": {
			func(f *Facts, _ *Writes) {
				f.Taken = []Taken{{Child: desired.Deployment.Child, Name: "support-receiver"}}
			},
			v1alpha1.ReasonChildNameTaken, false, 30 * time.Second,
			[]string{`Deployment "support-receiver"`, "delete or rename it"},
		},
		"the URL's name is taken": {
			func(f *Facts, _ *Writes) { f.Taken = []Taken{{Child: desired.URLSecret.Child, Name: "support-url"}} },
			v1alpha1.ReasonChildNameTaken, false, 30 * time.Second,
			[]string{`Secret "support-url"`, "keep a copy"},
		},
		"a name that will be free": {
			func(f *Facts, _ *Writes) {
				f.Taken = []Taken{{Child: desired.Deployment.Child, Name: "support-receiver", Deleting: true}}
			}, v1alpha1.ReasonChildNameTaken, false, 30 * time.Second, []string{"being deleted"},
		},
		"large Secrets": {func(f *Facts, _ *Writes) { f.SecretsTooLarge = true }, v1alpha1.ReasonSecretValueInvalid, false, 0, []string{"1 MiB"}},
		"no token":      {func(f *Facts, _ *Writes) { f.Secrets["heymarket"] = nil }, v1alpha1.ReasonTokenSecretNotFound, false, 0, []string{"create it"}},
		"no token key":  {func(f *Facts, _ *Writes) { clear(f.Secrets["heymarket"].Data) }, v1alpha1.ReasonTokenKeyNotFound, false, 0, []string{`has no key "token"`}},
		"an empty token": {
			func(f *Facts, _ *Writes) { f.Secrets["heymarket"].Data["token"] = []byte(" \n") }, v1alpha1.ReasonTokenEmpty, false, 0, []string{"is empty"},
		},
		"no header Secret": {func(f *Facts, _ *Writes) { f.Secrets["crm"] = nil }, v1alpha1.ReasonSecretNotFound, false, 0, []string{`namespace "staging"`}},
		"no header key":    {func(f *Facts, _ *Writes) { clear(f.Secrets["crm"].Data) }, v1alpha1.ReasonSecretKeyNotFound, false, 0, nil},
		"a header of two lines": {
			func(f *Facts, _ *Writes) { f.Secrets["crm"].Data["key"] = []byte("a\nb") }, v1alpha1.ReasonSecretValueInvalid, false, 0, []string{"cannot be used"},
		},
		"a Secret of the operator's": {
			func(f *Facts, _ *Writes) {
				f.Secrets["crm"].Labels = map[string]string{contract.LabelManagedBy: contract.ManagedByValue}
			}, v1alpha1.ReasonSecretNotAllowed, false, 0, []string{"belongs to the operator"},
		},
		"a Secret of another webhook's": {
			func(f *Facts, _ *Writes) {
				f.Secrets["crm"].OwnerReferences = []metav1.OwnerReference{{Kind: "HeymarketWebhook"}}
			}, v1alpha1.ReasonSecretNotAllowed, false, 0, nil,
		},
		"the key of another webhook's token": {
			func(f *Facts, _ *Writes) { f.OtherTokens = map[string][]string{"crm": {"key"}} }, v1alpha1.ReasonSecretNotAllowed, false, 0, []string{"is a verification token of a HeymarketWebhook"},
		},
		"the key of the own token": {
			func(f *Facts, _ *Writes) {
				crm(f).Headers[0].SecretKeyRef = &v1alpha1.SecretKeyReference{Name: "heymarket", Key: "token"}
			}, v1alpha1.ReasonSecretNotAllowed, false, 0, []string{"is a verification token of a HeymarketWebhook"},
		},
		"the operator's own password for Redis": {
			func(f *Facts, _ *Writes) {
				f.OperatorRedisURL, f.Secrets["crm"].Data["key"] = "redis://operator:its-own-password@h", []byte("its-own-password")
			}, v1alpha1.ReasonSecretNotAllowed, false, 0, nil,
		},
		"the password of the own Redis": {
			func(f *Facts, _ *Writes) {
				f.Webhook.Spec.Redis = &v1alpha1.Redis{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "redis", Key: "url"}}
				f.Secrets["redis"] = &corev1.Secret{Data: map[string][]byte{"url": []byte("redis://:tenants-password@h\n")}}
				f.Secrets["crm"].Data["key"] = []byte("tenants-password")
			}, v1alpha1.ReasonSecretNotAllowed, false, 0, nil,
		},
		"the secret segment of the URL": {
			func(f *Facts, _ *Writes) {
				segment := strings.Repeat("s", 26)
				f.Children[desired.URLSecret.Child] = &corev1.Secret{Data: map[string][]byte{desired.KeySegment: []byte(segment)}}
				f.Secrets["crm"].Data["key"] = []byte(segment)
			}, v1alpha1.ReasonSecretNotAllowed, false, 0, nil,
		},
		"no Redis user": {func(f *Facts, _ *Writes) { f.NoRedisUser = true }, v1alpha1.ReasonRedisUserNotCreated, false, 0, []string{"cannot reach"}},
		"a Redis user that is refused": {
			func(f *Facts, _ *Writes) { f.NoRedisUser, f.RedisRefusal = true, "NOPERM" }, v1alpha1.ReasonRedisUserRefused, false, 0, []string{"(NOPERM)"},
		},
		"the value of another webhook's token": {
			func(f *Facts, _ *Writes) {
				f.OtherTokens, f.Secrets["crm"].Data["token"] = map[string][]string{"crm": {"token"}}, []byte("a-value")
			}, v1alpha1.ReasonSecretNotAllowed, false, 0, []string{"holds a verification token"},
		},
		"the own token as a header": {
			func(f *Facts, _ *Writes) { f.Secrets["crm"].Data["key"] = []byte(token) }, v1alpha1.ReasonSecretNotAllowed, false, 0, nil,
		},
		"a token in the spec": {
			func(f *Facts, _ *Writes) { crm(f).Headers[0] = v1alpha1.Header{Name: "X-Key", Value: new(token)} },
			v1alpha1.ReasonSecretNotAllowed, false, 0,
			[]string{"spec.targets[crm].headers[X-Key]"},
		},
		"the URL of Redis in the spec": {
			func(f *Facts, _ *Writes) {
				crm(f).Headers[0] = v1alpha1.Header{Name: "X-Key", Value: new("redis://:a-shared-password@h")}
			},
			v1alpha1.ReasonSecretNotAllowed, false, 0, nil,
		},
		"the certificate is the operator's": {
			func(f *Facts, _ *Writes) {
				f.Certificate = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "tls", Labels: map[string]string{contract.LabelManagedBy: contract.ManagedByValue}}}
			}, v1alpha1.ReasonSecretNotAllowed, false, 0, []string{`"tls" of spec.exposure.ingress.tlsSecretName`},
		},
		"a filter that cannot be read": {func(f *Facts, _ *Writes) { crm(f).Filter = "event." }, v1alpha1.ReasonFilterInvalid, false, 0, nil},
		"no host from the template":    {func(f *Facts, _ *Writes) { f.HostError = errors.New("no DNS name") }, v1alpha1.ReasonInvalidConfiguration, false, 0, []string{"--host-template"}},
		"another's host":               {func(f *Facts, _ *Writes) { f.HostNotAllowed = true }, v1alpha1.ReasonHostNotAllowed, false, 0, []string{"--allowed-hosts"}},
		"an annotation": {
			func(f *Facts, _ *Writes) {
				f.Webhook.Spec.Receiver.PodAnnotations = map[string]v1alpha1.AnnotationValue{"x": "y"}
			},
			v1alpha1.ReasonAnnotationNotAllowed, false, 0,
			[]string{"--allowed-annotations"},
		},
		"an annotation of two lines": {
			func(f *Facts, _ *Writes) {
				f.Webhook.Spec.Receiver.PodAnnotations = map[string]v1alpha1.AnnotationValue{"prometheus.io/path": "a\nb"}
			}, v1alpha1.ReasonAnnotationNotAllowed, false, 0, []string{"one line"},
		},
		"an annotation that is allowed": {
			func(f *Facts, _ *Writes) {
				f.Webhook.Spec.Receiver.PodAnnotations = map[string]v1alpha1.AnnotationValue{"prometheus.io/path": "/x"}
			}, v1alpha1.ReasonAccepted, true, 0, nil,
		},
		"its own DNS name": {
			func(f *Facts, _ *Writes) {
				f.Webhook.Spec.Exposure.Ingress = &v1alpha1.IngressExposure{Annotations: map[string]v1alpha1.AnnotationValue{AnnotationDNSHostname: "Hooks.example.com., hooks.example.com"}}
			}, v1alpha1.ReasonAccepted, true, 0, nil,
		},
		"another DNS name": {
			func(f *Facts, _ *Writes) {
				f.Webhook.Spec.Exposure.Ingress = &v1alpha1.IngressExposure{Annotations: map[string]v1alpha1.AnnotationValue{AnnotationDNSHostname: "hooks.example.com, other.example.com"}}
			}, v1alpha1.ReasonAnnotationNotAllowed, false, 0, []string{"hooks.example.com"},
		},
		"a label": {
			func(f *Facts, _ *Writes) {
				f.Webhook.Spec.Receiver.PodLabels = map[string]v1alpha1.LabelValue{"x": "y"}
			},
			v1alpha1.ReasonLabelNotAllowed, false, 0,
			[]string{"--allowed-labels"},
		},
		"no finalizer": {
			func(f *Facts, _ *Writes) { f.Mistake = FinalizerRejected(errQuota) }, v1alpha1.ReasonFinalizerRefused, false, 0, []string{"exceeded quota"},
		},
		"a rejected user ID": {
			func(_ *Facts, w *Writes) {
				w.Rejected = failure(desired.Deployment.Child)
				w.Rejected.Err = errors.New("runAsUser: Invalid value: 65532")
			}, v1alpha1.ReasonChildRefused, false, 0, []string{"docs/openshift.md"},
		},
		"a rejected child": {
			func(_ *Facts, w *Writes) { w.Rejected = failure(desired.Deployment.Child) }, v1alpha1.ReasonChildRefused, false, 0, []string{`Deployment "support-receiver"`, "exceeded quota"},
		},
		"no Service": {func(f *Facts, _ *Writes) { service(f); f.Services = nil }, v1alpha1.ReasonTargetServiceNotFound, false, 0, []string{kept}},
		"a Service":  {func(f *Facts, _ *Writes) { service(f) }, v1alpha1.ReasonAccepted, true, 0, nil},
		"no port":    {func(f *Facts, _ *Writes) { service(f); crm(f).Service.Port = 81 }, v1alpha1.ReasonTargetPortNotFound, false, 0, []string{"port 81", kept}},
		"a port of an ExternalName": {func(f *Facts, _ *Writes) {
			service(f)
			crm(f).Service.Port, f.Services["crm"].Spec.Type, f.Services["crm"].Spec.ExternalName = 81, corev1.ServiceTypeExternalName, "crm.example.com"
		}, v1alpha1.ReasonAccepted, true, 0, nil},
		"a port of a headless Service": {func(f *Facts, _ *Writes) {
			service(f)
			crm(f).Service.Port, f.Services["crm"].Spec.ClusterIP = 81, corev1.ClusterIPNone
		}, v1alpha1.ReasonAccepted, true, 0, nil},
		"a blocked address": {
			func(f *Facts, _ *Writes) { crm(f).URL = new("http://169.254.169.254/") }, v1alpha1.ReasonTargetAddressRefused, false, 0, []string{"169.254.169.254", kept},
		},
		"a private address": {
			func(f *Facts, _ *Writes) {
				crm(f).URL, f.Input.TargetAddresses.Public = new("http://10.0.0.7/"), true
			}, v1alpha1.ReasonTargetAddressRefused, false, 0, []string{"--target-addresses"},
		},
		"a closed namespace": {
			func(f *Facts, _ *Writes) {
				crm(f).URL, f.Input.NetworkPolicy = new("http://crm.other.svc/"), &desired.NetworkPolicy{}
			},
			v1alpha1.ReasonTargetNamespaceClosed, false, 0,
			[]string{`"other"`},
		},
		"Redis in a closed namespace": {
			func(f *Facts, _ *Writes) {
				f.Input.OwnRedisURL, f.Input.NetworkPolicy = "redis://redis.other.svc:6379", &desired.NetworkPolicy{}
			}, v1alpha1.ReasonTargetNamespaceClosed, false, 0, []string{"spec.redis"},
		},
	})
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	deployment := func(f *Facts) *appsv1.Deployment { return desired.Deployment.In(f.Children) }
	condition := func(c appsv1.DeploymentCondition) func(*Facts, *Writes) {
		return func(f *Facts, _ *Writes) { deployment(f).Status.Conditions = []appsv1.DeploymentCondition{c} }
	}
	check(t, Available, map[string]outcome{
		"good":                   {reason: v1alpha1.ReasonServing, ok: true},
		"nothing yet":            {func(f *Facts, w *Writes) { clear(f.Children); w.Rejected = failure(desired.Deployment.Child) }, v1alpha1.ReasonNotDeployed, false, 0, []string{"not accepted"}},
		"just created":           {func(f *Facts, w *Writes) { clear(f.Children); w.DeploymentWritten = true }, v1alpha1.ReasonRolloutInProgress, false, 0, nil},
		"just changed":           {func(_ *Facts, w *Writes) { w.DeploymentWritten = true }, v1alpha1.ReasonRolloutInProgress, false, 0, nil},
		"rolling":                {func(f *Facts, _ *Writes) { deployment(f).Status.UpdatedReplicas = 1 }, v1alpha1.ReasonRolloutInProgress, false, 0, nil},
		"more Pods than wanted":  {func(f *Facts, _ *Writes) { deployment(f).Status.Replicas = 3 }, v1alpha1.ReasonRolloutInProgress, false, 0, nil},
		"fewer Pods than wanted": {func(f *Facts, _ *Writes) { deployment(f).Status.Replicas, deployment(f).Status.UpdatedReplicas = 1, 1 }, v1alpha1.ReasonRolloutInProgress, false, 0, nil},
		"not observed":           {func(f *Facts, _ *Writes) { deployment(f).Generation = 2 }, v1alpha1.ReasonRolloutInProgress, false, 0, nil},
		"never ready":            {func(f *Facts, _ *Writes) { f.Ready, deployment(f).Status.Conditions = nil, nil }, v1alpha1.ReasonRolloutInProgress, false, 0, nil},
		"not ready":              {func(f *Facts, _ *Writes) { f.Ready = nil }, v1alpha1.ReasonNoReadyReplicas, false, 0, []string{"kubectl describe deployment support-receiver"}},
		"paused":                 {func(f *Facts, _ *Writes) { deployment(f).Spec.Paused = true }, v1alpha1.ReasonDeploymentPaused, false, 0, []string{"kubectl rollout resume"}},
		"scaled to 0":            {func(f *Facts, _ *Writes) { deployment(f).Spec.Replicas = new(int32(0)) }, v1alpha1.ReasonScaledToZero, false, 0, []string{"--replicas=2"}},
		"stuck":                  {condition(appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse}), v1alpha1.ReasonRolloutStuck, false, 0, []string{`"image"`}},
		"Pods rejected": {
			condition(appsv1.DeploymentCondition{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: `pods "a-b" is forbidden: exceeded quota`}),
			v1alpha1.ReasonPodsRefused, false, 0,
			[]string{"(forbidden: exceeded quota)"},
		},
		"Pods that were rejected before a change": {func(f *Facts, w *Writes) {
			condition(appsv1.DeploymentCondition{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue})(f, w)
			deployment(f).Generation = 2
		}, v1alpha1.ReasonRolloutInProgress, false, 0, nil},
		"Pods that are no longer rejected": {
			condition(appsv1.DeploymentCondition{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionFalse, Message: "exceeded quota"}),
			v1alpha1.ReasonServing, true, 0, nil,
		},
		"silent": {func(f *Facts, _ *Writes) { f.Ready[1] = nil }, v1alpha1.ReasonStatusUnreachable, false, 3 * time.Second, []string{"8081", "docs/mesh.md"}},
		"silent for long": {func(f *Facts, _ *Writes) {
			f.Ready[1] = nil
			since(f, v1alpha1.ConditionAvailable, metav1.ConditionFalse, time.Hour)
		}, v1alpha1.ReasonStatusUnreachable, false, 30 * time.Second, nil},
		"silent after long service": {func(f *Facts, _ *Writes) {
			f.Ready[1] = nil
			since(f, v1alpha1.ConditionAvailable, metav1.ConditionTrue, time.Hour)
		}, v1alpha1.ReasonStatusUnreachable, false, 3 * time.Second, nil},
		"another configuration": {func(f *Facts, _ *Writes) { f.Want.ConfigDigest = "e" }, v1alpha1.ReasonConfigurationPending, false, 3 * time.Second, []string{"kubelet"}},
		"another configuration, not accepted": {func(f *Facts, _ *Writes) {
			f.Want.ConfigDigest, f.Mistake = "e", Invalid(errQuota)
		}, v1alpha1.ReasonConfigurationPending, false, 0, []string{"once the resource is accepted"}},
		"another configuration, not accepted, that is in the Secret": {func(f *Facts, _ *Writes) {
			s := &corev1.Secret{Data: map[string][]byte{"config.json": []byte("{}")}}
			f.Children[desired.ConfigSecret.Child] = s
			f.Want.ConfigDigest, f.Mistake = desired.DigestOf(s.Data), Invalid(errQuota)
		}, v1alpha1.ReasonConfigurationPending, false, 3 * time.Second, []string{"kubelet"}},
		"a child that is not stored":  {func(_ *Facts, w *Writes) { w.Failed = failure(desired.ConfigSecret.Child) }, v1alpha1.ReasonChildFailed, false, 0, []string{"cannot store Secret"}},
		"a child that is not deleted": {func(_ *Facts, w *Writes) { w.Undeleted = failure(desired.Deployment.Child) }, v1alpha1.ReasonChildFailed, false, 0, []string{"does not delete"}},
		"a child that is overwritten": {func(_ *Facts, w *Writes) {
			w.Overwritten, w.NextWrite = failure(desired.Deployment.Child), time.Minute
		}, v1alpha1.ReasonChildOverwritten, false, time.Minute, []string{"--show-managed-fields"}},
		"a ScaledObject of old":      {func(_ *Facts, w *Writes) { w.Undeleted = failure(desired.ScaledObject.Child) }, v1alpha1.ReasonChildFailed, false, 0, []string{"ScaledObject"}},
		"an Ingress is another room": {func(_ *Facts, w *Writes) { w.Failed = failure(desired.Ingress.Child) }, v1alpha1.ReasonServing, true, 0, nil},
	})
}

func TestExposed(t *testing.T) {
	t.Parallel()
	ingress := func(f *Facts) *networkingv1.Ingress { return desired.Ingress.In(f.Children) }
	pending := func(f *Facts) { ingress(f).Status = networkingv1.IngressStatus{} }
	waiting := func(f *Facts, d time.Duration) { since(f, v1alpha1.ConditionExposed, metav1.ConditionFalse, d) }
	tls := func(f *Facts) { f.Webhook.Spec.Exposure.Ingress = &v1alpha1.IngressExposure{TLSSecretName: "tls"} }
	rival := func(name string) func(*Facts, *Writes) {
		return func(f *Facts, _ *Writes) {
			f.Webhook.Spec.Exposure.Path = "/hooks"
			f.Rival = &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: name}, Spec: v1alpha1.HeymarketWebhookSpec{Exposure: v1alpha1.Exposure{Path: "/hooks"}}}
		}
	}
	check(t, Exposed, map[string]outcome{
		"good":          {reason: v1alpha1.ReasonAdmitted, ok: true},
		"not requested": {func(f *Facts, _ *Writes) { f.Webhook.Spec.Exposure.Type = v1alpha1.ExposureNone }, v1alpha1.ReasonNotRequested, true, 0, []string{`Service "support-receiver"`}},
		"a rival":       {rival("first"), v1alpha1.ReasonHostConflict, false, 0, []string{`"first" in namespace "other" is older`, "hooks.example.com/hooks/"}},
		"a rival with its own path": {func(f *Facts, w *Writes) {
			rival("first")(f, w)
			f.Rival.Spec.Exposure.Path = ""
		}, v1alpha1.ReasonHostConflict, false, 0, []string{"has its name in the path"}},
		"a foreign namespace": {func(f *Facts, _ *Writes) { f.ForeignNamespace = "other" }, v1alpha1.ReasonPathNotAllowed, false, 0, []string{"begin it with /staging/support"}},
		"not accepted": {func(f *Facts, w *Writes) {
			clear(f.Children)
			w.Rejected = failure(desired.Deployment.Child)
		}, v1alpha1.ReasonNotExposed, false, 0, []string{"not accepted"}},
		"not stored so far": {func(f *Facts, w *Writes) {
			clear(f.Children)
			w.Failed = failure(desired.Deployment.Child)
		}, v1alpha1.ReasonNotExposed, false, 0, []string{"an earlier child"}},
		"just created": {func(f *Facts, _ *Writes) { clear(f.Children) }, v1alpha1.ReasonAddressPending, false, 5 * time.Minute, nil},
		"no address":   {func(f *Facts, _ *Writes) { pending(f) }, v1alpha1.ReasonAddressPending, false, 5 * time.Minute, []string{"default IngressClass"}},
		"no address for a while": {func(f *Facts, _ *Writes) {
			pending(f)
			waiting(f, time.Minute)
			f.Input.IngressClass = "traefik"
		}, v1alpha1.ReasonAddressPending, false, 4 * time.Minute, []string{`"traefik" of the operator's --ingress-class`}},
		"no address for long": {func(f *Facts, _ *Writes) {
			pending(f)
			waiting(f, time.Hour)
			ingress(f).Spec.IngressClassName = new("nginx")
			f.Webhook.Spec.Exposure.Ingress = &v1alpha1.IngressExposure{ClassName: "nginx"}
		}, v1alpha1.ReasonAddressMissing, false, 0, []string{`"nginx" of spec.exposure.ingress.className`}},
		"no class for long": {func(f *Facts, _ *Writes) {
			pending(f)
			waiting(f, time.Hour)
		}, v1alpha1.ReasonAddressMissing, false, 0, []string{"has no IngressClass"}},
		"a new Ingress after long": {func(f *Facts, _ *Writes) {
			pending(f)
			waiting(f, time.Hour)
			ingress(f).CreationTimestamp = metav1.NewTime(noon.Add(-time.Minute))
		}, v1alpha1.ReasonAddressPending, false, 4 * time.Minute, nil},
		"no certificate": {func(f *Facts, _ *Writes) { tls(f) }, v1alpha1.ReasonCertificatePending, false, 5 * time.Minute, []string{"does not exist in namespace"}},
		"no certificate for long": {func(f *Facts, _ *Writes) {
			tls(f)
			waiting(f, time.Hour)
		}, v1alpha1.ReasonCertificateMissing, false, 0, nil},
		"half a certificate": {func(f *Facts, _ *Writes) {
			tls(f)
			f.Certificate = &corev1.Secret{Data: map[string][]byte{"tls.crt": []byte("x")}}
		}, v1alpha1.ReasonCertificatePending, false, 5 * time.Minute, []string{`"tls.key"`}},
		"a certificate": {func(f *Facts, _ *Writes) {
			tls(f)
			f.Certificate = &corev1.Secret{Data: map[string][]byte{"tls.crt": []byte("x"), "tls.key": []byte("x")}}
		}, v1alpha1.ReasonAdmitted, true, 0, nil},
		"an Ingress that is not stored": {func(_ *Facts, w *Writes) { w.Failed = failure(desired.Ingress.Child) }, v1alpha1.ReasonChildFailed, false, 0, []string{"exceeded quota"}},
		"a route that is not deleted": {func(f *Facts, w *Writes) {
			f.Webhook.Spec.Exposure.Type = v1alpha1.ExposureNone
			w.Undeleted = failure(desired.HTTPRoute.Child)
		}, v1alpha1.ReasonChildFailed, false, 0, nil},
	})
}

// route is an HTTPRoute with the conditions that a Gateway has set, each Type=Status, and the name of the Gateway.
func route(gateway string, conditions ...string) func(*Facts, *Writes) {
	return func(f *Facts, _ *Writes) {
		var list []any
		for _, c := range conditions {
			name, status, _ := strings.Cut(c, "=")
			list = append(list, map[string]any{"type": name, "status": status, "reason": "Because", "message": "of this"})
		}
		f.Webhook.Spec.Exposure.Type = v1alpha1.ExposureHTTPRoute
		f.Input.Gateways = []v1alpha1.GatewayReference{{Namespace: "traefik", Name: "public"}}
		f.Children[desired.HTTPRoute.Child] = &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"name": "support-receiver"},
			"status": map[string]any{"parents": []any{map[string]any{
				"parentRef": map[string]any{"name": gateway, "namespace": "traefik"}, "conditions": list,
			}}},
		}}
	}
}

func TestExposedByAnHTTPRoute(t *testing.T) {
	t.Parallel()
	changed := func(change func(*Facts, *Writes)) func(*Facts, *Writes) {
		return func(f *Facts, w *Writes) {
			route("public", "Accepted=True", "ResolvedRefs=True")(f, w)
			change(f, w)
		}
	}
	check(t, Exposed, map[string]outcome{
		"accepted":       {changed(func(*Facts, *Writes) {}), v1alpha1.ReasonAdmitted, true, 0, nil},
		"no Gateway API": {changed(func(f *Facts, _ *Writes) { f.NoGatewayAPI = true }), v1alpha1.ReasonGatewayAPIMissing, false, 0, nil},
		"no Gateway":     {changed(func(f *Facts, _ *Writes) { f.Input.Gateways = nil }), v1alpha1.ReasonGatewayUnknown, false, 0, []string{"--gateway"}},
		"no host":        {changed(func(f *Facts, _ *Writes) { f.Input.HostRequested = false }), v1alpha1.ReasonHostUnknown, false, 0, []string{"--host-template"}},
		"not accepted": {changed(func(f *Facts, w *Writes) {
			clear(f.Children)
			w.Rejected = failure(desired.Deployment.Child)
		}), v1alpha1.ReasonNotExposed, false, 0, nil},
		"Gateway deleted": {
			changed(func(f *Facts, _ *Writes) {
				f.MissingGateways = []types.NamespacedName{{Namespace: "traefik", Name: "public"}}
			}),
			v1alpha1.ReasonGatewayMissing, false, 0,
			[]string{`"public" of the operator's --gateway does not exist in namespace "traefik"`, "kubectl get gateway -n traefik"},
		},
		"never created": {func(f *Facts, w *Writes) {
			route("private")(f, w)
			f.Webhook.Spec.Exposure.HTTPRoute = &v1alpha1.HTTPRouteExposure{ParentRefs: []v1alpha1.GatewayReference{{Name: "public"}}}
			f.MissingGateways = []types.NamespacedName{{Namespace: f.Webhook.Namespace, Name: "public"}}
		}, v1alpha1.ReasonGatewayMissing, false, 0, []string{"spec.exposure.httpRoute.parentRefs"}},
		"missing in another namespace": {
			changed(func(f *Facts, _ *Writes) {
				f.MissingGateways = []types.NamespacedName{{Namespace: "other", Name: "public"}}
			}),
			v1alpha1.ReasonAdmitted, true, 0, nil,
		},
		"just created":       {changed(func(f *Facts, _ *Writes) { clear(f.Children) }), v1alpha1.ReasonRoutePending, false, 5 * time.Minute, nil},
		"of another Gateway": {route("private", "Accepted=True", "ResolvedRefs=True"), v1alpha1.ReasonRoutePending, false, 5 * time.Minute, []string{"kubectl get gateway -n traefik"}},
		"half accepted":      {route("public", "Accepted=True"), v1alpha1.ReasonRoutePending, false, 5 * time.Minute, nil},
		"rejected":           {route("public", "Accepted=False"), v1alpha1.ReasonRouteRefused, false, 0, []string{"of the operator's --gateway rejects", "(Because): of this"}},
		"rejected by a Gateway of the spec": {func(f *Facts, w *Writes) {
			route("public", "Accepted=False")(f, w)
			f.Webhook.Spec.Exposure.HTTPRoute = &v1alpha1.HTTPRouteExposure{ParentRefs: f.Input.Gateways}
		}, v1alpha1.ReasonRouteRefused, false, 0, []string{"of spec.exposure.httpRoute.parentRefs rejects"}},
		"the other half accepted": {route("public", "ResolvedRefs=True"), v1alpha1.ReasonRoutePending, false, 5 * time.Minute, nil},
		"not known":               {route("public", "Accepted=Unknown", "ResolvedRefs=True"), v1alpha1.ReasonRoutePending, false, 5 * time.Minute, nil},
		"of a Gateway in another namespace": {changed(func(f *Facts, _ *Writes) {
			parentRef(f)["namespace"] = "other"
		}), v1alpha1.ReasonRoutePending, false, 5 * time.Minute, nil},
		"of a listener": {changed(func(f *Facts, _ *Writes) {
			f.Input.Gateways[0].SectionName, parentRef(f)["sectionName"] = "https", "https"
		}), v1alpha1.ReasonAdmitted, true, 0, nil},
		"of another listener": {changed(func(f *Facts, _ *Writes) {
			f.Input.Gateways[0].SectionName, parentRef(f)["sectionName"] = "https", "http"
		}), v1alpha1.ReasonRoutePending, false, 5 * time.Minute, nil},
		"without its Service": {route("public", "Accepted=True", "ResolvedRefs=False"), v1alpha1.ReasonRouteRefused, false, 0, nil},
		"ignored": {func(f *Facts, w *Writes) {
			route("private")(f, w)
			since(f, v1alpha1.ConditionExposed, metav1.ConditionFalse, time.Hour)
		}, v1alpha1.ReasonRouteIgnored, false, 0, nil},
		"out of date": {changed(func(f *Facts, _ *Writes) { observed(f, 1) }), v1alpha1.ReasonRoutePending, false, 5 * time.Minute, nil},
		"up to date":  {changed(func(f *Facts, _ *Writes) { observed(f, 2) }), v1alpha1.ReasonAdmitted, true, 0, nil},
	})
}

// parentOf is what the status of the HTTPRoute says of a Gateway.
func parentOf(f *Facts) map[string]any {
	return desired.HTTPRoute.In(f.Children).Object["status"].(map[string]any)["parents"].([]any)[0].(map[string]any)
}

func parentRef(f *Facts) map[string]any { return parentOf(f)["parentRef"].(map[string]any) }

// observed makes the HTTPRoute one of generation 2, of which a Gateway has seen another one.
func observed(f *Facts, generation int64) {
	desired.HTTPRoute.In(f.Children).SetGeneration(2)
	for _, c := range parentOf(f)["conditions"].([]any) {
		c.(map[string]any)["observedGeneration"] = generation
	}
}

func TestDurable(t *testing.T) {
	t.Parallel()
	reports := func(r ...contract.Status) func(*Facts, *Writes) {
		return func(f *Facts, _ *Writes) { f.Reports = r }
	}
	fine := contract.Status{Redis: contract.RedisOK, Durable: true}
	letters := func(crm, erp int64) func(*Facts, *Writes) {
		return func(f *Facts, w *Writes) {
			f.Webhook.Spec.Targets = append(f.Webhook.Spec.Targets, v1alpha1.Target{Name: "erp"})
			f.Webhook.Spec.Retention.DeadLetterLimit = new(int64(10))
			full := fine
			full.Targets = []contract.TargetStatus{{Name: "crm", DeadLetters: crm}, {Name: "erp", DeadLetters: erp}}
			reports(fine, full)(f, w)
		}
	}
	check(t, Durable, map[string]outcome{
		"good":                     {reason: v1alpha1.ReasonDurable, ok: true},
		"evicts":                   {reports(fine, contract.Status{Redis: contract.RedisOK, Problems: []contract.Problem{contract.RedisEvicts}}), v1alpha1.ReasonNotDurable, false, 0, []string{contract.RedisEvicts.Message()}},
		"away":                     {reports(contract.Status{Redis: "x", Problems: []contract.Problem{contract.RedisUnreachable}}), v1alpha1.ReasonRedisUnreachable, false, 0, []string{"log of the receiver"}},
		"away, and durable before": {reports(contract.Status{Redis: "x", Durable: true}), v1alpha1.ReasonRedisUnreachable, false, 0, nil},
		"not judged yet":           {reports(contract.Status{Redis: contract.RedisOK}), v1alpha1.ReasonDurabilityUnknown, false, 3 * time.Second, nil},
		"no word":                  {reports(contract.Status{Redis: "x"}), v1alpha1.ReasonRedisUnreachable, false, 0, nil},
		// What a Pod writes reaches no message.
		"sentences":        {reports(contract.Status{Redis: "\x1b[31mred", DurabilityProblems: []string{"\x1b[31mred"}}), v1alpha1.ReasonNotDurable, false, 0, []string{"another version"}},
		"an unknown code":  {reports(contract.Status{Redis: "red", Problems: []contract.Problem{"red"}}), v1alpha1.ReasonNotDurable, false, 0, []string{"another version"}},
		"text beside code": {reports(contract.Status{Redis: "red", Problems: []contract.Problem{contract.RedisFull}, DurabilityProblems: []string{"red"}}), v1alpha1.ReasonNotDurable, false, 0, nil},
		"connecting":       {reports(contract.Status{Redis: contract.RedisConnecting}), v1alpha1.ReasonDurabilityUnknown, false, 3 * time.Second, nil},
		"connecting for long": {func(f *Facts, w *Writes) {
			reports(contract.Status{Redis: contract.RedisConnecting})(f, w)
			since(f, v1alpha1.ConditionAvailable, metav1.ConditionTrue, time.Hour)
		}, v1alpha1.ReasonDurabilityUnknown, false, 30 * time.Second, nil},
		"no Pods yet": {func(f *Facts, _ *Writes) { f.Ready, f.Reports = nil, nil }, v1alpha1.ReasonDurabilityUnknown, false, 0, nil},
		"no receiver": {func(f *Facts, w *Writes) {
			f.Ready, f.Reports, f.Children = nil, nil, nil
			w.Rejected = failure(desired.Deployment.Child)
		}, v1alpha1.ReasonNotDeployed, false, 0, []string{"not accepted"}},
		"no more bytes":   {reports(fine, contract.Status{Redis: contract.RedisOK, Durable: true, BacklogFull: true}), v1alpha1.ReasonBacklogFull, false, 0, []string{"--max-backlog-bytes"}},
		"below the limit": {letters(9, 0), v1alpha1.ReasonDurable, true, 0, nil},
		"at the limit":    {letters(10, 9), v1alpha1.ReasonDeadLettersFull, false, 0, []string{"deadLetterLimit: crm."}},
		"above the limit": {letters(11, 9), v1alpha1.ReasonDeadLettersFull, false, 0, []string{"deadLetterLimit: crm."}},
	})
}

func TestScaled(t *testing.T) {
	t.Parallel()
	by := func(conditions ...any) func(*Facts, *Writes) {
		return func(f *Facts, _ *Writes) {
			f.Webhook.Spec.Receiver.Autoscaling = &v1alpha1.Autoscaling{BacklogPerReplica: new(int32(10))}
			f.Input.KEDA = true
			f.Children[desired.ScaledObject.Child] = &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": conditions}}}
		}
	}
	ready := func(status string) any {
		return map[string]any{"type": "Ready", "status": status, "reason": "Because", "message": "of this"}
	}
	check(t, Scaled, map[string]outcome{
		"not asked for": {},
		"good":          {by(ready("True")), v1alpha1.ReasonScaling, true, 5 * time.Minute, nil},
		"rejected":      {by(ready("False")), v1alpha1.ReasonScaledObjectRefused, false, 30 * time.Second, []string{"(Because): of this"}},
		"silent":        {by(), v1alpha1.ReasonScaledObjectPending, false, 30 * time.Second, []string{"kubectl describe scaledobject support-receiver"}},
		"no KEDA": {func(f *Facts, w *Writes) {
			by()(f, w)
			f.Input.KEDA = false
		}, v1alpha1.ReasonKEDAMissing, false, 0, []string{"minReplicas"}},
		"no KEDA, CPU": {func(f *Facts, w *Writes) {
			by()(f, w)
			f.Input.KEDA, f.Webhook.Spec.Receiver.Autoscaling.TargetCPUUtilization = false, new(int32(80))
		}, v1alpha1.ReasonKEDAMissing, false, 0, []string{"HorizontalPodAutoscaler"}},
		"not accepted": {func(f *Facts, w *Writes) {
			by()(f, w)
			clear(f.Children)
			w.Rejected = failure(desired.Deployment.Child)
		}, v1alpha1.ReasonNotDeployed, false, 30 * time.Second, nil},
		"no longer accepted": {func(f *Facts, w *Writes) {
			by(ready("True"))(f, w)
			w.Rejected = failure(desired.Deployment.Child)
		}, v1alpha1.ReasonScaling, true, 5 * time.Minute, nil},
		"not stored": {func(f *Facts, w *Writes) {
			by(ready("True"))(f, w)
			w.Failed = failure(desired.ScaledObject.Child)
		}, v1alpha1.ReasonChildFailed, false, 0, nil},
	})
}

func TestReachable(t *testing.T) {
	t.Parallel()
	found := func(outcome reach.Outcome) func(*Facts, *Writes) {
		return func(f *Facts, _ *Writes) {
			f.Probes, f.Probe = true, &reach.Result{Outcome: outcome, Blocked: "loopback"}
		}
	}
	left := func(whole, left time.Duration) func(*Facts, *Writes) {
		return func(f *Facts, _ *Writes) {
			f.Probes, f.Probe = true, &reach.Result{Outcome: reach.Reached, Issuer: "Let's Encrypt", NotBefore: noon.Add(left - whole), NotAfter: noon.Add(left)}
		}
	}
	const day = 24 * time.Hour
	check(t, Reachable, map[string]outcome{
		"not asked for": {change: func(f *Facts, _ *Writes) { f.Probe = &reach.Result{Outcome: reach.Reached} }},
		"no result yet": {change: func(f *Facts, _ *Writes) { f.Probes = true }},
		"no result yet, and the status has one": {
			func(f *Facts, _ *Writes) {
				f.Probes = true
				f.Webhook.Status.Host = f.Input.Host
				since(f, v1alpha1.ConditionReachable, metav1.ConditionFalse, time.Hour)
			}, "Before", false, 0, nil,
		},
		"another host than that of the status": {change: func(f *Facts, _ *Writes) {
			f.Probes = true
			f.Webhook.Status.Host = "other.example.com"
			since(f, v1alpha1.ConditionReachable, metav1.ConditionFalse, time.Hour)
		}},
		"no URL to ask":     {change: found(reach.NotAsked)},
		"no name":           {found(reach.NoName), v1alpha1.ReasonNameNotResolved, false, 0, []string{"finds no address", "DNS", "create a record"}},
		"a blocked address": {found(reach.Blocked), v1alpha1.ReasonAddressBlocked, false, 0, []string{"loopback address", "--target-addresses"}},
		"no connection":     {found(reach.NoConnection), v1alpha1.ReasonNotConnected, false, 0, []string{"port 443", "their own public address", "from outside the cluster"}},
		"no connection in IPv6": {
			func(f *Facts, _ *Writes) {
				f.Input.Host, f.Probes, f.Probe = "2001:db8::10", true, &reach.Result{Outcome: reach.NoConnection}
			}, v1alpha1.ReasonNotConnected, false, 0, []string{"curl -I https://[2001:db8::10] from"},
		},
		"no TLS":                {found(reach.NoTLS), v1alpha1.ReasonCertificateInvalid, false, 0, []string{"TLS handshake"}},
		"expired":               {found(reach.CertificateExpired), v1alpha1.ReasonCertificateInvalid, false, 0, []string{"has expired", "renew it"}},
		"for another name":      {found(reach.CertificateOfOther), v1alpha1.ReasonCertificateInvalid, false, 0, []string{"for other names", "tlsSecretName"}},
		"the controller's own":  {found(reach.CertificateOfController), v1alpha1.ReasonCertificateInvalid, false, 0, []string{"default certificate", "tlsSecretName"}},
		"untrusted":             {found(reach.CertificateUntrusted), v1alpha1.ReasonCertificateInvalid, false, 0, []string{"public authority", "intermediate"}},
		"no answer":             {found(reach.NoAnswer), v1alpha1.ReasonReceiverNotAnswering, false, 0, []string{"no answer came"}},
		"no receiver":           {found(reach.NoReceiver), v1alpha1.ReasonReceiverNotAnswering, false, 0, []string{"port 8080"}},
		"a redirect":            {found(reach.Redirected), v1alpha1.ReasonRouteElsewhere, false, 0, []string{"follows no redirect"}},
		"a login":               {found(reach.Denied), v1alpha1.ReasonRouteElsewhere, false, 0, []string{"login", "exempt"}},
		"someone else":          {found(reach.AnsweredByOther), v1alpha1.ReasonRouteElsewhere, false, 0, []string{"not the receiver of this webhook", "DNS record"}},
		"reached":               {left(90*day, 60*day), v1alpha1.ReasonReachable, true, 0, nil},
		"a fortnight and a day": {left(90*day, 15*day), v1alpha1.ReasonReachable, true, 0, nil},
		"a fortnight":           {left(90*day, 14*day), v1alpha1.ReasonCertificateEnding, true, 0, []string{"Let's Encrypt", noon.Add(14 * day).Format(time.DateOnly), "kubectl describe certificate"}},
		"two of six days":       {left(6*day, 2*day), v1alpha1.ReasonReachable, true, 0, nil},
		"the last day of six":   {left(6*day, day), v1alpha1.ReasonCertificateEnding, true, 0, nil},
	})
}

// A public probe does not reflect the state of the cluster, so Ready does not depend on it.
func TestReachableDoesNotCountForReady(t *testing.T) {
	t.Parallel()
	f := good()
	f.Probes, f.Probe = true, &reach.Result{Outcome: reach.AnsweredByOther}
	var status v1alpha1.HeymarketWebhookStatus
	SetAll(&status, f, Writes{})
	if meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReachable) || !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("conditions %+v", status.Conditions)
	}
	before := status.DeepCopy()
	f.Probe = &reach.Result{Outcome: reach.Reached, NotBefore: noon.Add(-89 * 24 * time.Hour), NotAfter: noon.Add(24 * time.Hour)}
	SetAll(&status, f, Writes{})
	if events := Events(before, &status); len(events) != 1 || events[0].Type != corev1.EventTypeWarning || events[0].Reason != v1alpha1.ReasonCertificateEnding {
		t.Errorf("events of a certificate that ends: %+v", events)
	}
	before = status.DeepCopy()
	f.Probe = &reach.Result{Outcome: reach.Reached, NotBefore: noon, NotAfter: noon.Add(90 * 24 * time.Hour)}
	SetAll(&status, f, Writes{})
	if events := Events(before, &status); len(events) != 1 || events[0].Type != corev1.EventTypeNormal || events[0].Reason != v1alpha1.ReasonReachable {
		t.Errorf("events of a certificate that was renewed: %+v", events)
	}
}

func TestReadyNamesTheFirstConditionThatIsFalse(t *testing.T) {
	t.Parallel()
	status := &v1alpha1.HeymarketWebhookStatus{}
	f := good()
	if again := SetAll(status, f, Writes{}); again != 0 {
		t.Errorf("looks again in %s", again)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); c.Status != metav1.ConditionTrue {
		t.Errorf("Ready is %+v", c)
	}
	f.Ready[0], f.Children[desired.Ingress.Child] = nil, nil
	if again := SetAll(status, f, Writes{}); again != 3*time.Second {
		t.Errorf("looks again in %s, want 3s, the soonest of all", again)
	}
	c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	if c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonStatusUnreachable || !strings.HasPrefix(c.Message, "Not Available: A ready Pod") {
		t.Errorf("Ready is %+v", c)
	}
}

// Each alarming reason emits an event, and so does the condition when it is True again.
func TestEvents(t *testing.T) {
	t.Parallel()
	with := func(name string, ok bool, reason string) *v1alpha1.HeymarketWebhookStatus {
		s := &v1alpha1.HeymarketWebhookStatus{}
		Set(s, name, Condition{OK: ok, Reason: reason, Message: "M."})
		return s
	}
	none := &v1alpha1.HeymarketWebhookStatus{}
	exposed := v1alpha1.ConditionExposed
	for name, tc := range map[string]struct {
		before, after *v1alpha1.HeymarketWebhookStatus
		want          []Event
	}{
		"a new resource that is good":       {none, with(exposed, true, v1alpha1.ReasonAdmitted), nil},
		"pending":                           {none, with(exposed, false, v1alpha1.ReasonAddressPending), nil},
		"missing":                           {with(exposed, false, v1alpha1.ReasonAddressPending), with(exposed, false, v1alpha1.ReasonAddressMissing), []Event{{"Warning", v1alpha1.ReasonAddressMissing, "Expose", "M."}}},
		"the same":                          {with(exposed, false, v1alpha1.ReasonAddressMissing), with(exposed, false, v1alpha1.ReasonAddressMissing), nil},
		"another reason":                    {with(exposed, false, v1alpha1.ReasonAddressMissing), with(exposed, false, v1alpha1.ReasonHostConflict), []Event{{"Warning", v1alpha1.ReasonHostConflict, "Expose", "M."}}},
		"good again":                        {with(exposed, false, v1alpha1.ReasonAddressMissing), with(exposed, true, v1alpha1.ReasonAdmitted), []Event{{"Normal", v1alpha1.ReasonAdmitted, "Expose", "M."}}},
		"good after pending":                {with(exposed, false, v1alpha1.ReasonAddressPending), with(exposed, true, v1alpha1.ReasonAdmitted), nil},
		"rolling":                           {none, with(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonRolloutInProgress), nil},
		"stuck":                             {none, with(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonRolloutStuck), []Event{{"Warning", v1alpha1.ReasonRolloutStuck, "RollOut", "M."}}},
		"a mistake":                         {none, with(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonTokenEmpty), []Event{{"Warning", v1alpha1.ReasonTokenEmpty, "Check", "M."}}},
		"Redis without an append-only file": {none, with(v1alpha1.ConditionDurable, false, v1alpha1.ReasonNotDurable), []Event{{"Warning", v1alpha1.ReasonNotDurable, "Store", "M."}}},
		"Redis not asked yet":               {none, with(v1alpha1.ConditionDurable, false, v1alpha1.ReasonDurabilityUnknown), nil},
		"no KEDA":                           {none, with(v1alpha1.ConditionScaled, false, v1alpha1.ReasonKEDAMissing), []Event{{"Warning", v1alpha1.ReasonKEDAMissing, "Scale", "M."}}},
		"KEDA silent":                       {none, with(v1alpha1.ConditionScaled, false, v1alpha1.ReasonScaledObjectPending), nil},
	} {
		if got := Events(tc.before, tc.after); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// Remedies are named only if they help, and a problem of several Pods is listed once.
func TestNothingNeedlessIsReported(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change   func(*Facts, *Writes)
		of       func(Facts, Writes) *Condition
		needless string
		most     int // times
	}{
		"autoscaling without replicas": {func(f *Facts, _ *Writes) { f.Webhook.Spec.Receiver.Autoscaling = &v1alpha1.Autoscaling{} }, Accepted, "no effect", 0},
		"replicas without autoscaling": {func(f *Facts, _ *Writes) { f.Webhook.Spec.Receiver.Replicas = new(int32(3)) }, Accepted, "no effect", 0},
		"a quota":                      {func(_ *Facts, w *Writes) { w.Rejected = failure(desired.Deployment.Child) }, Accepted, "openshift", 0},
		"a problem of two Pods": {func(f *Facts, _ *Writes) {
			f.Reports = []contract.Status{
				{Problems: []contract.Problem{contract.RedisForgets}}, {Problems: []contract.Problem{contract.RedisEvicts}}, {Problems: []contract.Problem{contract.RedisForgets}},
			}
		}, Durable, contract.RedisForgets.Message(), 1},
	} {
		f, w := good(), Writes{}
		tc.change(&f, &w)
		if c := tc.of(f, w); strings.Count(c.Message, tc.needless) != tc.most {
			t.Errorf("%s: the message is %q, want %q in it %d times", name, c.Message, tc.needless, tc.most)
		}
	}
}

// Text from elsewhere may have any length, but a status may not.
func TestLongTextsAreCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	for name, tc := range map[string]struct {
		of     func(Facts, Writes) *Condition
		change func(*Facts)
	}{
		"a Deployment's": {Available, func(f *Facts) {
			desired.Deployment.In(f.Children).Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: long}}
		}},
		"a Gateway's": {Exposed, func(f *Facts) {
			route("public", "Accepted=False")(f, nil)
			parentOf(f)["conditions"].([]any)[0].(map[string]any)["message"] = long
		}},
		"KEDA's": {Scaled, func(f *Facts) {
			f.Webhook.Spec.Receiver.Autoscaling, f.Input.KEDA = &v1alpha1.Autoscaling{BacklogPerReplica: new(int32(10))}, true
			f.Children[desired.ScaledObject.Child] = &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": []any{
				map[string]any{"type": "Ready", "status": "False", "message": long},
			}}}}
		}},
		"Redis'": {Accepted, func(f *Facts) { f.NoRedisUser, f.RedisRefusal = true, long }},
	} {
		f := good()
		tc.change(&f)
		f.Mistake = Check(f)
		if c := tc.of(f, Writes{}); !strings.Contains(c.Message, "xxx") || len(c.Message) > 2000 {
			t.Errorf("%s: a message of %d bytes: %.100s", name, len(c.Message), c.Message)
		}
	}
	if exact := long[:1024]; Bounded(exact) != exact || Bounded(exact+"x") != exact+"…" {
		t.Error("a text is not cut at 1,024 bytes")
	}
}

// A condition that no longer applies is removed from the status, and the operator removes only its own.
func TestConditionsOfTheOperator(t *testing.T) {
	t.Parallel()
	var status v1alpha1.HeymarketWebhookStatus
	Set(&status, v1alpha1.ConditionScaled, Condition{OK: true, Reason: v1alpha1.ReasonScaling})
	SetAll(&status, good(), Writes{})
	if meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionScaled) != nil {
		t.Error("a resource that is not scaled has the condition Scaled")
	}
	for _, c := range append(status.Conditions, metav1.Condition{Type: v1alpha1.ConditionScaled}) {
		if !Known(c.Type) {
			t.Errorf("%s is not known", c.Type)
		}
	}
	if Known("Other") {
		t.Error("any condition is known")
	}
	if rival, foreign := (Facts{Rival: good().Webhook}), (Facts{ForeignNamespace: "other"}); !rival.Conflicts() || !foreign.Conflicts() || good().Conflicts() {
		t.Error("a conflict is a rival or a foreign namespace")
	}
}
