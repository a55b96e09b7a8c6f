package controller

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// firstWrites are its children and one status.
var firstWrites = []string{
	"PATCH secrets/support-url",
	"PATCH secrets/support-receiver",
	"PATCH services/support-receiver",
	"PATCH deployments/support-receiver",
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

// The whole spec survives the API server's defaults and normal forms without a second write.
func TestLargeSpecIsQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"other": canary})
	w.webhook(`
token: {secretKeyRef: {name: heymarket, key: other}}
webhookID: 9007199254740993
eventTypes: [chat_closed, message_sent]
targets:
- {name: crm, url: 'https://crm.example.com/in', eventTypes: [chat_closed], timeout: 30s, retry: {maxAttempts: 3, minBackoff: 1500ms}}
- {name: svc, service: {name: archive, port: 8443, path: /e, scheme: HTTPS}}
deduplication: {window: 1h}
exposure:
  host: hooks.example.com
  ingress: {className: traefik, tlsSecretName: tls, annotations: {cert-manager.io/cluster-issuer: le, empty: ''}}
receiver: {replicas: 3, resources: {requests: {cpu: 0.5, memory: 0.1Gi}, limits: {memory: '268435456', cpu: '1'}}}
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
				change(w, w.service(), func(s *corev1.Service) { delete(s.Labels, desired.LabelManagedBy) })
			},
			"PATCH services/support-receiver",
			func(w *world) bool { return w.service().Labels[desired.LabelManagedBy] == desired.ManagedByValue },
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
			if got := w.writes.take(); !slices.Equal(got, []string{tc.write}) {
				t.Errorf("writes: %v, want %s", got, tc.write)
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
		d.Annotations = map[string]string{"example.com/note": "mine"}
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

func TestDeletedChildrenComeBack(t *testing.T) {
	t.Parallel()
	for name, child := range map[string]func(*world) client.Object{
		"URL Secret":           func(w *world) client.Object { return w.urlSecret() },
		"configuration Secret": func(w *world) client.Object { return w.configSecret() },
		"Service":              func(w *world) client.Object { return w.service() },
		"Deployment":           func(w *world) client.Object { return w.deployment() },
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

func TestForeignChildIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, foreign := range map[string]client.Object{
		"Service": &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 9}}}},
		"Secret":  &corev1.Secret{Data: map[string][]byte{"segment": []byte(strings.Repeat("a", 26))}},
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
			if res.RequeueAfter != lookAgain {
				t.Errorf("looks again in %s: no watch tells when the name is free", res.RequeueAfter)
			}
			w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildNameTaken, name+` "support-receiver"`, "delete or rename it")
			if got, want := w.exist(), name+" support-receiver"; got != want {
				t.Errorf("children: %s, want %s", got, want)
			}
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
		})
	}
}

func TestRefusedChildNamesTheCause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + "receiver: {resources: {requests: {memory: 1Gi}, limits: {memory: 64Mi}}}")
	_, err := w.tryReconcile()
	if !errors.Is(err, reconcile.TerminalError(nil)) {
		t.Errorf("error %v, want a terminal one: trying again is in vain", err)
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

func TestDeletionNeedsNoFinalizer(t *testing.T) {
	t.Parallel()
	w := settled(t)
	hook := w.hook()
	if len(hook.Finalizers) != 0 {
		t.Errorf("finalizers: %v", hook.Finalizers)
	}
	for _, child := range []client.Object{w.urlSecret(), w.configSecret(), w.service(), w.deployment(), w.ingress()} {
		if refs := child.GetOwnerReferences(); len(refs) != 1 || !metav1.IsControlledBy(child, hook) {
			t.Errorf("%T %s has owners %v, so the garbage collector would leave it", child, child.GetName(), refs)
		}
	}
	// Deletion with a finalizer of somebody else: the operator lets the children go.
	change(w, hook, func(h *v1alpha1.HeymarketWebhook) { h.Finalizers = []string{"example.com/wait"} })
	w.do(w.person.Delete(t.Context(), hook))
	w.do(w.person.Delete(t.Context(), w.service()))
	w.quiet()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Finalizers = nil })
	w.quiet() // It is gone.
}

// A resource that was deleted and made anew does not take over what the garbage collector is about to remove.
func TestChildrenOfAnEarlierResource(t *testing.T) {
	t.Parallel()
	w := settled(t)
	w.do(w.person.Delete(t.Context(), w.hook()))
	w.webhook(smallest)
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildNameTaken, "earlier HeymarketWebhook")
	for _, child := range []client.Object{w.urlSecret(), w.configSecret(), w.service(), w.deployment(), w.ingress()} {
		w.do(w.person.Delete(t.Context(), child))
	}
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
}

// The real admission of the restricted Pod Security Standard takes the receiver's Pod.
func TestPodIsRestricted(t *testing.T) {
	t.Parallel()
	w := settled(t)
	template := w.deployment().Spec.Template
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "probe", Labels: template.Labels}, Spec: template.Spec}
	if err := w.person.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Errorf("refused: %v", err)
	}
	pod.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = new(true)
	pod.ResourceVersion = ""
	if err := w.person.Create(t.Context(), pod, client.DryRunAll); err == nil {
		t.Error("the control, a Pod that may escalate, was accepted")
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
