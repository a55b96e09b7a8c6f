package controller

import (
	"encoding/json"
	"reflect"
	"runtime"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// A slimmed object has the content that is read, without the fields of others, and shares its strings.
func TestSlim(t *testing.T) {
	t.Parallel()
	word := func(s string) string { return string([]byte(s)) } // a copy of its own
	deployment := func() *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{
				Name: word("support-receiver"), Labels: map[string]string{word("app"): word("receiver")},
				Annotations: map[string]string{annotationAppliedTemplate: "1"},
				OwnerReferences: []metav1.OwnerReference{{
					APIVersion: v1alpha1.GroupVersion.String(), Kind: word("HeymarketWebhook"), Name: "support", UID: "1", Controller: new(true),
				}},
				ManagedFields: []metav1.ManagedFieldsEntry{
					{Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, Subresource: "status"},
					{Manager: word(FieldOwner), Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`), Time: new(metav1.Now())},
				},
			},
			Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(3)), Paused: true, Selector: &metav1.LabelSelector{},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "receiver"}}, Spec: corev1.PodSpec{
					NodeSelector: map[string]string{},
					Containers: []corev1.Container{{Name: "injected"}, {
						Name: desired.ContainerName, Image: word("registry.example.com/operator:v1"), SecurityContext: &corev1.SecurityContext{RunAsNonRoot: new(true)},
						Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": apiresource.MustParse("100m")}},
					}},
				}},
			},
			Status: appsv1.DeploymentStatus{ReadyReplicas: 2, Conditions: []appsv1.DeploymentCondition{{Message: word("Deployment has minimum availability.")}}},
		}
	}
	a, b := deployment(), deployment()
	b.ManagedFields[1].Time = a.ManagedFields[1].Time
	want := a.DeepCopy()
	want.ManagedFields = want.ManagedFields[1:]
	want.Spec = appsv1.DeploymentSpec{Replicas: new(int32(3)), Paused: true, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: desired.ContainerName, Image: "registry.example.com/operator:v1"}},
	}}}
	for _, d := range []*appsv1.Deployment{a, b} {
		if _, err := slim(d); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d, cmp.AllowUnexported(metav1.FieldsV1{})); diff != "" {
			t.Errorf("slimmed (-want +got):\n%s", diff)
		}
	}
	same := func(what, a, b string) {
		t.Helper()
		if unsafe.StringData(a) != unsafe.StringData(b) {
			t.Errorf("%s: two copies of %q", what, a)
		}
	}
	same("label", a.Labels["app"], b.Labels["app"])
	same("owner", a.OwnerReferences[0].Kind, b.OwnerReferences[0].Kind)
	same("manager", a.ManagedFields[0].Manager, b.ManagedFields[0].Manager)
	same("condition of a Deployment", a.Status.Conditions[0].Message, b.Status.Conditions[0].Message)
	same("image", a.Spec.Template.Spec.Containers[0].Image, b.Spec.Template.Spec.Containers[0].Image)

	hook := func() *v1alpha1.HeymarketWebhook {
		h := &v1alpha1.HeymarketWebhook{}
		h.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
		h.Status.Conditions = []metav1.Condition{{Type: "Ready", Message: word("All is well.")}}
		return h
	}
	first, second := hook(), hook()
	for _, h := range []*v1alpha1.HeymarketWebhook{first, second} {
		if _, err := slimWebhook(h); err != nil || h.ManagedFields != nil {
			t.Errorf("managed fields %v, %v", h.ManagedFields, err)
		}
	}
	same("condition", first.Status.Conditions[0].Message, second.Status.Conditions[0].Message)
}

// A template that does not carry the digest of what was applied is compared itself, see isUpgrade.
func TestSlimKeepsATemplateWithoutDigest(t *testing.T) {
	t.Parallel()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "support-receiver", OwnerReferences: []metav1.OwnerReference{ownedBy("support")}}}
	d.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	if _, err := slim(d); err != nil || d.Spec.Template.Spec.NodeSelector["disk"] != "ssd" {
		t.Errorf("template %v, %v", d.Spec.Template.Spec, err)
	}
}

// What the caches keep of one webhook: as the API server sends it, with the strings of one object in memory of their own.
//
// It measures allocated memory, so it does not run in parallel.
func TestCachesKeepLittleOfOneWebhook(t *testing.T) { //nolint:paralleltest // what others allocate counts as well
	const webhooks, most = 200, 20 << 10
	w := settled(t)
	w.rollOut(2)
	w.admit("203.0.113.7")
	w.reconcile()
	total := int64(0)
	for _, of := range []struct {
		object client.Object
		slim   func(any) (any, error)
	}{
		{w.hook(), slimWebhook}, {w.urlSecret(), slim}, {w.configSecret(), slim}, {w.service(), slim}, {w.deployment(), slim}, {w.budget(), slim}, {w.ingress(), slim},
	} {
		sent, err := json.Marshal(of.object)
		w.do(err)
		receive := func() any {
			received := reflect.New(reflect.TypeOf(of.object).Elem()).Interface()
			w.do(json.Unmarshal(sent, received))
			slimmed, err := of.slim(received)
			w.do(err)
			return slimmed
		}
		kept := make([]any, webhooks)
		kept[0] = receive() // It allocates what all others use.
		before := heap()
		for i := range kept {
			kept[i] = receive()
		}
		each := (heap() - before) / webhooks
		t.Logf("%T: %d bytes", of.object, each)
		total += each
		runtime.KeepAlive(kept)
	}
	if total > most {
		t.Errorf("the objects of one webhook take %d bytes of the caches, want at most %d", total, most)
	}
}
