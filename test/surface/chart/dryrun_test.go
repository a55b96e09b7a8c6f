package chart

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/apiservertest"
)

// A real API server accepts every object of every rendering: it defaults, validates and admits them, and stores none. Objects of
// the Prometheus operator are skipped: this server does not have its CRDs, and TestEveryRenderingIsSound checks them by their
// types.
func TestAPIServerTakesEveryRendering(t *testing.T) {
	t.Parallel()
	config := apiservertest.Config(t)
	needHelm(t)
	config.QPS = -1
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{namespace, "staging", "production"} {
		enforced := map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}
		err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: enforced}})
		if err != nil {
			t.Fatal(err)
		}
	}
	// Every choice alone, and every fourth of the combinations: the types have been held against all of them.
	sets, combined := renderings()
	for i := 0; i < len(combined); i += 4 {
		sets = append(sets, combined[i])
	}
	for i, set := range sets {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for _, object := range renderedOnce(t, set) {
				kind := object.GetObjectKind().GroupVersionKind()
				if kind.Group == "monitoring.coreos.com" {
					continue
				}
				fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
				if err != nil {
					t.Fatal(err)
				}
				delete(fields, "status")
				wanted := client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: fields})
				if err := c.Apply(t.Context(), wanted, client.DryRunAll, client.FieldOwner("dry-run"), client.ForceOwnership); err != nil {
					t.Errorf("%s %s: %v\nwith\n%s", kind.Kind, object.GetName(), err, set)
				}
			}
		})
	}
}
