package chart

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// `helm test` works in the first of the named namespaces, or in the release's own, and its Pod has rights only there.
func TestTrialHasRightsWhereItWorks(t *testing.T) {
	t.Parallel()
	for values, where := range map[string]string{"": namespace, "namespaces: [staging, production]": "staging"} {
		objects := rendered(t, values)
		pod := find[*corev1.Pod](t, objects, "")
		args := pod.Spec.Containers[0].Args
		for _, arg := range []string{"check", "--namespace=" + where, "--name=" + pod.Name} {
			if !slices.Contains(args, arg) {
				t.Errorf("with %q the Pod's arguments lack %s: %q", values, arg, args)
			}
		}
		role, binding := find[*rbacv1.Role](t, objects, pod.Name), find[*rbacv1.RoleBinding](t, objects, pod.Name)
		account := find[*corev1.ServiceAccount](t, objects, pod.Spec.ServiceAccountName)
		if pod.Namespace != namespace || account.Namespace != namespace || role.Namespace != where || binding.Namespace != where {
			t.Errorf("with %q they are in %s, %s, %s and %s", values, pod.Namespace, account.Namespace, role.Namespace, binding.Namespace)
		}
		if s := binding.Subjects; len(s) != 1 || s[0].Name != account.Name || s[0].Namespace != namespace || binding.RoleRef.Name != role.Name {
			t.Errorf("with %q the binding gives %s to %v", values, binding.RoleRef.Name, s)
		}
		for _, rule := range role.Rules {
			if len(rule.ResourceNames) == 0 && !slices.Equal(rule.Verbs, []string{"create"}) || slices.Contains(rule.Verbs, "list") || slices.Contains(rule.Verbs, "*") {
				t.Errorf("the test may %s any of %s", rule.Verbs, rule.Resources)
			}
			for _, name := range rule.ResourceNames {
				if !strings.HasPrefix(name, pod.Name) {
					t.Errorf("the test may %s %s %s, which is not its own", rule.Verbs, rule.Resources, name)
				}
			}
		}
	}
}

// All its objects exist only while the test runs, and no selector of the manager's Pods matches the test's.
func TestTrialIsApartFromTheManager(t *testing.T) {
	t.Parallel()
	objects := rendered(t, "podDisruptionBudget: {enabled: true}\n"+allMonitoring)
	pod := find[*corev1.Pod](t, objects, "")
	template := corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta}
	budget := find[*policyv1.PodDisruptionBudget](t, objects, "")
	expect(t, "PodDisruptionBudget", *budget.Spec.Selector, template, false)
	for _, object := range objects {
		if service, ok := object.(*corev1.Service); ok {
			expect(t, "Service "+service.Name, metav1.LabelSelector{MatchLabels: service.Spec.Selector}, template, false)
		}
	}
	for _, values := range []string{"tests: {enabled: false}", "rbac: {create: false}"} {
		without := rendered(t, values)
		if len(installed(without)) != len(without) {
			t.Errorf("with %s there is a test", values)
		}
	}
	if left := len(objects) - len(installed(objects)); left != 4 {
		t.Errorf("%d objects are there only for the test, want 4", left)
	}
}
