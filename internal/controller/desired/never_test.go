package desired

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
)

// Invariants for every resource, and for every regeneration of the goldens: receivers cannot write, escalate or use the API, do
// not run as root, and have liveness and readiness probes.
func TestWhatNoRegenerationMayChange(t *testing.T) {
	t.Parallel()
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			deployment := wanted[*appsv1ac.DeploymentApplyConfiguration](t, build(t, input(t, g.name, g.in)))
			pod := deployment.Spec.Template.Spec
			if *pod.AutomountServiceAccountToken || pod.HostNetwork != nil || pod.HostPID != nil || pod.HostIPC != nil || len(pod.InitContainers) != 0 || len(pod.Containers) != 1 {
				t.Errorf("the Pod is more than one container without rights: %+v", pod)
			}
			if s := pod.SecurityContext; !*s.RunAsNonRoot || s.RunAsUser != nil && *s.RunAsUser == 0 || *s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("the Pod's security context is %+v", s)
			}
			container := pod.Containers[0]
			if s := container.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !*s.RunAsNonRoot || s.Privileged != nil ||
				!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) != 0 {
				t.Errorf("the container's security context is %+v", s)
			}
			for _, mount := range container.VolumeMounts {
				if !*mount.ReadOnly {
					t.Errorf("%s can be written", *mount.Name)
				}
			}
			for _, volume := range pod.Volumes {
				if volume.Secret == nil && volume.Projected == nil {
					t.Errorf("volume %s is no Secret", *volume.Name)
				}
			}
			live, ready := container.LivenessProbe, container.ReadinessProbe
			if live == nil || ready == nil || *live.HTTPGet.Path != "/healthz" || *ready.HTTPGet.Path != "/readyz" || *live.HTTPGet.Port != intstr.FromString("ops") || *ready.HTTPGet.Port != intstr.FromString("ops") {
				t.Errorf("the probes are %+v and %+v", live, ready)
			}
			if u := deployment.Spec.Strategy.RollingUpdate; *u.MaxUnavailable != intstr.FromInt32(0) {
				t.Errorf("a rollout may take %s receivers away", u.MaxUnavailable)
			}
		})
	}
}

// With NetworkPolicies, only the named namespaces reach the operations port, and if any are named for events, only those send
// events.
func TestWhoMayReachReceivers(t *testing.T) {
	t.Parallel()
	for _, from := range [][]string{nil, {"traefik"}} {
		in := input(t, "network-policy", Input{NetworkPolicy: &NetworkPolicy{OperatorNamespace: "heymarket-system", EventsFrom: from, OperationsFrom: []string{"monitoring"}}})
		policy := wanted[*networkingv1ac.NetworkPolicyApplyConfiguration](t, build(t, in))
		got := map[int32][]string{}
		for _, rule := range policy.Spec.Ingress {
			var names []string
			for _, peer := range rule.From {
				if peer.PodSelector != nil || peer.IPBlock != nil {
					t.Errorf("a peer is more than namespaces: %+v", peer)
				}
				names = append(names, peer.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"])
				for _, e := range peer.NamespaceSelector.MatchExpressions {
					names = append(names, e.Values...)
				}
			}
			for _, port := range rule.Ports {
				got[port.Port.IntVal] = slices.DeleteFunc(names, func(name string) bool { return name == "" })
			}
		}
		if len(got) != 2 || !slices.Equal(got[8080], from) || !slices.Equal(got[8081], []string{"heymarket-system", "monitoring"}) || len(policy.Spec.PolicyTypes) != 2 {
			t.Errorf("events from %v: who may reach which port is %v, by %v", from, got, policy.Spec.PolicyTypes)
		}
	}
}
