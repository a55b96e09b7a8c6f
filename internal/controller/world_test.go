package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr/funcr"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/controller/source"
	"heymarket.dev/operator/internal/receiver/config"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(funcr.New(func(string, string) {}, funcr.Options{}))
	apiservertest.Main(m)
}

// canary is the token in every test's Secret. It may appear in that Secret, and nowhere else.
const canary = "canary-7f3a9c51e2"

// signingKey is one that Standard Webhooks would take. It, too, belongs in users' Secrets alone.
const signingKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwcanary00"

// certificate is in PEM form.
func certificate(t *testing.T) string {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return inPEM(s)
}

func inPEM(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

const smallest = `
token: {secretKeyRef: {name: heymarket}}
targets: [{name: crm, url: 'http://crm.example.com/in'}]
`

// world is a namespace on the real API server, a reconciler that is called directly, and a person who changes things.
type world struct {
	t         *testing.T
	namespace string
	// person reads and writes without being counted.
	person client.Client
	r      *Reconciler
	writes *writeLog
	events *events.FakeRecorder
	pods   *fakePods
	redis  string
	// redisCA is nil for the system's authorities.
	redisCA []byte
	logs    *syncBuffer
	// serves are the kinds that not every cluster has, for the reconciler that is called directly.
	serves served
}

type served map[schema.GroupVersionKind]bool

func (s served) Served(kind schema.GroupVersionKind) bool { return s[kind] }

func newWorld(t *testing.T) *world {
	t.Helper()
	cfg := apiservertest.Config(t)
	w := &world{
		t:      t,
		writes: &writeLog{},
		events: &events.FakeRecorder{Events: make(chan string, 100)},
		pods:   &fakePods{},
		redis:  "redis://redis.example.com:6379/0",
		logs:   &syncBuffer{},
		serves: served{},
	}
	w.person = newClient(t, cfg)
	counted := newClient(t, w.writes.count(cfg))
	w.r = &Reconciler{
		Client: cachedChildren{counted},
		Live:   counted,
		Events: w.events,
		Pods:   w.pods,
		Redis:  func() desired.SharedRedis { return desired.SharedRedis{URL: w.redis, CA: w.redisCA} },

		OptionalKinds: w.serves,
		Settings: Settings{
			ReceiverImage: "heymarket.dev/operator:v1", ReceiverUserID: desired.ImageUser, HostTemplate: hostTemplate(t, "{{.Namespace}}.hooks.example.com"),
			AllowedAnnotations: AllowList{"*"}, AllowedLabels: AllowList{"*"},
		},
	}
	w.r.Claimants = func(ctx context.Context, claim string) (out []*v1alpha1.HeymarketWebhook, err error) {
		var list v1alpha1.HeymarketWebhookList
		err = w.person.List(ctx, &list)
		for i := range list.Items {
			if slices.Contains(w.r.Settings.claims(&list.Items[i]), claim) {
				out = append(out, &list.Items[i])
			}
		}
		return out, err
	}
	w.r.Referrers = func(ctx context.Context, namespace, secret string) (out []*v1alpha1.HeymarketWebhook, err error) {
		var list v1alpha1.HeymarketWebhookList
		err = w.person.List(ctx, &list, client.InNamespace(namespace))
		for i := range list.Items {
			if slices.Contains(source.SecretsOf(&list.Items[i]), secret) {
				out = append(out, &list.Items[i])
			}
		}
		return out, err
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "hook-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	w.do(w.person.Create(t.Context(), ns))
	w.namespace = ns.Name
	t.Cleanup(w.lookForCanary)
	return w
}

// cachedChildren is a client that has of children what the caches have. Unstructured objects are not read from caches.
type cachedChildren struct{ client.Client }

func (c cachedChildren) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	err := c.Client.Get(ctx, key, obj, opts...)
	switch obj.(type) {
	case *v1alpha1.HeymarketWebhook, *unstructured.Unstructured, *metav1.PartialObjectMetadata:
		return err
	}
	if err != nil {
		return err
	}
	kept, err := slim(obj.DeepCopyObject())
	is := reflect.ValueOf(obj).Elem()
	if obj.GetLabels()[contract.LabelManagedBy] != contract.ManagedByValue {
		is.SetZero()
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	is.Set(reflect.ValueOf(kept).Elem())
	return err
}

func newClient(t *testing.T, cfg *rest.Config) client.Client {
	t.Helper()
	c, err := client.New(cfg, client.Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func hostTemplate(t *testing.T, s string) *HostTemplate {
	t.Helper()
	h, err := ParseHostTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (w *world) do(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) secret(name string, data map[string]string) {
	w.t.Helper()
	w.do(w.person.Create(w.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		StringData: data,
	}))
}

// webhook creates the HeymarketWebhook "support".
func (w *world) webhook(spec string) {
	w.t.Helper()
	hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "support"}}
	w.do(yaml.UnmarshalStrict([]byte(spec), &hook.Spec))
	w.do(w.person.Create(w.t.Context(), hook))
}

// settled is a world in which the smallest webhook has been reconciled.
func settled(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	w.reconcile()
	return w
}

func (w *world) tryReconcile() (reconcile.Result, error) {
	w.t.Helper()
	logger := funcr.New(func(prefix, args string) { fmt.Fprintln(w.logs, prefix, args) }, funcr.Options{Verbosity: 10})
	ctx := log.IntoContext(w.t.Context(), logger)
	res, err := reconcile.AsReconciler(w.r.Client, w.r).Reconcile(ctx, reconcile.Request{NamespacedName: w.key("support")})
	if err != nil {
		fmt.Fprintln(w.logs, err)
	}
	return res, err
}

func (w *world) reconcile() reconcile.Result {
	w.t.Helper()
	res, err := w.tryReconcile()
	w.do(err)
	return res
}

// quiet fails unless one more reconcile writes nothing.
func (w *world) quiet() {
	w.t.Helper()
	w.writes.take()
	w.reconcile()
	if got := w.writes.take(); len(got) > 0 {
		w.t.Errorf("a settled resource caused %d writes: %v", len(got), got)
	}
}

func (w *world) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: w.namespace, Name: name}
}

func (w *world) hook() *v1alpha1.HeymarketWebhook {
	return get(w, "support", &v1alpha1.HeymarketWebhook{})
}
func (w *world) urlSecret() *corev1.Secret    { return get(w, "support-url", &corev1.Secret{}) }
func (w *world) configSecret() *corev1.Secret { return get(w, "support-receiver", &corev1.Secret{}) }

func (w *world) service() *corev1.Service { return get(w, "support-receiver", &corev1.Service{}) }

func (w *world) ingress() *networkingv1.Ingress {
	return get(w, "support-receiver", &networkingv1.Ingress{})
}

func (w *world) budget() *policyv1.PodDisruptionBudget {
	return get(w, "support-receiver", &policyv1.PodDisruptionBudget{})
}

func (w *world) autoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	return get(w, "support-receiver", &autoscalingv2.HorizontalPodAutoscaler{})
}

func (w *world) deployment() *appsv1.Deployment {
	return get(w, "support-receiver", &appsv1.Deployment{})
}

func (w *world) config() config.Config {
	w.t.Helper()
	c, err := config.Decode(w.configSecret().Data[desired.KeyConfig])
	w.do(err)
	return c
}

func get[T client.Object](w *world, name string, obj T) T {
	w.t.Helper()
	w.do(w.person.Get(w.t.Context(), w.key(name), obj))
	return obj
}

// exists reports which of the children exist, in short.
func (w *world) exist() string {
	w.t.Helper()
	var found []string
	for _, c := range []struct {
		name string
		obj  client.Object
	}{
		{"support-url", &corev1.Secret{}},
		{"support-receiver", &corev1.Secret{}},
		{"support-receiver", &corev1.Service{}},
		{"support-receiver", &networkingv1.NetworkPolicy{}},
		{"support-receiver", &appsv1.Deployment{}},
		{"support-receiver", &policyv1.PodDisruptionBudget{}},
		{"support-receiver", &autoscalingv2.HorizontalPodAutoscaler{}},
		{"support-receiver", &networkingv1.Ingress{}},
	} {
		err := w.person.Get(w.t.Context(), w.key(c.name), c.obj)
		w.do(client.IgnoreNotFound(err))
		if err == nil {
			found = append(found, reflect.TypeOf(c.obj).Elem().Name()+" "+c.name)
		}
	}
	return strings.Join(found, ", ")
}

const allChildren = "Secret support-url, Secret support-receiver, Service support-receiver, Deployment support-receiver, PodDisruptionBudget support-receiver, Ingress support-receiver"

// change changes an object as a person would.
func change[T client.Object](w *world, obj T, mutate func(T)) {
	w.t.Helper()
	before := obj.DeepCopyObject().(T)
	mutate(obj)
	w.do(w.person.Patch(w.t.Context(), obj, client.MergeFrom(before)))
}

// condition fails unless the condition has this value for the current generation. ok is also the expected effect on Ready.
func (w *world) condition(name string, ok bool, reason string, words ...string) {
	w.t.Helper()
	hook := w.hook()
	c := meta.FindStatusCondition(hook.Status.Conditions, name)
	if c == nil {
		w.t.Fatalf("no condition %s", name)
	}
	if got, want := c.Status == metav1.ConditionTrue, ok; got != want || c.Reason != reason {
		w.t.Errorf("%s is %s, %s (%s), want %v, %s", name, c.Status, c.Reason, c.Message, ok, reason)
	}
	if c.ObservedGeneration != hook.Generation || hook.Status.ObservedGeneration != hook.Generation {
		w.t.Errorf("%s observed generation %d, the status %d, want %d", name, c.ObservedGeneration, hook.Status.ObservedGeneration, hook.Generation)
	}
	for _, word := range words {
		if !strings.Contains(c.Message, word) {
			w.t.Errorf("the message of %s is %q, want it to name %q", name, c.Message, word)
		}
	}
	ready := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionReady)
	if !ok && ready.Status == metav1.ConditionTrue {
		w.t.Errorf("Ready although not %s", name)
	}
}

// rollOut plays Deployment controller, kubelet and endpoint controller: n Pods of the present template are ready.
func (w *world) rollOut(n int) {
	w.t.Helper()
	d := w.deployment()
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation,
		Replicas:           *d.Spec.Replicas, UpdatedReplicas: *d.Spec.Replicas, ReadyReplicas: int32(n), AvailableReplicas: int32(n),
		Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"}},
	}
	w.do(w.person.Status().Update(w.t.Context(), d))
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "support-receiver-abc"}}
	err := w.person.Get(w.t.Context(), client.ObjectKeyFromObject(slice), slice)
	w.do(client.IgnoreNotFound(err))
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "support-receiver"}
	maps.Copy(slice.Labels, w.service().Labels)
	slice.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(w.service(), corev1.SchemeGroupVersion.WithKind("Service"))}
	slice.AddressType = discoveryv1.AddressTypeIPv4
	slice.Endpoints = nil
	for i := range int(*d.Spec.Replicas) {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.1.0.%d", i+1)},
			Conditions: discoveryv1.EndpointConditions{Ready: new(i < n)},
		})
	}
	if err != nil {
		w.do(w.person.Create(w.t.Context(), slice))
	} else {
		w.do(w.person.Update(w.t.Context(), slice))
	}
}

// admit plays ingress controller.
func (w *world) admit(ip string) {
	w.t.Helper()
	i := w.ingress()
	i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: ip}}
	w.do(w.person.Status().Update(w.t.Context(), i))
}

// recorded returns the events so far.
func (w *world) recorded() []string {
	var out []string
	for {
		select {
		case e := <-w.events.Events:
			out = append(out, e)
			fmt.Fprintln(w.logs, e) // So that lookForCanary sees it.
		default:
			return out
		}
	}
}

// lookForCanary searches everything that the operator has made for the token, and for the URL's secret where it may not be.
func (w *world) lookForCanary() {
	ctx := context.WithoutCancel(w.t.Context())
	w.recorded()
	segment := ""
	url := &corev1.Secret{}
	if err := w.person.Get(ctx, w.key("support-url"), url); err == nil {
		segment = string(url.Data[desired.KeySegment])
	}
	search := func(what string, text []byte, secrets ...string) {
		for _, s := range secrets {
			if s != "" && bytes.Contains(text, []byte(s)) {
				w.t.Errorf("a secret is in %s", what)
			}
		}
	}
	search("the logs or events", w.logs.bytes(), canary, signingKey, segment, w.redis)
	for _, list := range []client.ObjectList{
		&v1alpha1.HeymarketWebhookList{}, &appsv1.DeploymentList{}, &corev1.ServiceList{}, &networkingv1.IngressList{},
		&corev1.ConfigMapList{}, &corev1.EventList{},
	} {
		if err := w.person.List(ctx, list, client.InNamespace(w.namespace)); err != nil {
			w.t.Errorf("look for the canary: %v", err)
		}
		b, _ := json.Marshal(list)
		search(fmt.Sprintf("%T", list), b, canary, signingKey, segment, w.redis)
	}
	var secrets corev1.SecretList
	if err := w.person.List(ctx, &secrets, client.InNamespace(w.namespace), client.HasLabels{contract.LabelManagedBy}); err != nil {
		w.t.Errorf("look for the canary: %v", err)
	}
	for _, s := range secrets.Items {
		for _, v := range s.Data {
			search("Secret "+s.Name, v, canary, signingKey)
		}
	}
}

// fakePods answers for all Pods.
type fakePods struct {
	mu     sync.Mutex
	serves map[string]contract.Status // by address; absent means that the Pod does not answer
	asked  int
	// silent are addresses that take a connection and never answer, and waited is how many wait for them.
	silent netip.Prefix
	waited atomic.Int64
}

func (p *fakePods) Report(ctx context.Context, at PodAddress) (contract.Status, error) {
	a := at.Address
	if p.silent.Contains(a) {
		p.waited.Add(1)
		defer p.waited.Add(-1)
		<-ctx.Done()
		return contract.Status{}, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if r, ok := p.serves[a.String()]; ok {
		return r, nil
	}
	return contract.Status{}, errors.New("connection refused")
}

// serve makes the Pods with these addresses serve what is in the Secret now, in good health.
func (w *world) serve(addresses ...string) {
	w.t.Helper()
	report := contract.Status{ConfigDigest: desired.DigestOf(w.configSecret().Data), Redis: "ok", Durable: true}
	for _, t := range w.hook().Spec.Targets {
		report.Targets = append(report.Targets, contract.TargetStatus{Name: t.Name, Circuit: "Closed"})
	}
	w.pods.mu.Lock()
	defer w.pods.mu.Unlock()
	if w.pods.serves == nil {
		w.pods.serves = map[string]contract.Status{}
	}
	for _, a := range addresses {
		r := report
		r.Targets = slices.Clone(report.Targets)
		w.pods.serves[a] = r
	}
}

// says sets the report of the Pod with this address.
func (w *world) says(address string, change func(*contract.Status)) {
	w.pods.mu.Lock()
	defer w.pods.mu.Unlock()
	r := w.pods.serves[address]
	r.Targets = slices.Clone(r.Targets)
	change(&r)
	w.pods.serves[address] = r
}

// writeLog counts the requests that change something.
type writeLog struct {
	mu   sync.Mutex
	seen []string
	// read counts the other requests, watches left out.
	read atomic.Int64
}

func (l *writeLog) count(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodGet {
				if !req.URL.Query().Has("watch") {
					l.read.Add(1)
				}
			} else {
				l.mu.Lock()
				l.seen = append(l.seen, req.Method+" "+req.URL.Path)
				l.mu.Unlock()
			}
			return next.RoundTrip(req)
		})
	})
	return cfg
}

// take returns what was written since it was called last, the namespace left out.
func (l *writeLog) take() []string {
	out := l.peek()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = l.seen[len(out):]
	return out
}

// peek is take without forgetting.
func (l *writeLog) peek() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, s := range l.seen {
		method, path, _ := strings.Cut(s, " ")
		parts := strings.Split(path, "/")
		if n := slices.Index(parts, "namespaces"); n >= 0 && len(parts) > n+2 {
			path = strings.Join(parts[n+2:], "/")
		}
		out = append(out, method+" "+path)
	}
	return out
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.b.Bytes())
}
