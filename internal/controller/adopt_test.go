package controller

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
)

func (w *world) children() []client.Object {
	return []client.Object{w.urlSecret(), w.configSecret(), w.service(), w.deployment(), w.budget(), w.ingress()}
}

// Children that have lost their owner are adopted, and the URL that a person has entered in the Heymarket app stays.
func TestChildrenWithoutTheirOwnerAreAdopted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		lose func(*world)
	}{
		{"deleted with cascade=orphan", func(w *world) {
			w.do(w.person.Delete(w.t.Context(), w.hook()))
			for _, child := range w.children() {
				change(w, child, func(o client.Object) { o.SetOwnerReferences(nil) })
			}
			w.webhook(smallest)
		}},
		{"owner references stripped", func(w *world) {
			for _, child := range w.children() {
				change(w, child, func(o client.Object) { o.SetOwnerReferences(nil) })
			}
		}},
		{"restored from a backup without owner references and field managers", func(w *world) {
			restore(w, func(o client.Object) { o.SetOwnerReferences(nil) })
		}},
		{"restored from a backup with references to an owner that no longer exists", func(w *world) {
			restore(w, func(client.Object) {})
		}},
		{"deleted and created again before the garbage collector came", func(w *world) {
			w.do(w.person.Delete(w.t.Context(), w.hook()))
			w.webhook(smallest)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := settled(t)
			before := w.urlSecret().Data
			c.lose(w)
			w.reconcile()
			w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
			if diff := cmp.Diff(before, w.urlSecret().Data); diff != "" {
				t.Errorf("the URL has changed (-before +after):\n%s", diff)
			}
			hook := w.hook()
			for _, child := range w.children() {
				if refs := child.GetOwnerReferences(); len(refs) != 1 || !metav1.IsControlledBy(child, hook) {
					t.Errorf("%T %s has owners %v", child, child.GetName(), refs)
				}
			}
			w.quiet()
		})
	}
}

// restore deletes the resource and its children and creates all of them again from a copy, as Velero does.
func restore(w *world, strip func(client.Object)) {
	w.t.Helper()
	for _, child := range w.children() {
		w.do(w.person.Delete(w.t.Context(), child))
		strip(child)
		child.SetUID("")
		child.SetResourceVersion("")
		child.SetManagedFields(nil)
		if s, ok := child.(*corev1.Service); ok {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		w.do(w.person.Create(w.t.Context(), child, client.FieldOwner("velero")))
	}
	w.do(w.person.Delete(w.t.Context(), w.hook()))
	w.webhook(smallest)
}

// An outdated cache may still contain the former resource, which must not take the children from the current one.
func TestAFormerResourceAdoptsNothing(t *testing.T) {
	t.Parallel()
	w := settled(t)
	former := w.hook()
	w.do(w.person.Delete(t.Context(), former))
	w.webhook(smallest)
	w.reconcile()
	hook := w.hook()
	if adopted, err := w.r.adopt(t.Context(), former, w.urlSecret()); adopted || err != nil {
		t.Errorf("adopted: %v, %v", adopted, err)
	}
	if !metav1.IsControlledBy(w.urlSecret(), hook) {
		t.Errorf("the URL belongs to %v", w.urlSecret().OwnerReferences)
	}
}

// Objects that only look like children are not touched, and following the advice never loses the URL.
func TestWhatTheOperatorDidNotMakeIsNotAdopted(t *testing.T) {
	t.Parallel()
	labels := map[string]string{contract.LabelManagedBy: contract.ManagedByValue}
	maps.Copy(labels, contract.PodLabels("support"))
	for name, meta := range map[string]metav1.ObjectMeta{
		"no labels":             {},
		"labels alone":          {Labels: labels},
		"another's label":       {Labels: map[string]string{contract.LabelManagedBy: "Helm"}, Annotations: map[string]string{annotationApplied: "x"}},
		"of another webhook":    {Labels: map[string]string{contract.LabelManagedBy: contract.ManagedByValue, contract.LabelName: labels[contract.LabelName], contract.LabelInstance: "sales"}, Annotations: map[string]string{annotationApplied: "x"}},
		"of another controller": {Labels: labels, Annotations: map[string]string{annotationApplied: "x"}, OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "u", Controller: new(true)}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.secret("heymarket", map[string]string{"token": canary})
			meta.Namespace, meta.Name = w.namespace, "support-url"
			w.do(w.person.Create(t.Context(), &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"url": "https://example.com/x"}}))
			w.webhook(smallest)
			w.reconcile()
			w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonChildNameTaken, `Secret "support-url"`, "keep a copy")
			if got := string(w.urlSecret().Data["url"]); got != "https://example.com/x" {
				t.Errorf("the Secret holds %q", got)
			}
		})
	}
}
