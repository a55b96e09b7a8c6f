package controller

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
)

// A policy with the rules of OpenShift's restricted-v2 rejects Pods with the image's IDs, and the condition names the remedy:
// with it the Pods are accepted, and the rest of their security profile is unchanged.
func TestPlatformAssignsUserIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	apiservertest.AssignUserIDs(t, w.namespace)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	w.reconcile()
	refused := w.tryPod()
	if refused == nil {
		t.Fatal("the policy accepts any user")
	}
	deploymentSays(appsv1.DeploymentCondition{
		Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: refused.Error(),
	})(w)
	w.reconcile()
	w.condition(v1alpha1.ConditionAvailable, false, v1alpha1.ReasonPodsRefused,
		"restricted-v2", "spec.receiver.podSecurityContext", "--receiver-user-id", "docs/openshift.md")

	for name, accept := range map[string]func(){
		"by the resource": func() {
			change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
				h.Spec.Receiver.PodSecurityContext = &v1alpha1.PodSecurityContext{}
			})
		},
		"by the operator": func() {
			w.r.Settings.ReceiverUserID = 0
			change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Receiver.PodSecurityContext = nil })
		},
		"by the resource, with IDs of the range": func() {
			change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
				h.Spec.Receiver.PodSecurityContext = &v1alpha1.PodSecurityContext{RunAsUser: ptr.To[int64](1000660007), FSGroup: ptr.To[int64](1000660000)}
			})
		},
	} {
		accept()
		w.reconcile()
		if err := w.tryPod(); err != nil {
			t.Errorf("left out %s: %v", name, err)
		}
		pod := w.deployment().Spec.Template.Spec
		s, c := pod.SecurityContext, pod.Containers[0].SecurityContext
		if !*s.RunAsNonRoot || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
			*c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || !*c.RunAsNonRoot || len(c.Capabilities.Drop) != 1 {
			t.Errorf("%s: security contexts %+v, %+v", name, s, c)
		}
		// Unless the operator sets an fsGroup, files belong to root unless the platform adds one.
		mode := int32(0o440)
		if s.FSGroup == nil {
			mode = 0o444
		}
		if *pod.Volumes[0].Secret.DefaultMode != mode || *pod.Volumes[1].Projected.DefaultMode != mode {
			t.Errorf("%s: Secrets are mounted with the modes %o and %o", name, *pod.Volumes[0].Secret.DefaultMode, *pod.Volumes[1].Projected.DefaultMode)
		}
	}
}

// tryPod asks for a Pod of the receiver's Deployment, as the controller of ReplicaSets would.
func (w *world) tryPod() error {
	template := w.deployment().Spec.Template
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "support-receiver-", Namespace: w.namespace, Labels: template.Labels}, Spec: template.Spec}
	return w.person.Create(w.t.Context(), pod, client.DryRunAll)
}
