//go:build neighbours

package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/test/support/quickstart"
)

const mirror = "mirror.example.com/"

// versions are the resource versions of everything that belongs to the webhook, which change with each write that changes something.
func (s scene) versions(t *testing.T) string {
	t.Helper()
	return kubectl(t, "", "get", "hmw,deployment,service,ingress,poddisruptionbudget,secret,pods", "--namespace="+s.namespace,
		"-o", `jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{"\n"}{end}`)
}

// applied counts the writes of the operator to the webhook's children, also those that changed nothing, in its log since a time.
func (s scene) applied(t *testing.T, since time.Time) int {
	t.Helper()
	log := kubectl(t, "", "logs", "deployment/heymarket-operator", "--namespace="+quickstart.System, "--since-time="+since.UTC().Format(time.RFC3339))
	count := 0
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"msg":"Applied"`) && strings.Contains(line, s.namespace) {
			count++
		}
	}
	return count
}

// A platform that changes created objects, as Kyverno and meshes do: labels and annotations everywhere, images from a mirror, a
// sidecar. The operator accepts the changes without repeated writes, and Pod Security "restricted" is enforced throughout.
func TestMutatingAdmission(t *testing.T) {
	kubectl(t, neighbour(t, "mutation.yaml"), "apply", "--server-side", "-f", "-")
	t.Cleanup(func() { kubectl(t, neighbour(t, "mutation.yaml"), "delete", "-f", "-") })
	binaries := filepath.Join(driver.Root, "bin", "image")
	archive := filepath.Join(t.TempDir(), "mirror.tar")
	if _, err := driver.Run(t.Context(), "image", "-o", archive, "-t", mirror+cluster.Image.Name,
		filepath.Join(binaries, "manager")+"=/manager", filepath.Join(binaries, "receiver")+"=/receiver"); err != nil {
		t.Fatal(err)
	}
	if err := loadImages(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	dialer, err := driver.Run(t.Context(), "archive", "dial")
	if err != nil {
		t.Fatal(err)
	}
	if err := loadImages(t.Context(), dialer); err != nil {
		t.Fatal(err)
	}

	s := newScene(t)
	for _, namespace := range []string{s.namespace, quickstart.System, "redis"} {
		if level := kubectl(t, "", "get", "namespace", namespace, "-o", `jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}`); level != "restricted" {
			t.Errorf("namespace %s enforces %q", namespace, level)
		}
	}
	kubectl(t, "", "label", "namespace", s.namespace, "platform=mutates")
	l := startLoad(t.Context(), s.heymarket)
	defer l.end()
	s.change(t, func(spec *v1alpha1.HeymarketWebhookSpec) {
		spec.Receiver.PodAnnotations = map[string]v1alpha1.AnnotationValue{"prometheus.io/scrape": "false"}
	})
	var pods []corev1.Pod
	err = quickstart.Poll(t.Context(), 2*time.Minute, func(ctx context.Context) (bool, error) {
		if pods, err = s.receivers(ctx); err != nil || len(pods) != 2 {
			return false, err
		}
		for _, pod := range pods {
			if len(pod.Spec.Containers) != 2 || !strings.HasPrefix(pod.Spec.Containers[0].Image, mirror) {
				return false, nil
			}
		}
		return true, s.bothAvailable(ctx, nil)
	})
	if err != nil {
		t.Fatalf("the receivers have no sidecar and no image of the mirror: %v", err)
	}
	s.awaitCondition(t, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	l.more(t, 100)
	if refused := l.refusals(); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	l.allDelivered(t, s.target)

	// At rest nothing is written, and neither is after a restart of the operator, which looks at everything again.
	rest := func(when string) {
		t.Helper()
		var before, after string
		applied := 0
		err := quickstart.Poll(t.Context(), 3*time.Minute, func(ctx context.Context) (bool, error) { // the status follows the events for a while
			began := time.Now()
			before = s.versions(t)
			if err := sleep(ctx, 30*time.Second); err != nil {
				return false, err
			}
			after, applied = s.versions(t), s.applied(t, began)
			return after == before && applied == 0, nil
		})
		if err != nil {
			t.Fatalf("%s there are no 30 s without a write: %v; in the last ones %d to children, from\n%s\nto\n%s", when, err, applied, before, after)
		}
		t.Logf("%s: 30 s without a write", when)
	}
	rest("after the change")
	var deployment appsv1.Deployment
	key := client.ObjectKey{Namespace: s.namespace, Name: quickstart.WebhookName + "-receiver"}
	if err := cluster.Client.Get(t.Context(), key, &deployment); err != nil {
		t.Fatal(err)
	}
	if deployment.Labels["platform.example.com/team"] != "messaging" || deployment.Annotations["platform.example.com/seen"] != "true" {
		t.Errorf("the Deployment lost what the platform added: labels %v, annotations %v", deployment.Labels, deployment.Annotations)
	}
	kubectl(t, "", "rollout", "restart", "deployment/heymarket-operator", "--namespace="+quickstart.System)
	kubectl(t, "", "rollout", "status", "deployment/heymarket-operator", "--namespace="+quickstart.System, "--timeout=120s")
	rest("after a restart of the operator")
	generation := deployment.Generation
	if err := cluster.Client.Get(t.Context(), key, &deployment); err != nil || deployment.Generation != generation {
		t.Errorf("a restart of the operator took the Deployment from generation %d to %d: %v", generation, deployment.Generation, err)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
