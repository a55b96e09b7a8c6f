package controller

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/controller/source"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
	"heymarket.dev/operator/internal/testenv"
)

// operator returns a way to the API server with the rights of config/rbac and no others.
func operator(t *testing.T, name string) *rest.Config {
	t.Helper()
	name += "-" + utilrand.String(5) // The API server outlives one run of a test under -count.
	cfg := apiservertest.User(t, name)
	admin := newClient(t, apiservertest.Config(t))
	role := clusterRole(t)
	role.Name = name
	if err := admin.Create(t.Context(), &role); err != nil {
		t.Fatal(err)
	}
	if err := admin.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// operatorIn returns a way to the API server for the operator's ServiceAccount, which has the Roles of config/namespaced
// in these namespaces, and no other right.
func operatorIn(t *testing.T, namespaces ...string) *rest.Config {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	admin := newClient(t, apiservertest.Config(t))
	var binding rbacv1.RoleBinding
	for _, ns := range namespaces {
		var role rbacv1.Role
		for file, obj := range map[string]client.Object{"role.yaml": &role, "role_binding.yaml": &binding} {
			text, err := os.ReadFile(filepath.Join(root, "config", "namespaced", "rights", file))
			if err != nil {
				t.Fatal(err)
			}
			obj.SetResourceVersion("")
			if err := yaml.UnmarshalStrict(text, obj); err != nil {
				t.Fatal(err)
			}
			obj.SetNamespace(ns)
			if err := admin.Create(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
		}
	}
	account := binding.Subjects[0]
	cfg := apiservertest.User(t, "system:serviceaccount:"+account.Namespace+":"+account.Name)
	if err := newClient(t, cfg).List(t.Context(), &corev1.ServiceList{}); !apierrors.IsForbidden(err) {
		t.Fatalf("the ServiceAccount has rights in all namespaces: %v", err)
	}
	return cfg
}

func clusterRole(t *testing.T) rbacv1.ClusterRole {
	t.Helper()
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	roles, err := os.ReadFile(filepath.Join(root, "config", "rbac", "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.ClusterRole
	for doc := range bytes.SplitSeq(roles, []byte("---\n")) {
		if bytes.Contains(doc, []byte("kind: ClusterRole\n")) {
			if err := yaml.UnmarshalStrict(doc, &role); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(role.Rules) == 0 {
		t.Fatal("config/rbac/role.yaml has no ClusterRole with rules")
	}
	return role
}

// manage runs the whole manager for the world until the test ends. It returns the file with the URL of Redis; beside it, if
// the world has some, are the certificates in caFile.
func (w *world) manage(cfg *rest.Config, namespaces ...string) string {
	w.t.Helper()
	return w.manageWith(w.pods, cfg, namespaces...)
}

// manageWith is manage with another way to ask Pods.
func (w *world) manageWith(pods PodStatus, cfg *rest.Config, namespaces ...string) string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "url")
	w.do(os.WriteFile(file, []byte(w.redis+"\n"), 0o600))
	ca := ""
	if w.redisCA != nil {
		ca = filepath.Join(filepath.Dir(file), caFile)
		w.do(os.WriteFile(ca, w.redisCA, 0o600))
	}
	redis, err := source.OpenRedisFiles(file, ca)
	w.do(err)
	redis.Period = 20 * time.Millisecond

	mgr, err := ctrl.NewManager(w.writes.count(cfg), ctrl.Options{
		Scheme:     Scheme(),
		Logger:     funcr.New(func(prefix, args string) { fmt.Fprintln(w.logs, prefix, args) }, funcr.Options{Verbosity: 1}),
		Cache:      CacheOptions(namespaces),
		Client:     ClientOptions(namespaces),
		Metrics:    server.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)}, // Two managers in one process, in tests alone.
	})
	w.do(err)
	settings := w.r.Settings
	settings.Namespaces = namespaces
	settings.discoveryPeriod = cmp.Or(settings.discoveryPeriod, time.Hour)
	settings.pollPeriod = cmp.Or(settings.pollPeriod, time.Hour)
	ctx, stop := context.WithCancel(w.t.Context())
	w.do(Setup(ctx, mgr, settings, redis, pods))
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Errorf("manager: %v", err)
		}
	})
	return file
}

const caFile = "ca.crt"

func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	err := wait.PollUntilContextTimeout(w.t.Context(), 20*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return condition(), nil
	})
	if err != nil {
		var hook v1alpha1.HeymarketWebhook
		_ = w.person.Get(w.t.Context(), w.key("support"), &hook)
		status, _ := yaml.Marshal(hook.Status)
		w.t.Fatalf("%s did not come about; the status is:\n%s\nthe logs are:\n%s", what, status, w.logs.bytes())
	}
}

func (w *world) reason(name string) string {
	w.t.Helper()
	if c := meta.FindStatusCondition(w.hook().Status.Conditions, name); c != nil {
		return c.Reason
	}
	return ""
}

// TestManager is not parallel: it watches all namespaces, so the other tests' resources must not be there yet.
func TestManager(t *testing.T) {
	w := newWorld(t)
	file := w.manage(operator(t, "manager-test"))

	// A missing Secret is a condition and an event; the Secret's coming wakes the resource.
	w.webhook(smallest)
	w.eventually("the refusal", func() bool { return w.reason(v1alpha1.ConditionAccepted) == v1alpha1.ReasonTokenSecretNotFound })
	w.eventually("the event", func() bool {
		var list eventsv1.EventList
		w.do(w.person.List(t.Context(), &list, client.InNamespace(w.namespace)))
		return slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Reason == v1alpha1.ReasonTokenSecretNotFound && e.Regarding.Name == "support" && strings.Contains(e.Note, "heymarket")
		})
	})
	w.writes.take()
	w.secret("heymarket", map[string]string{"token": canary})
	w.eventually("the children", func() bool { return w.exist() == allChildren })
	w.eventually("acceptance", func() bool { return w.reason(v1alpha1.ConditionAccepted) == v1alpha1.ReasonAccepted })

	// Deployment, EndpointSlice and Ingress wake it too.
	w.serve("10.1.0.1", "10.1.0.2")
	w.rollOut(2)
	w.admit("203.0.113.7")
	w.eventually("Ready", func() bool { return w.reason(v1alpha1.ConditionReady) == v1alpha1.ReasonReady })
	for _, path := range firstWrites[:6] {
		if n := count(w.writes.peek(), path); n != 1 {
			t.Errorf("%s: %d times, want once", path, n)
		}
	}

	if !workersAreCounted(t) {
		t.Error(`there is no controller_runtime_active_workers{controller="heymarketwebhook"}`)
	}

	// At rest a wake-up without news, which every change of the Secret is, writes nothing.
	w.settle()
	w.writes.take()
	change(w, get(w, "heymarket", &corev1.Secret{}), func(s *corev1.Secret) { s.Labels = map[string]string{"a": "b"} })
	w.settle()
	if got := w.writes.take(); len(got) != 0 {
		t.Errorf("writes at rest: %v", got)
	}

	// A deleted child comes back by one write; one that has lost its label by two, of which the API server refuses the first.
	w.do(w.person.Delete(t.Context(), w.service()))
	w.eventually("the Service", func() bool { return w.exist() == allChildren })
	change(w, w.service(), func(s *corev1.Service) { delete(s.Labels, contract.LabelManagedBy) })
	w.eventually("the label", func() bool { return w.service().Labels[contract.LabelManagedBy] != "" })
	w.settle()
	if n := count(w.writes.take(), "PATCH services/support-receiver"); n != 3 {
		t.Errorf("the Service was written %d times, want 3", n)
	}

	// A new URL of Redis reaches the receivers; a bad one does not.
	w.do(os.WriteFile(file, []byte("http://not-redis"), 0o600))
	w.redis = "rediss://:secret@another.example.com:6380/1"
	w.do(os.WriteFile(file, []byte(w.redis), 0o600))
	w.eventually("the URL of Redis", func() bool { return string(w.configSecret().Data[desired.KeyRedisURL]) == w.redis })

	// The Secret's going wakes the resource.
	w.do(w.person.Delete(t.Context(), get(w, "heymarket", &corev1.Secret{})))
	w.eventually("the refusal", func() bool { return w.reason(v1alpha1.ConditionReady) == v1alpha1.ReasonTokenSecretNotFound })

	// Deletion without a finalizer.
	w.do(w.person.Delete(t.Context(), w.hook()))
	err := w.person.Get(t.Context(), w.key("support"), &v1alpha1.HeymarketWebhook{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the resource is still there: %v", err)
	}
}

// workersAreCounted reports whether the metric exists that an alert of the chart uses.
func workersAreCounted(t *testing.T) bool {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "controller_runtime_active_workers" && l.GetName() == "controller" && l.GetValue() == "heymarketwebhook" {
					return true
				}
			}
		}
	}
	return false
}

// Limited to namespaces, the manager ignores the others, needs no rights there, and watches Secrets in each of its own.
func TestManagerInNamespaces(t *testing.T) {
	t.Parallel()
	first, second, other := newWorld(t), newWorld(t), newWorld(t)
	first.manage(operatorIn(t, first.namespace, second.namespace), first.namespace, second.namespace)
	other.webhook(smallest)
	other.secret("heymarket", map[string]string{"token": canary})
	for _, w := range []*world{first, second} {
		w.webhook(smallest)
		w.eventually("the refusal", func() bool { return w.reason(v1alpha1.ConditionAccepted) == v1alpha1.ReasonTokenSecretNotFound })
		w.secret("heymarket", map[string]string{"token": canary})
		w.eventually("the children", func() bool { return w.exist() == allChildren })
	}
	if got := other.exist(); got != "" {
		t.Errorf("children in another namespace: %s", got)
	}
}

// The Pods of a settled resource are polled. Changes that they report reach the status, and unchanged reports cost
// the API server not one request.
func TestManagerAsksPods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Settings.pollPeriod = 50 * time.Millisecond
	w.manage(operator(t, "poll-test"), w.namespace)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	w.eventually("the children", func() bool { return w.exist() == allChildren })
	w.serve("10.1.0.1", "10.1.0.2")
	w.rollOut(2)
	w.admit("203.0.113.7")
	w.eventually("Ready", func() bool { return w.reason(v1alpha1.ConditionReady) == v1alpha1.ReasonReady })
	polled := func(times int) {
		t.Helper()
		before := w.pods.count()
		w.eventually("a poll", func() bool { return w.pods.count() >= before+2*times })
	}
	// Ready is seen before the reconcile that writing it causes, so the rest is waited for.
	w.eventually("ten polls without a request to the API server", func() bool {
		w.writes.take()
		reads := w.writes.read.Load()
		polled(10)
		return len(w.writes.take()) == 0 && w.writes.read.Load() == reads
	})
	w.says("10.1.0.2", func(p *contract.Status) {
		p.Durable, p.DurabilityProblems = false, []string{"Redis forgets events when it restarts: its append-only file is off; set appendonly yes."}
	})
	w.eventually("the loss of durability", func() bool { return w.reason(v1alpha1.ConditionReady) == v1alpha1.ReasonNotDurable })
}

// EndpointSlices can be written by anyone with rights in the namespace. Here 40 name addresses that never answer.
func TestManagerServesANamespaceWhileThePodsOfAnotherAreSilent(t *testing.T) {
	t.Parallel()
	hostile, victim := newWorld(t), newWorld(t)
	victim.pods.silent = netip.MustParsePrefix("10.66.0.0/16")
	for i := range 40 {
		name := fmt.Sprint("hook-", i)
		hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: hostile.namespace, Name: name}}
		hostile.do(yaml.UnmarshalStrict([]byte(smallest), &hook.Spec))
		hostile.do(hostile.person.Create(t.Context(), hook))
		service := contract.ReceiverName(name)
		hostile.do(hostile.person.Create(t.Context(), &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: hostile.namespace, Name: service,
				Labels:          map[string]string{contract.LabelManagedBy: contract.ManagedByValue, contract.LabelInstance: name, discoveryv1.LabelServiceName: service},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: service, UID: "forged", Controller: new(true)}},
			},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprint("10.66.0.", i+1)}}},
		}))
	}
	victim.manage(operatorIn(t, hostile.namespace, victim.namespace), hostile.namespace, victim.namespace)
	victim.eventually("the silence", func() bool { return victim.pods.waited.Load() >= namespaceWorkers })
	victim.secret("heymarket", map[string]string{"token": canary})
	victim.webhook(smallest)
	victim.eventually("the children", func() bool { return victim.exist() == allChildren })
	if n := victim.pods.waited.Load(); n > namespaceWorkers {
		t.Errorf("%d workers wait for the Pods of one namespace, want at most %d", n, namespaceWorkers)
	}
}

// Creating or deleting a target's Service wakes the resource, and does not delay its children. An Ingress without a controller is
// eventually reported.
func TestManagerWaitsForOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Settings.pollPeriod, w.r.Settings.exposureTimeout = 50*time.Millisecond, 100*time.Millisecond
	w.manage(operator(t, "service-test"), w.namespace)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(`
token: {secretKeyRef: {name: heymarket}}
targets: [{name: crm, service: {name: crm, port: 80}}]
exposure: {ingress: {tlsSecretName: hooks-tls}}
`)
	w.eventually("the children", func() bool { return w.exist() == allChildren })
	w.eventually("the missing Service", func() bool { return w.reason(v1alpha1.ConditionAccepted) == v1alpha1.ReasonTargetServiceNotFound })
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "crm"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
	w.do(w.person.Create(t.Context(), service))
	w.eventually("acceptance", func() bool { return w.reason(v1alpha1.ConditionAccepted) == v1alpha1.ReasonAccepted })
	change(w, service, func(s *corev1.Service) { s.Spec.Ports[0].Port = 8080 })
	w.eventually("the missing port", func() bool { return w.reason(v1alpha1.ConditionAccepted) == v1alpha1.ReasonTargetPortNotFound })
	w.eventually("impatience", func() bool { return w.reason(v1alpha1.ConditionExposed) == v1alpha1.ReasonAddressMissing })
	w.admit("203.0.113.7")
	w.eventually("the missing certificate", func() bool { return w.reason(v1alpha1.ConditionExposed) == v1alpha1.ReasonCertificateMissing })
	w.secret("hooks-tls", map[string]string{corev1.TLSCertKey: "x", corev1.TLSPrivateKeyKey: "x"})
	w.eventually("the exposure", func() bool { return w.reason(v1alpha1.ConditionExposed) == v1alpha1.ReasonAdmitted })

	// Pods that do not become ready know why, once they answer.
	w.rollOut(0)
	w.eventually("the Pods", func() bool { return w.reason(v1alpha1.ConditionAvailable) == v1alpha1.ReasonNoReadyReplicas })
	if got := w.reason(v1alpha1.ConditionDurable); got != v1alpha1.ReasonDurabilityUnknown {
		t.Errorf("Durable is %s before a Pod has answered", got)
	}
	w.serve("10.1.0.1")
	w.says("10.1.0.1", troubled(contract.RedisUnreachable))
	w.eventually("the missing Redis", func() bool { return w.reason(v1alpha1.ConditionDurable) == v1alpha1.ReasonRedisUnreachable })
}

// With a private authority, receivers get its certificates, and the manager itself connects to Redis with them. Changed ones are
// reloaded while it runs.
func TestManagerTrustsAPrivateAuthority(t *testing.T) {
	t.Parallel()
	_, url, right := redistest.StartTLS(t)
	wrong := []byte(certificate(t))
	w := newWorld(t)
	w.redis, w.redisCA = url, wrong
	file := filepath.Join(filepath.Dir(w.manage(operator(t, "authority-test"), w.namespace)), caFile)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest + "deletionPolicy: Delete")
	connect := func(ca []byte) error {
		t.Helper()
		w.eventually("the certificates", func() bool {
			return w.exist() == allChildren && bytes.Equal(w.configSecret().Data[desired.KeyRedisCA], ca)
		})
		s := stream.New(w.namespace, "support", "a")
		defer s.Close()
		given := w.configSecret().Data
		return s.Connect(t.Context(), string(given[desired.KeyRedisURL]), given[desired.KeyRedisCA])
	}
	if err := connect(wrong); err == nil {
		t.Error("a receiver would trust another authority than the one that is named")
	}
	w.do(os.WriteFile(file, right, 0o600))
	if err := connect(right); err != nil {
		t.Errorf("a receiver cannot use what it is given: %v", err)
	}

	w.do(os.WriteFile(file, wrong, 0o600))
	if err := connect(wrong); err == nil {
		t.Error("a receiver would still trust the authority that was named before")
	}
}

// dials records every address that a manager connects to, after the resolution of names: to the API server by the client's Dial,
// to Redis and Pods by the Control of a dialer, which is asked before each connection. The addresses of Pods are refused: nothing
// listens there.
type dials struct {
	mu sync.Mutex
	to map[string]bool
}

func (d *dials) note(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to[address] = true
}

// take returns the addresses so far, sorted.
func (d *dials) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.to))
}

func (d *dials) control(_, address string, _ syscall.RawConn) error {
	d.note(address)
	if strings.HasPrefix(address, "10.1.") {
		return errors.New("no Pod listens in a test")
	}
	return nil
}

// recordedPods asks over the network first, as the manager does, and then answers from the fake.
type recordedPods struct {
	*HTTPPodStatus
	fake *fakePods
}

func (p recordedPods) Report(ctx context.Context, at PodAddress) (contract.Status, error) {
	if _, err := p.HTTPPodStatus.Report(ctx, at); err == nil {
		return contract.Status{}, errors.New("somebody listens at a Pod's address")
	}
	return p.fake.Report(ctx, at)
}

// The manager connects to the API server, to Pods for their /status and, if it manages Redis users, to the operator's own Redis.
// A webhook's own Redis listens here and would answer with a length that no array has: it is never connected to, neither while
// the webhook is served nor to remove its keys.
func TestManagerConnectsToNoRedisOfAResource(t *testing.T) {
	t.Parallel()
	for _, mode := range []RedisIsolation{RedisShared, RedisManaged} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			hostile, accepted := hostileRedis(t)
			own := redistest.Start(t)
			w.redis = own.URL()
			w.r.Settings.RedisIsolation, w.r.Settings.OperatorNamespace = mode, "heymarket-system"
			d := &dials{to: map[string]bool{}}
			cfg := operator(t, "dial-test-"+strings.ToLower(string(mode)))
			cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				return (&net.Dialer{Control: d.control}).DialContext(ctx, network, address)
			}
			w.r.Settings.redisDialer = &net.Dialer{Control: d.control}
			pods := unchecked(NewHTTPPodStatus(nil))
			pods.client.Transport.(*http.Transport).DialContext = (&net.Dialer{Control: d.control}).DialContext
			w.manageWith(recordedPods{pods, w.pods}, cfg, w.namespace)

			w.secret("heymarket", map[string]string{"token": canary, "redis": "redis://" + hostile + "?addr=" + hostile})
			// The other webhook of the namespace is served by the operator's own Redis.
			shared := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "shared"}}
			w.do(yaml.UnmarshalStrict([]byte(smallest), &shared.Spec))
			w.do(w.person.Create(t.Context(), shared))
			w.webhook(smallest + "deletionPolicy: Delete\nredis: {secretKeyRef: {name: heymarket, key: redis}}")
			w.eventually("acceptance", func() bool { return w.reason(v1alpha1.ConditionAccepted) == v1alpha1.ReasonAccepted })
			w.serve("10.1.0.1", "10.1.0.2")
			w.rollOut(2)
			w.eventually("Pods that are asked", func() bool { return w.pods.count() > 0 })
			w.do(w.person.Delete(t.Context(), w.hook()))
			w.collectGarbage()
			w.eventually("the Pod that removes the keys", w.removalStarted)
			w.removes(contract.Status{Removal: &contract.Removal{Done: true}})
			w.eventually("the end of the resource", func() bool { return w.gone("support") })
			if n := len(accepted); n > 0 {
				t.Errorf("%d connections to the Redis of a resource, want none", n)
			}
			api := strings.Trim(strings.TrimPrefix(cfg.Host, "https:"), "/")
			want := []string{api, "10.1.0.1:8081", "10.1.0.2:8081"}
			if mode == RedisManaged {
				want = append(want, own.Addr())
			}
			slices.Sort(want)
			got := d.take()
			t.Logf("%s: the operator connected to %q: the API server is %s, its own Redis %s, that of the webhook %s", mode, got, api, own.Addr(), hostile)
			if !slices.Equal(got, want) {
				t.Errorf("the operator connected to %q, want %q", got, want)
			}
			// By what it logs in with: only a manager of users has any business there.
			if got := strings.Contains(own.MustDo("INFO", "commandstats"), "cmdstat_acl|users"); got != (mode == RedisManaged) {
				t.Errorf("the operator listed the users of its own Redis: %v", got)
			}
		})
	}
}

// hostileRedis listens as a Redis that answers everything with an impossible length. It returns its address, and who connected.
func hostileRedis(t *testing.T) (address string, accepted chan string) {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	accepted = make(chan string, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c.RemoteAddr().String()
			_, _ = c.Write([]byte("*9223372036854775807\r\n"))
		}
	}()
	return l.Addr().String(), accepted
}

// A webhook waiting for a host and path is woken when the other one releases it.
func TestManagerSettlesConflicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manage(operator(t, "conflict-test"), w.namespace)
	w.secret("heymarket", map[string]string{"token": canary})
	first := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "a-first"}}
	w.do(yaml.UnmarshalStrict([]byte(smallest), &first.Spec))
	first.Spec.Exposure.Path = "/hooks"
	w.do(w.person.Create(t.Context(), first))
	w.webhook(smallest + "exposure: {path: /hooks}")
	w.eventually("the conflict", func() bool { return w.reason(v1alpha1.ConditionExposed) == v1alpha1.ReasonHostConflict })
	w.do(w.person.Delete(t.Context(), first))
	w.eventually("the Ingress", func() bool { return w.exist() == allChildren })
}

// settle waits until the present state has been reconciled twice more: a Ready resource asks its Pods in each round.
func (w *world) settle() {
	w.t.Helper()
	for range 2 {
		before := w.pods.count()
		change(w, get(w, "heymarket", &corev1.Secret{}), func(s *corev1.Secret) {
			s.Annotations = map[string]string{"touched": time.Now().String()}
		})
		w.eventually("another round", func() bool { return w.pods.count() > before })
	}
}

func (p *fakePods) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func count(list []string, s string) int {
	n := 0
	for _, e := range list {
		if e == s {
			n++
		}
	}
	return n
}
