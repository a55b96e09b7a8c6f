package chart

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/apiservertest"
)

// A policy with the rules of OpenShift's restricted-v2 accepts every Pod of the chart if the platform assigns the IDs, and the
// rest of their security profile is unchanged.
func TestPlatformAssignsUserIDs(t *testing.T) {
	c := newCluster(t)
	namespace := apiservertest.PlatformUserIDs(t)
	for values, want := range map[string]struct {
		user    int64
		mode    int32
		refused bool
	}{
		"":                            {user: 65532, mode: 0o440, refused: true},
		"userID: Platform":            {mode: 0o444},
		"userID: 1000660000":          {user: 1000660000, mode: 0o440},
		"--api-versions=on OpenShift": {mode: 0o444},
	} {
		var args []string
		set := values
		if strings.HasPrefix(values, "--") {
			args, set = []string{"--api-versions=security.openshift.io/v1"}, ""
		}
		text, err := render(t, chartDir, set+"\ncrds: {keep: false}", args...)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := decode(text)
		if err != nil {
			t.Fatal(err)
		}
		found := templates(objects)
		if len(found) != 4 {
			t.Fatalf("%q: %d Pods, want those of the manager, Redis, helm test and uninstalling", values, len(found))
		}
		for name, template := range found {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "any-", Namespace: namespace, Labels: template.Labels}, Spec: template.Spec}
			pod.Spec.ServiceAccountName, pod.Spec.PriorityClassName = "", ""
			err := c.Create(t.Context(), pod, client.DryRunAll)
			if refused := err != nil; refused != want.refused || refused && !strings.Contains(err.Error(), "restricted-v2") {
				t.Errorf("%q: %s: %v", values, name, err)
			}
			security := template.Spec.SecurityContext
			if user := security.RunAsUser; (user == nil) != (want.user == 0) || user != nil && *user != want.user {
				t.Errorf("%q: %s runs as %d, want %d; 0: as the platform says", values, name, ptr.Deref(user, 0), want.user)
			}
			if !*security.RunAsNonRoot || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%q: %s: %+v", values, name, security)
			}
			for _, volume := range template.Spec.Volumes {
				if volume.Secret != nil && *volume.Secret.DefaultMode != want.mode {
					t.Errorf("%q: %s mounts %s with mode %o, want %o", values, name, volume.Name, *volume.Secret.DefaultMode, want.mode)
				}
			}
			for _, container := range template.Spec.Containers {
				s := container.SecurityContext
				if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !*s.RunAsNonRoot || len(s.Capabilities.Drop) != 1 || s.RunAsUser != nil {
					t.Errorf("%q: %s: %+v", values, name, s)
				}
			}
		}
	}
}
