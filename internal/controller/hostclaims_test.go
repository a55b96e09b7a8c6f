package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
)

// claiming is a resource of an age in seconds.
func claiming(namespace, name, host, path string, age int) *v1alpha1.HeymarketWebhook {
	h := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, CreationTimestamp: metav1.Time{Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Duration(age) * time.Second)},
	}}
	h.Spec.Exposure = v1alpha1.Exposure{Host: host, Path: path}
	return h
}

func claimClient(s Settings, hooks ...*v1alpha1.HeymarketWebhook) client.Client {
	objects := make([]runtime.Object, len(hooks))
	for i, h := range hooks {
		objects[i] = h
	}
	return fake.NewClientBuilder().WithScheme(Scheme()).WithRuntimeObjects(objects...).
		WithIndex(&v1alpha1.HeymarketWebhook{}, indexClaim, func(obj client.Object) []string {
			return s.claims(obj.(*v1alpha1.HeymarketWebhook))
		}).Build()
}

// judge resolves the conflicts of one resource among others.
func judge(t *testing.T, s Settings, hook *v1alpha1.HeymarketWebhook, others ...*v1alpha1.HeymarketWebhook) condition.Facts {
	t.Helper()
	webhooks := claimClient(s, append(others, hook)...)
	r := &Reconciler{Settings: s}
	r.Claimants = func(ctx context.Context, key string) ([]*v1alpha1.HeymarketWebhook, error) {
		return claimants(ctx, webhooks, key)
	}
	f := condition.Facts{Webhook: hook}
	if err := r.resolveConflict(t.Context(), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestClaims(t *testing.T) {
	t.Parallel()
	const host, other = "hooks.example.com", "other.example.com"
	for name, tc := range map[string]struct {
		first, second *v1alpha1.HeymarketWebhook
		// keeps are those of the two that keep their route.
		keeps string
	}{
		"other paths":                        {claiming("a", "support", host, "", 2), claiming("b", "support", host, "", 1), "a b"},
		"other hosts":                        {claiming("a", "support", host, "/hooks", 2), claiming("b", "support", other, "/hooks", 1), "a b"},
		"the same":                           {claiming("a", "support", host, "/hooks", 2), claiming("b", "support", host, "/hooks", 1), "a"},
		"the same, of one second":            {claiming("a", "support", host, "/hooks", 1), claiming("b", "support", host, "/hooks", 1), "a"},
		"no host and any host":               {claiming("a", "support", "", "/hooks", 2), claiming("b", "support", host, "/hooks", 1), "a"},
		"any host and no host":               {claiming("a", "support", host, "/hooks", 2), claiming("b", "support", "", "/hooks", 1), "a"},
		"no hosts":                           {claiming("a", "support", "", "/hooks", 2), claiming("b", "support", "", "/hooks", 1), "a"},
		"a path below":                       {claiming("a", "support", host, "/hooks", 2), claiming("b", "support", host, "/hooks/x/y", 1), "a"},
		"a path above":                       {claiming("a", "support", host, "/hooks/x/y", 2), claiming("b", "support", host, "/hooks", 1), "a"},
		"a path with the same beginning":     {claiming("a", "support", host, "/hooks", 2), claiming("b", "support", host, "/hooks2", 1), "a b"},
		"another letter case":                {claiming("a", "support", host, "/hooks", 2), claiming("b", "support", host, "/Hooks", 1), "a"},
		"another's path, more exact":         {claiming("a", "support", "", "", 1), claiming("b", "support", host, "/a/support", 1), "a"},
		"another's path, by an older one":    {claiming("a", "support", "", "", 1), claiming("b", "support", host, "/a/support", 2), "a"},
		"below another's path":               {claiming("a", "support", "", "", 1), claiming("b", "support", host, "/a/support/x", 2), "a"},
		"above another's path":               {claiming("a", "support", "", "", 1), claiming("b", "support", host, "/a", 2), "a"},
		"another's path in capitals":         {claiming("a", "support", "", "", 1), claiming("b", "support", host, "/A/Support", 2), "a"},
		"another namespace, no such webhook": {claiming("a", "support", other, "", 1), claiming("b", "support", host, "/a/sales", 2), "a"},
		"a longer path of one's own":         {claiming("a", "support", host, "/a/support/eu", 2), claiming("b", "support", host, "/b/support/eu", 1), "a b"},
	} {
		var keeps []string
		if !judge(t, Settings{}, tc.first.DeepCopy(), tc.second.DeepCopy()).Conflicts() {
			keeps = append(keeps, tc.first.Namespace)
		}
		if !judge(t, Settings{}, tc.second.DeepCopy(), tc.first.DeepCopy()).Conflicts() {
			keeps = append(keeps, tc.second.Namespace)
		}
		if got := fmt.Sprint(keeps); got != "["+tc.keeps+"]" {
			t.Errorf("%s: %s keep their route, want [%s]", name, got, tc.keeps)
		}
	}
}

// A resource that is being deleted, that has no route or whose host is not allowed claims nothing.
func TestWhatClaimsNothing(t *testing.T) {
	t.Parallel()
	deleted := claiming("a", "support", "hooks.example.org", "/hooks", 2)
	deleted.DeletionTimestamp, deleted.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"example.com/kept"}
	inside := claiming("a", "support", "hooks.example.org", "/hooks", 2)
	inside.Spec.Exposure.Type = v1alpha1.ExposureNone
	stranger := claiming("stranger", "support", "b.example.com", "/hooks", 2)
	s := Settings{HostTemplate: hostTemplate(t, "{{.Namespace}}.example.com")}
	for name, other := range map[string]*v1alpha1.HeymarketWebhook{"deleted": deleted, "not exposed": inside, "host not allowed": stranger} {
		hook := claiming("b", "support", other.Spec.Exposure.Host, "/hooks", 1)
		if judge(t, s, hook, other).Conflicts() {
			t.Errorf("%s: it keeps its claim", name)
		}
	}
}

// Of many that wait for a host and path, the first is woken when it becomes free; the others would keep waiting.
func TestOneHeirIsWoken(t *testing.T) {
	t.Parallel()
	gone := claiming("a", "support", "hooks.example.com", "/hooks", 10)
	var hooks []*v1alpha1.HeymarketWebhook
	for i := range 5 {
		hooks = append(hooks, claiming("b", fmt.Sprintf("waits-%d", i), "hooks.example.com", "/hooks", i))
	}
	hooks = append(hooks, claiming("c", "elsewhere", "other.example.com", "/hooks", 5))
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer queue.ShutDown()
	wakeRivals(claimClient(Settings{}, hooks...), Settings{}).Delete(t.Context(), event.DeleteEvent{Object: gone}, queue)
	var woken []string
	for queue.Len() > 0 {
		r, _ := queue.Get()
		woken = append(woken, r.String())
	}
	if want := []string{"b/waits-4"}; !slices.Equal(woken, want) {
		t.Errorf("woke %v, want %v", woken, want)
	}
}

// A route that takes over another resource's requests is deleted even while its own resource is not accepted: a deliberate
// mistake does not keep it.
func TestRouteOfAnotherGoesDespiteAMistake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Settings.HostTemplate = nil
	victim := w.namespace + "-victim"
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + "exposure: {host: " + w.namespace + ".example.com, path: /" + victim + "/support}")
	w.reconcile()
	w.ingress()
	w.do(w.person.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: victim}}))
	theirs := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: victim, Name: "support"}}
	w.do(yaml.UnmarshalStrict([]byte(smallest), &theirs.Spec))
	w.do(w.person.Create(t.Context(), theirs))
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Token.SecretKeyRef.Name = "away" })
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonTokenSecretNotFound)
	if got := w.exist(); strings.Contains(got, "Ingress") {
		t.Errorf("children: %s", got)
	}
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Token.SecretKeyRef.Name = "heymarket" })
	w.reconcile()
	w.condition(v1alpha1.ConditionExposed, false, v1alpha1.ReasonHostConflict, `"`+victim+`"`, "has its name in the path")
	w.do(w.person.Delete(t.Context(), theirs))
	w.reconcile()
	w.ingress()
}
