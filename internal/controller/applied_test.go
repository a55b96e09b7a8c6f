package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/source"
)

// mutate lets an admission policy change every object of a resource that is written in the world's namespace, by a CEL
// expression for a patch. It returns once the API server changes a probe.
func (w *world) mutate(group, resource string, patch admissionregistrationv1.PatchType, expression string, probe func() client.Object) {
	w.t.Helper()
	name := fmt.Sprintf("%s-%d", w.namespace, len(expression))
	mutation := admissionregistrationv1.Mutation{PatchType: patch}
	if patch == admissionregistrationv1.PatchTypeApplyConfiguration {
		mutation.ApplyConfiguration = &admissionregistrationv1.ApplyConfiguration{Expression: expression}
	} else {
		mutation.JSONPatch = &admissionregistrationv1.JSONPatch{Expression: expression}
	}
	policy := &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			FailurePolicy:      new(admissionregistrationv1.Fail),
			ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.namespace}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: []string{resource}},
				}}},
			},
			Mutations: []admissionregistrationv1.Mutation{mutation},
		},
	}
	binding := &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name},
	}
	for _, obj := range []client.Object{policy, binding} {
		w.do(w.person.Create(w.t.Context(), obj))
		w.t.Cleanup(func() { _ = w.person.Delete(w.t.Context(), obj) })
	}
	w.eventually("the API server applies the policy", func() bool {
		plain, changed := probe(), probe()
		for _, p := range []client.Object{plain, changed} {
			p.SetNamespace(w.namespace)
			p.SetName("probe")
		}
		plain.SetNamespace("default") // The policy is not about it.
		w.do(w.person.Create(w.t.Context(), plain, client.DryRunAll))
		w.do(w.person.Create(w.t.Context(), changed, client.DryRunAll))
		for _, p := range []client.Object{plain, changed} {
			p.SetNamespace("")
			p.SetUID("")
			p.SetCreationTimestamp(metav1.Time{})
			p.SetManagedFields(nil)
		}
		return !equality.Semantic.DeepEqual(plain, changed)
	})
}

// probeDeployment is one that every policy of these tests would change.
func probeDeployment() client.Object {
	labels := map[string]string{"app": "probe"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationApplied: "probe"}},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "receiver", Image: "probe"}}},
			},
		},
	}
}

// An admission policy may change the operator's writes, in each of the ways that platforms do. The receiver still becomes
// ready, nothing is written at rest, and only replaced Pods count as a rollout.
func TestAdmissionPoliciesThatChangeChildren(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, expression string
		patch            admissionregistrationv1.PatchType
		// restart is how many writes a restart of the operator costs.
		restart int
	}{
		{
			name:  "raise requests",
			patch: admissionregistrationv1.PatchTypeApplyConfiguration,
			expression: `Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
				containers: object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{
					name: c.name,
					resources: Object.spec.template.spec.containers.resources{requests: {"cpu": "50m", "memory": "52Mi", "ephemeral-storage": "10Mi"}}})}}}}`,
		},
		{
			name:  "move the image to a mirror",
			patch: admissionregistrationv1.PatchTypeJSONPatch,
			expression: `[JSONPatch{op: "replace", path: "/spec/template/spec/containers/0/image", value: "mirror.example.com/" +
				object.spec.template.spec.containers[0].image.split("/")[object.spec.template.spec.containers[0].image.split("/").size() - 1]}]`,
		},
		{
			name:  "assign a user, tolerations and limits",
			patch: admissionregistrationv1.PatchTypeJSONPatch,
			expression: `[
				JSONPatch{op: "add", path: "/spec/template/spec/securityContext", value: Object.spec.template.spec.securityContext{runAsUser: 1000660000, fsGroup: 1000660000}},
				JSONPatch{op: "add", path: "/spec/template/spec/tolerations", value: [Object.spec.template.spec.tolerations{key: "spot", operator: "Exists"}]},
				JSONPatch{op: "add", path: "/spec/template/spec/containers/0/resources", value: Object.spec.template.spec.containers.resources{limits: {"cpu": "1", "memory": "1Gi"}}}]`,
		},
		{
			name:       "stamp an annotation",
			patch:      admissionregistrationv1.PatchTypeApplyConfiguration,
			expression: `Object{metadata: Object.metadata{annotations: {"policy.example.com/stamp": string(has(object.metadata.generation) ? object.metadata.generation : 0)}}}`,
		},
		{
			name:  "add a sidecar and a label",
			patch: admissionregistrationv1.PatchTypeApplyConfiguration,
			expression: `Object{metadata: Object.metadata{labels: {"team": "platform"}}, spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
				containers: [Object.spec.template.spec.containers{name: "sidecar", image: "mesh.example.com/proxy:1"}]}}}}`,
		},
		{
			name:       "remove annotations that it does not know",
			patch:      admissionregistrationv1.PatchTypeJSONPatch,
			expression: `has(object.metadata.annotations) ? [JSONPatch{op: "remove", path: "/metadata/annotations"}] : []`,
			restart:    1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.mutate("apps", "deployments", c.patch, c.expression, probeDeployment)
			w.secret("heymarket", map[string]string{"token": canary})
			w.r.Rollouts = source.NewRollouts(1, w.r.Settings.ReceiverImage, client.NewNamespacedClient(w.person, w.namespace))
			w.webhook(smallest)
			w.reconcile()
			w.rollOut(2)
			w.admit("192.0.2.7")
			w.serve("10.1.0.1", "10.1.0.2")
			w.reconcile()
			w.condition(v1alpha1.ConditionReady, true, v1alpha1.ReasonReady)
			for range 3 {
				w.quiet()
			}
			other := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "other-receiver"}}
			if free, err := w.r.Rollouts.Admit(t.Context(), other); err != nil || !free {
				t.Errorf("the only slot for rollouts is taken (%v), want it free", err)
			}
			// The operator is restarted.
			w.r.applied = appliedMemory{}
			w.writes.take()
			w.reconcile()
			if got := w.writes.take(); len(got) > c.restart {
				t.Errorf("a restart wrote %v, want %d writes", got, c.restart)
			}
			w.condition(v1alpha1.ConditionReady, true, v1alpha1.ReasonReady)
			w.quiet()
			// A change of the spec still reaches the child.
			change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.PriorityClassName = "urgent" })
			w.reconcile()
			if got := w.deployment().Spec.Template.Spec.PriorityClassName; got != "urgent" {
				t.Errorf("the priority class is %q", got)
			}
			w.condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonRolloutInProgress)
		})
	}
}

// Changes that a person or another controller makes to the operator's fields are reverted, for every kind of child.
func TestDriftIsUndoneByOwnership(t *testing.T) {
	t.Parallel()
	w := settled(t)
	change(w, w.service(), func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(9) })
	change(w, w.ingress(), func(i *networkingv1.Ingress) { i.Spec.Rules[0].Host = "evil.example.com" })
	change(w, w.deployment(), func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Image = "evil"
		delete(d.Annotations, annotationApplied)
	})
	change(w, w.configSecret(), func(s *corev1.Secret) { s.Data["config.json"] = []byte("{}") })
	w.reconcile()
	if got := w.service().Spec.Ports[0].TargetPort; got == intstr.FromInt32(9) {
		t.Errorf("the port is %v", got)
	}
	if got := w.ingress().Spec.Rules[0].Host; got == "evil.example.com" {
		t.Errorf("the host is %q", got)
	}
	if got := w.deployment().Spec.Template.Spec.Containers[0].Image; got == "evil" {
		t.Errorf("the image is %q", got)
	}
	w.config()
	w.quiet()
}

// Two managers that undo each other's writes do not keep the API server busy, and the condition reports it.
func TestAnotherManagerThatChangesAChildBack(t *testing.T) {
	t.Parallel()
	w := settled(t)
	const rounds = 30
	writes := 0
	for range rounds {
		change(w, w.deployment(), func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "example.com/other" })
		w.writes.take()
		w.reconcile()
		for _, write := range w.writes.take() {
			if strings.Contains(write, "deployments/") {
				writes++
			}
		}
	}
	if writes > rounds/2 {
		t.Errorf("the Deployment was written in %d of %d rounds", writes, rounds)
	}
	w.condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonChildOverwritten, `Deployment "support-receiver"`, "--show-managed-fields")
	if got := w.recorded(); !slices.ContainsFunc(got, func(e string) bool { return strings.Contains(e, v1alpha1.ReasonChildOverwritten) }) {
		t.Errorf("events: %v", got)
	}
	change(w, w.deployment(), func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "example.com/other" })
	if res := w.reconcile(); res.RequeueAfter <= 0 || res.RequeueAfter > lastRepeatDelay {
		t.Errorf("looks again after %v", res.RequeueAfter)
	}
}

func TestRepeatedWritesBackOff(t *testing.T) {
	t.Parallel()
	var m appliedMemory
	at := time.Unix(1_700_000_000, 0)
	answer := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{UID: "u", Annotations: map[string]string{annotationApplied: "d"}}}
	var waits []time.Duration
	for range 12 {
		wait, _ := m.delay("u", "d", at)
		waits = append(waits, wait)
		at = at.Add(wait)
		if err := m.remember(answer, []byte(`{}`), "d", at); err != nil {
			t.Fatal(err)
		}
	}
	want := []time.Duration{0, 0, 0, 0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second, 600 * time.Second, 600 * time.Second}
	if diff := cmp.Diff(want, waits); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
	if wait, repeated := m.delay("u", "another", at); wait != 0 || repeated {
		t.Errorf("another write waits for %v", wait)
	}
	if wait, _ := m.delay("another", "d", at); wait != 0 {
		t.Errorf("another child waits for %v", wait)
	}
	// After a quiet time the same write begins again.
	at = at.Add(2*lastRepeatDelay + time.Second)
	if err := m.remember(answer, []byte(`{}`), "d", at); err != nil {
		t.Fatal(err)
	}
	if wait, repeated := m.delay(types.UID("u"), "d", at); wait != 0 || repeated {
		t.Errorf("after a quiet time it waits for %v", wait)
	}
}

func TestFieldsThatTheOperatorDoesNotOwn(t *testing.T) {
	t.Parallel()
	owned := func(manager, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(fields)}
	}
	const spec = `{"f:spec":{"f:replicas":{},"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:name":{}}},"f:args":{},"f:labels":{"f:a":{}}}}`
	for _, c := range []struct {
		name, asked string
		fields      []metav1.ManagedFieldsEntry
		want        []string
	}{
		{name: "all", asked: `{"apiVersion":"v1","kind":"X","metadata":{"name":"x","namespace":"y"},"spec":{"replicas":1,"ports":[{"port":80,"name":"http"}],"args":["a"],"labels":{"a":"b"}}}`, fields: []metav1.ManagedFieldsEntry{owned(FieldOwner, spec)}},
		{name: "a number of another manager's", asked: `{"spec":{"replicas":1,"paused":true}}`, fields: []metav1.ManagedFieldsEntry{owned(FieldOwner, spec), owned("x", `{"f:spec":{"f:paused":{}}}`)}, want: []string{".spec.paused"}},
		{name: "an item of a list", asked: `{"spec":{"ports":[{"port":81}]}}`, fields: []metav1.ManagedFieldsEntry{owned(FieldOwner, spec)}, want: []string{".spec.ports[0]"}},
		{name: "a field of an item", asked: `{"spec":{"ports":[{"port":80,"targetPort":8080}]}}`, fields: []metav1.ManagedFieldsEntry{owned(FieldOwner, spec)}, want: []string{".spec.ports[0].targetPort"}},
		{name: "a key of a map", asked: `{"spec":{"labels":{"b":"c"}}}`, fields: []metav1.ManagedFieldsEntry{owned(FieldOwner, spec)}, want: []string{".spec.labels.b"}},
		{name: "nothing is owned", asked: `{"spec":{"replicas":1}}`, fields: []metav1.ManagedFieldsEntry{owned("x", spec)}, want: []string{".spec"}},
	} {
		got, err := notOwned(c.fields, []byte(c.asked))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
