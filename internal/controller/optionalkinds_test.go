package controller

import (
	"slices"
	"sync"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/controller/desired"
)

var installed sync.Once

// installExtensions is for tests that are parallel: the kinds stay for all that come after.
func installExtensions(t *testing.T) {
	t.Helper()
	cfg := apiservertest.Config(t)
	installed.Do(func() {
		if _, err := envtest.InstallCRDs(cfg, apiservertest.ExtensionCRDs(t)); err != nil {
			t.Error(err)
		}
	})
}

// removeExtensions takes them from all tests. They go in their own time, with their objects.
func (w *world) removeExtensions() {
	w.t.Helper()
	crds := apiservertest.ExtensionCRDs(w.t)
	w.do(envtest.UninstallCRDs(apiservertest.Config(w.t), crds))
	installed = sync.Once{}
	w.eventually("a cluster without them", func() bool {
		return !slices.ContainsFunc(crds.CRDs, func(crd *apiextensionsv1.CustomResourceDefinition) bool {
			known := &metav1.PartialObjectMetadata{}
			known.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
			return !apierrors.IsNotFound(w.person.Get(w.t.Context(), client.ObjectKeyFromObject(crd), known))
		})
	})
}

func (w *world) extension(kind schema.GroupVersionKind) *unstructured.Unstructured {
	w.t.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return get(w, "support-receiver", u)
}

func (w *world) hasExtension(kind schema.GroupVersionKind) bool {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return w.person.Get(w.t.Context(), w.key("support-receiver"), u) == nil
}

// scale sets the number of Pods as an autoscaler does.
func (w *world) scale(n int32) {
	w.t.Helper()
	s := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: n}}
	w.do(w.person.SubResource("scale").Update(w.t.Context(), w.deployment(), client.WithSubResourceBody(s)))
}

// KEDA and the Gateway API are installed and removed while the operator runs. The test is not parallel, because others
// need them.
func TestExtensionsComeAndGo(t *testing.T) {
	w := newWorld(t)
	w.r.Settings.discoveryPeriod = 50 * time.Millisecond
	w.removeExtensions() // Of an earlier run under -count.
	w.manage(operator(t, "extension-test"), w.namespace)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + `
exposure: {type: HTTPRoute, httpRoute: {parentRefs: [{name: public}]}}
receiver: {autoscaling: {minReplicas: 3, maxReplicas: 10, backlogPerReplica: 100}}
`)
	missing := func() bool {
		return w.reason(v1alpha1.ConditionExposed) == v1alpha1.ReasonGatewayAPIMissing && w.reason(v1alpha1.ConditionScaled) == v1alpha1.ReasonKEDAMissing
	}
	w.eventually("that both are missing", missing)

	_, err := envtest.InstallCRDs(apiservertest.Config(t), apiservertest.ExtensionCRDs(t))
	w.do(err)
	present := func() bool {
		return w.reason(v1alpha1.ConditionExposed) == v1alpha1.ReasonGatewayMissing && w.reason(v1alpha1.ConditionScaled) == v1alpha1.ReasonScaledObjectPending
	}
	w.eventually("both", present)
	if n := ptr.Deref(w.deployment().Spec.Replicas, 0); n != 3 {
		t.Errorf("%d replicas when KEDA takes over, want 3", n)
	}
	w.scale(8)
	for _, kind := range []schema.GroupVersionKind{desired.HTTPRouteKind, desired.ScaledObjectKind} {
		made := w.extension(kind)
		w.do(w.person.Delete(t.Context(), made))
		w.eventually(kind.Kind+" again", func() bool { return w.hasExtension(kind) && w.extension(kind).GetUID() != made.GetUID() })
	}
	if n := ptr.Deref(w.deployment().Spec.Replicas, 0); n != 8 {
		t.Errorf("%d replicas, want KEDA's 8", n)
	}

	w.removeExtensions()
	w.eventually("that both are missing again", missing)
	w.eventually("the least number of Pods", func() bool { return ptr.Deref(w.deployment().Spec.Replicas, 0) == 3 })
}
