package controller

import (
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
)

// A slimmed object has the same content as before, without the fields of others, and shares its strings.
func TestSlim(t *testing.T) {
	t.Parallel()
	word := func(s string) string { return string([]byte(s)) } // a copy of its own
	deployment := func() *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{
				Name: word("support-receiver"), Labels: map[string]string{word("app"): word("receiver")},
				OwnerReferences: []metav1.OwnerReference{{
					APIVersion: v1alpha1.GroupVersion.String(), Kind: word("HeymarketWebhook"), Name: "support", UID: "1", Controller: new(true),
				}},
				ManagedFields: []metav1.ManagedFieldsEntry{
					{Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, Subresource: "status"},
					{Manager: word(FieldOwner), Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`), Time: new(metav1.Now())},
				},
			},
			Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				NodeSelector: map[string]string{},
				Containers: []corev1.Container{{
					Image: word("registry.example.com/operator:v1"), SecurityContext: &corev1.SecurityContext{RunAsNonRoot: new(true)},
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": apiresource.MustParse("100m")}},
				}},
			}}},
		}
	}
	a, b := deployment(), deployment()
	b.ManagedFields[1].Time = a.ManagedFields[1].Time
	want := a.DeepCopy()
	want.ManagedFields = want.ManagedFields[1:]
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
