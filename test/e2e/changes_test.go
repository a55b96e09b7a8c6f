//go:build e2e

package e2e

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/test/support/quickstart"
)

// TestChangesUnderLoadRefuseNothing makes a platform team's everyday changes while events arrive: no valid delivery is
// rejected, and all accepted events arrive.
func TestChangesUnderLoadRefuseNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if err := s.bothAvailable(t.Context(), nil); err != nil { // Ready is said as soon as one serves
		t.Fatal(err)
	}
	const next, renewed = "heymarket-next", "the-token-of-the-next-quarter"
	if err := cluster.Client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: next}, StringData: map[string]string{quickstart.TokenKey: renewed},
	}); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t.Context(), s.heymarket)
	defer l.end()
	l.more(t, 100)

	for _, change := range []struct {
		what string
		do   func(*v1alpha1.HeymarketWebhookSpec)
		then func()
	}{
		{"the new token beside the old", func(spec *v1alpha1.HeymarketWebhookSpec) {
			old := spec.Token.SecretKeyRef
			spec.Token.PreviousSecretKeyRef, spec.Token.SecretKeyRef.Name = &old, next
		}, func() { l.use(renewed) }},
		{"the old token withdrawn", func(spec *v1alpha1.HeymarketWebhookSpec) { spec.Token.PreviousSecretKeyRef = nil }, nil},
		{"all receivers replaced", func(spec *v1alpha1.HeymarketWebhookSpec) {
			spec.Receiver.PodAnnotations = map[string]v1alpha1.AnnotationValue{"prometheus.io/scrape": "false"}
		}, nil},
		{"three receivers", func(spec *v1alpha1.HeymarketWebhookSpec) { spec.Receiver.Replicas = new(int32(3)) }, nil},
		{"one receiver", func(spec *v1alpha1.HeymarketWebhookSpec) { spec.Receiver.Replicas = new(int32(1)) }, nil},
	} {
		webhook, err := cluster.Webhook(t.Context(), s.namespace)
		if err != nil {
			t.Fatal(err)
		}
		patch := client.MergeFrom(webhook.DeepCopy())
		change.do(&webhook.Spec)
		if err := cluster.Client.Patch(t.Context(), webhook, patch); err != nil {
			t.Fatalf("%s: %v", change.what, err)
		}
		if err := cluster.AwaitReady(t.Context(), s.namespace, 2*time.Minute); err != nil {
			t.Fatalf("%s: %v", change.what, err)
		}
		if _, err := cluster.RunKubectl(t.Context(), "", "rollout", "status", "deployment/"+quickstart.WebhookName+"-receiver", "--namespace="+s.namespace, "--timeout=2m"); err != nil {
			t.Fatalf("%s: %v", change.what, err)
		}
		if change.then != nil {
			change.then()
		}
		l.more(t, 100)
		if refused := l.refusals(); len(refused) > 0 {
			t.Errorf("%s: refused %v", change.what, refused)
		}
	}
	l.allDelivered(t, s.target)
}
