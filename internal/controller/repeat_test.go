package controller

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/internal/testenv"
)

// GitOps tools apply the same manifests again and again. A hundred times change nothing: neither the webhook nor a child gets another resourceVersion, and the
// operator writes nothing.
func TestApplyingTheSameAHundredTimesChangesNothing(t *testing.T) {
	t.Parallel()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "examples", "quickstart", "webhook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	manifest := func() *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		w.do(yaml.Unmarshal(text, &u.Object))
		u.SetNamespace(w.namespace)
		return u
	}
	// The ways of Argo CD, Flux and kubectl: by server-side apply, and by a merge patch.
	ways := []func(){
		func() {
			w.do(w.person.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(manifest()), client.FieldOwner("gitops"), client.ForceOwnership))
		},
		func() {
			patch, err := manifest().MarshalJSON()
			w.do(err)
			w.do(w.person.Patch(t.Context(), w.hook(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner("gitops-by-patch")))
		},
	}
	for _, apply := range ways {
		apply()
		w.reconcile()
	}
	w.admit("192.0.2.1") // without an address, Exposed changes its reason after a while
	w.reconcile()
	before := w.versions()
	if len(before) < 6 {
		t.Fatalf("there are only %v", before)
	}
	w.writes.take()
	for i := range 100 {
		ways[i%len(ways)]()
		w.reconcile()
	}
	if diff := cmp.Diff(before, w.versions()); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	if writes := w.writes.take(); len(writes) > 0 {
		t.Errorf("the operator wrote: %v", writes)
	}
}

// versions are the resourceVersions of everything in the namespace that the operator looks at or makes.
func (w *world) versions() map[string]string {
	w.t.Helper()
	hook := w.hook()
	found := map[string]string{"HeymarketWebhook " + hook.Name: hook.ResourceVersion}
	for kind, list := range map[string]client.ObjectList{
		"Secret": &corev1.SecretList{}, "Service": &corev1.ServiceList{}, "Ingress": &networkingv1.IngressList{}, "Deployment": &appsv1.DeploymentList{},
		"PodDisruptionBudget": &policyv1.PodDisruptionBudgetList{},
	} {
		w.do(w.person.List(w.t.Context(), list, client.InNamespace(w.namespace)))
		w.do(meta.EachListItem(list, func(o runtime.Object) error {
			object := o.(client.Object)
			found[kind+" "+object.GetName()] = object.GetResourceVersion()
			return nil
		}))
	}
	return found
}
