package mutations

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/test/support/fakecluster"
	"heymarket.dev/operator/test/support/snapshot"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(funcr.New(func(string, string) {}, funcr.Options{}))
	apiservertest.Main(m)
}

// world is a namespace with one HeymarketWebhook in it, and a reconciler that is called directly.
type world struct {
	hook       client.ObjectKey
	person     client.Client
	renew      func() // makes the reconciler
	reconciler *controller.Reconciler
	// writes are those that the API server has accepted from the reconciler, which sends one after another.
	writes []string
	stage  *fakecluster.Stage
	kinds  []apischema.GroupVersionKind
	// secrets are the contents that the namespace's Secrets have, by name and key.
	secrets map[string]map[string]string
}

func newWorld(t *testing.T, settings controller.Settings) *world {
	t.Helper()
	cfg := apiservertest.Config(t)
	w := &world{secrets: map[string]map[string]string{}}
	w.person = newClient(t, cfg)
	counted := newClient(t, w.count(cfg))
	w.stage = fakecluster.New(w.person)
	// A new one for each round: a person changes more within seconds than the pace of status writes allows.
	w.renew = func() {
		w.reconciler = &controller.Reconciler{
			Client:        counted,
			Live:          counted,
			Events:        &events.FakeRecorder{},
			Pods:          w.stage,
			Redis:         func() desired.SharedRedis { return desired.SharedRedis{URL: "redis://redis.example.com:6379/0"} },
			OptionalKinds: everything{},
			Settings:      settings,
			// Two worlds are compared that ask for the same: which of them keeps a host does not matter here.
			Claimants: func(context.Context, string) ([]*v1alpha1.HeymarketWebhook, error) { return nil, nil },
			Referrers: func(context.Context, string, string) ([]*v1alpha1.HeymarketWebhook, error) { return nil, nil },
		}
	}
	w.renew()
	var err error
	if w.kinds, err = snapshot.Kinds(w.person.RESTMapper()); err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "mutations-"}}
	if err := w.person.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	w.hook = client.ObjectKey{Namespace: ns.Name, Name: "support"}
	return w
}

// everything is a cluster that serves all kinds of others.
type everything struct{}

// Served implements controller.OptionalKinds.
func (everything) Served(apischema.GroupVersionKind) bool { return true }

func newClient(t *testing.T, cfg *rest.Config) client.Client {
	t.Helper()
	c, err := client.New(cfg, client.Options{Scheme: controller.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// count notes the writes.
func (w *world) count(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err == nil && req.Method != http.MethodGet && resp.StatusCode < 300 {
				w.writes = append(w.writes, req.Method+" "+req.URL.Path)
			}
			return resp, err
		})
	})
	return cfg
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// settle reconciles until a round writes nothing.
func (w *world) settle(ctx context.Context) error {
	const most = 6
	for range most {
		w.writes = nil
		if err := w.round(ctx); err != nil {
			return err
		}
		if len(w.writes) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%d rounds, and each of them wrote, the last: %s", most, strings.Join(w.writes, ", "))
}

// round reconciles once. A spec may make the operator return an error only where the status reports it too.
func (w *world) round(ctx context.Context) error {
	w.renew()
	_, err := reconcile.AsReconciler(w.reconciler.Client, w.reconciler).Reconcile(ctx, reconcile.Request{NamespacedName: w.hook})
	if err == nil {
		return nil
	}
	accepted, readErr := w.accepted(ctx)
	if readErr != nil {
		return readErr
	}
	if accepted == nil || accepted.Reason != v1alpha1.ReasonChildRefused {
		return fmt.Errorf("reconcile: %w", err)
	}
	return nil
}

func (w *world) get(ctx context.Context) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("HeymarketWebhook"))
	return u, w.person.Get(ctx, w.hook, u)
}

func (w *world) accepted(ctx context.Context) (*metav1.Condition, error) {
	h := &v1alpha1.HeymarketWebhook{}
	if err := w.person.Get(ctx, w.hook, h); err != nil {
		return nil, err
	}
	for _, c := range h.Status.Conditions {
		if c.Type == v1alpha1.ConditionAccepted {
			return &c, nil
		}
	}
	return nil, nil
}

// put creates the resource or gives it another spec, as a person does who has unknown fields refused.
func (w *world) put(ctx context.Context, spec map[string]any) error {
	u, err := w.get(ctx)
	u.Object["spec"] = runtime.DeepCopyJSON(spec)
	strict := metav1.FieldValidationStrict
	if err == nil {
		return w.person.Update(ctx, u, client.FieldValidation(strict))
	}
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	u.SetNamespace(w.hook.Namespace)
	u.SetName(w.hook.Name)
	return w.person.Create(ctx, u, client.FieldValidation(strict))
}

// furnish creates the objects that the resource refers to, and updates existing ones with other content.
func (w *world) furnish(ctx context.Context) error {
	h := &v1alpha1.HeymarketWebhook{}
	if err := w.person.Get(ctx, w.hook, h); err != nil {
		return err
	}
	for _, target := range h.Spec.Targets {
		// A Service that is missing is a condition, and changes nothing else; now and then one is.
		if target.Service == nil || strings.HasSuffix(target.Service.Name, "a") {
			continue
		}
		err := w.person.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.hook.Namespace, Name: target.Service.Name},
			Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone},
		})
		if client.IgnoreAlreadyExists(err) != nil {
			return err
		}
	}
	changed := map[string]bool{}
	for _, ref := range desired.References(h) {
		data := w.secrets[ref.Secret]
		if data == nil {
			data = map[string]string{}
			w.secrets[ref.Secret] = data
		}
		if data[ref.Key] == "" {
			data[ref.Key] = content(ref)
			changed[ref.Secret] = true
		}
	}
	for name := range changed {
		if err := w.putSecret(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) putSecret(ctx context.Context, name string) error {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.hook.Namespace, Name: name}, StringData: w.secrets[name]}
	if err := w.person.Delete(ctx, s); client.IgnoreNotFound(err) != nil {
		return err
	}
	return w.person.Create(ctx, s)
}

// contents are of every sort that a reference asks for; where one is good for several, the first is taken.
var contents = []string{
	"canary-7f3a9c51e2",
	"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwcanary00",
	"rediss://another.example.com:6379/1",
	certificate(),
}

func content(ref desired.Reference) string {
	for _, c := range contents {
		if ref.Check([]byte(c)) == nil {
			return c
		}
	}
	panic("no content is good for " + ref.Field) // Another sort of reference is new: add a content for it.
}

func certificate() string {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func (w *world) state(ctx context.Context) (snapshot.State, error) {
	return snapshot.Read(ctx, w.person, w.kinds, w.hook)
}

// clear removes the resource and its children, as the garbage collector would.
func (w *world) clear(ctx context.Context, children []*unstructured.Unstructured) error {
	u, err := w.get(ctx)
	if err != nil {
		return err
	}
	if len(u.GetFinalizers()) > 0 {
		u.SetFinalizers(nil)
		if err := w.person.Update(ctx, u); err != nil {
			return err
		}
	}
	for _, obj := range append([]*unstructured.Unstructured{u}, children...) {
		if err := w.person.Delete(ctx, obj); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// scale plays an autoscaler.
func (w *world) scale(ctx context.Context, replicas int64) error {
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
	d := &unstructured.Unstructured{}
	d.SetGroupVersionKind(apischema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"})
	d.SetNamespace(w.hook.Namespace)
	d.SetName(contract.ReceiverName(w.hook.Name))
	err := w.person.SubResource("scale").Patch(ctx, d, client.RawPatch("application/merge-patch+json", []byte(patch)), client.FieldOwner("autoscaler"))
	return client.IgnoreNotFound(err)
}

// bySentence reports whether the API server has refused for rules alone, with their own messages. The error names any other cause.
func bySentence(err error, sentences []string) error {
	var status interface{ Status() metav1.Status }
	if !errors.As(err, &status) || status.Status().Reason != metav1.StatusReasonInvalid || status.Status().Details == nil {
		return err
	}
	for _, cause := range status.Status().Details.Causes {
		known := false
		for _, s := range sentences {
			known = known || strings.Contains(cause.Message, s)
		}
		// A value that a rule could not check because of another mistake is not a separate mistake.
		if !known && !strings.Contains(cause.Message, "some validation rules were not checked") {
			return fmt.Errorf("refused for no rule: %s: %s", cause.Field, cause.Message)
		}
	}
	return nil
}
