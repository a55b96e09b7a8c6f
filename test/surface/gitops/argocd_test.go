package gitops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/controller"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/test/support/fakecluster"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	apiservertest.Main(m)
}

// argoCD is Argo CD's own code with an API server, and the settings of docs/gitops.md in it.
type argoCD struct {
	client.Client

	t          *testing.T
	kubeconfig string
}

func newArgoCD(t *testing.T) argoCD {
	t.Helper()
	apiservertest.InstallExtensions(t)
	c, err := client.New(apiservertest.Config(t), client.Options{Scheme: controller.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	a := argoCD{Client: c, t: t, kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	apiservertest.Kubeconfig(t, a.kubeconfig)
	key := regexp.MustCompile("`(resource\\.customizations\\.health\\.[^`]+)`").FindStringSubmatch(read(t, "docs/gitops.md"))
	if key == nil {
		t.Fatal("docs/gitops.md does not say under which key the script goes")
	}
	settings := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "argocd", Name: "argocd-cm", Labels: map[string]string{"app.kubernetes.io/part-of": "argocd"}},
		Data:       map[string]string{key[1]: read(t, "examples/argocd/health.lua")},
	}
	for _, object := range []client.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: settings.Namespace}}, settings} {
		a.do(client.IgnoreAlreadyExists(c.Create(t.Context(), object)))
	}
	return a
}

func (a argoCD) do(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// run runs a command of the program in argocd/ over objects, and decodes the lines that it prints.
func run[T any](a argoCD, command string, objects []*unstructured.Unstructured) []T {
	a.t.Helper()
	var in, out, complaint bytes.Buffer
	for _, object := range objects {
		a.do(json.NewEncoder(&in).Encode(object.Object))
	}
	// Without optimization, which compiles a thousand packages in two thirds of the time.
	cmd := exec.CommandContext(a.t.Context(), "go", "-C", "argocd", "run", "-gcflags=all=-N -l", ".", a.kubeconfig, command)
	cmd.Env = append(os.Environ(), "GOWORK=off", "KUBECACHEDIR="+a.t.TempDir())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &complaint
	if err := cmd.Run(); err != nil {
		a.t.Fatalf("%s: %v\n%s", command, err, complaint.String())
	}
	var lines []T
	for decoder := json.NewDecoder(&out); ; {
		var line T
		if err := decoder.Decode(&line); errors.Is(err, io.EOF) {
			return lines
		} else if err != nil {
			a.t.Fatal(err)
		}
		lines = append(lines, line)
	}
}

func (a argoCD) sync(command string, manifests []*unstructured.Unstructured) {
	a.t.Helper()
	run[struct{}](a, command, manifests)
}

// inSync fails the test for each manifest that Argo CD calls OutOfSync, by whichever of its ways to compare.
func (a argoCD) inSync(manifests []*unstructured.Unstructured) {
	a.t.Helper()
	type difference struct {
		Object, Comparison string
		Expected, Found    any
	}
	for _, d := range run[difference](a, "compare", manifests) {
		a.t.Errorf("%s is OutOfSync by the comparison %q, -expected +found:\n%s", d.Object, d.Comparison, cmp.Diff(d.Expected, d.Found))
	}
}

type health struct{ Object, Health, Message string }

func (a argoCD) health(objects ...*unstructured.Unstructured) []health {
	a.t.Helper()
	return run[health](a, "health", objects)
}

// live reads an object as Argo CD sees it.
func (a argoCD) live(kind apischema.GroupVersionKind, namespace, name string) *unstructured.Unstructured {
	a.t.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	a.do(a.Get(a.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, u))
	return u
}

func (a argoCD) namespace(prefix string) string {
	a.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix}}
	a.do(a.Create(a.t.Context(), ns))
	return ns.Name
}

// manifests reads YAML documents. Helm's hooks are left out, as those for which Argo CD has no counterpart.
func manifests(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var list []*unstructured.Unstructured
	for decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		u := &unstructured.Unstructured{}
		if err := decoder.Decode(&u.Object); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		if len(u.Object) > 0 && u.GetAnnotations()["helm.sh/hook"] == "" {
			list = append(list, u)
		}
	}
}

// An operator reconciles webhooks on demand, in a cluster whose kubelet and controllers act on demand too.
type operator struct {
	a     argoCD
	stage *fakecluster.Stage
}

// look reconciles a webhook three times: each by a new reconciler, which does not wait between writes of the status.
func (o operator) look(hook client.ObjectKey) {
	o.a.t.Helper()
	for range 3 {
		r := &controller.Reconciler{
			Client: o.a, Live: o.a, Events: &events.FakeRecorder{}, Pods: o.stage, OptionalKinds: everything{},
			Redis:     func() desired.SharedRedis { return desired.SharedRedis{URL: "redis://redis.example.com:6379/0"} },
			Settings:  controller.Settings{ReceiverImage: "example.com/receiver:1"},
			Claimants: func(context.Context, string) ([]*v1alpha1.HeymarketWebhook, error) { return nil, nil },
			Referrers: func(context.Context, string, string) ([]*v1alpha1.HeymarketWebhook, error) { return nil, nil },
		}
		_, err := reconcile.AsReconciler(r.Client, r).Reconcile(o.a.t.Context(), reconcile.Request{NamespacedName: hook})
		o.a.do(err)
	}
}

type everything struct{}

// Served implements controller.OptionalKinds.
func (everything) Served(apischema.GroupVersionKind) bool { return true }

var webhookKind = v1alpha1.GroupVersion.WithKind("HeymarketWebhook")

// What Git has and what the cluster has are the same to Argo CD, with every field of a webhook set, after the API server has added
// defaults and the operator a finalizer and a status; and synchronizing again writes nothing.
func TestArgoCDSeesWebhooksInSync(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "internal", "controller", "desired", "testdata", "*.yaml"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, way := range []string{"apply", "apply-server-side"} {
		t.Run(way, func(t *testing.T) {
			a := newArgoCD(t)
			o, ns := operator{a, fakecluster.New(a)}, a.namespace(way+"-")
			var hooks []*unstructured.Unstructured
			for _, file := range files {
				if strings.HasSuffix(file, ".golden.yaml") {
					continue
				}
				text, err := os.ReadFile(file)
				a.do(err)
				hook := manifests(t, strings.Replace(string(text), "cpu: 0.5", "cpu: 500m", 1))[0] // the API server takes no fractions
				name := strings.TrimSuffix(filepath.Base(file), ".yaml")
				hook.Object["metadata"] = map[string]any{"namespace": ns, "name": name}
				hooks = append(hooks, hook)
			}
			a.sync(way, hooks)
			versions := func() map[string]string {
				found := map[string]string{}
				for _, hook := range hooks {
					o.look(client.ObjectKeyFromObject(hook))
					a.do(o.stage.Play(t.Context(), client.ObjectKeyFromObject(hook)))
					o.look(client.ObjectKeyFromObject(hook))
					found[hook.GetName()] = a.live(webhookKind, ns, hook.GetName()).GetResourceVersion()
				}
				return found
			}
			before := versions()
			a.inSync(hooks)
			a.sync(way, hooks)
			if diff := cmp.Diff(before, versions()); diff != "" {
				t.Errorf("synchronizing again, -before +after:\n%s", diff)
			}
		})
	}
}

// The health of the quickstart and of its receiver, step by step.
func TestArgoCDShowsTheHealthOfTheQuickstart(t *testing.T) {
	a := newArgoCD(t)
	o, ns := operator{a, fakecluster.New(a)}, a.namespace("quickstart-")
	var quickstart []*unstructured.Unstructured
	for _, file := range []string{"token", "crm", "webhook"} {
		quickstart = append(quickstart, manifests(t, strings.ReplaceAll(read(t, "examples/quickstart/"+file+".yaml"), "staging", ns))...)
	}
	hook := client.ObjectKey{Namespace: ns, Name: "support"}
	want := func(when, health, message string) {
		t.Helper()
		got := a.health(a.live(webhookKind, ns, hook.Name))[0]
		if got.Health != health || !strings.Contains(got.Message, message) {
			t.Errorf("%s: %s, %q; want %s, %q", when, got.Health, got.Message, health, message)
		}
	}
	children := func(when string, health map[string]string) {
		t.Helper()
		got := map[string]string{}
		for _, v := range a.health(
			a.live(appsv1.SchemeGroupVersion.WithKind("Deployment"), ns, "support-receiver"),
			a.live(corev1.SchemeGroupVersion.WithKind("Service"), ns, "support-receiver"),
			a.live(networkingv1.SchemeGroupVersion.WithKind("Ingress"), ns, "support-receiver"),
			a.live(corev1.SchemeGroupVersion.WithKind("Secret"), ns, "support-receiver"),
		) {
			got[strings.Fields(v.Object)[0]] = v.Health
		}
		if diff := cmp.Diff(health, got); diff != "" {
			t.Errorf("%s, -want +got:\n%s", when, diff)
		}
	}

	a.sync("apply", quickstart)
	want("created", "Progressing", "not looked at it yet")
	o.look(hook)
	want("without Pods", "Progressing", "")
	children("without Pods", map[string]string{"Deployment": "Progressing", "Service": "Healthy", "Ingress": "Progressing", "Secret": ""})
	a.do(o.stage.Play(t.Context(), hook))
	o.look(hook)
	want("with Pods and an address", "Healthy", "")
	children("with Pods and an address", map[string]string{"Deployment": "Healthy", "Service": "Healthy", "Ingress": "Healthy", "Secret": ""})
	a.inSync(quickstart)

	webhook := quickstart[len(quickstart)-1]
	a.do(unstructured.SetNestedField(webhook.Object, true, "spec", "paused"))
	a.sync("apply", quickstart)
	want("changed", "Progressing", "")
	o.look(hook)
	a.do(o.stage.Play(t.Context(), hook))
	o.look(hook)
	want("paused", "Suspended", "paused")
	unstructured.RemoveNestedField(webhook.Object, "spec", "paused")
	a.sync("apply", quickstart)
	o.look(hook)
	a.inSync(quickstart)

	stuck := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "support-receiver"}}
	a.do(a.Get(t.Context(), client.ObjectKeyFromObject(stuck), stuck))
	stuck.Status = appsv1.DeploymentStatus{ObservedGeneration: stuck.Generation, Replicas: 2, UnavailableReplicas: 2, Conditions: []appsv1.DeploymentCondition{
		{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: "has timed out progressing"},
		{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse, Reason: "MinimumReplicasUnavailable"},
	}}
	a.do(a.Status().Update(t.Context(), stuck))
	o.look(hook)
	want("its rollout is stuck", "Degraded", "")
	children("its rollout is stuck", map[string]string{"Deployment": "Degraded", "Service": "Healthy", "Ingress": "Healthy", "Secret": ""})
	a.do(o.stage.Play(t.Context(), hook))
	o.look(hook)
	want("recovered", "Healthy", "")

	a.do(a.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "heymarket"}}))
	o.look(hook)
	want("without its token", "Degraded", "heymarket")
	a.do(a.Patch(t.Context(), a.live(webhookKind, ns, hook.Name), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":["example.com/wait"]}}`))))
	a.do(a.Delete(t.Context(), a.live(webhookKind, ns, hook.Name)))
	want("being deleted", "Progressing", "deletion")
	a.do(a.Patch(t.Context(), a.live(webhookKind, ns, hook.Name), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))))
}

// The operator's chart, rendered without a cluster as Argo CD does, with the values that docs/gitops.md asks for.
func TestArgoCDSeesTheChartInSync(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "-C", root, "tool", "-n", "-modfile=hack/tools/go.mod", "helm").Output()
	if err != nil {
		t.Fatalf("helm: %v", err)
	}
	helm := strings.TrimSpace(string(out))
	for name, values := range map[string]string{
		"own-redis": "{redis: {existingSecret: {name: redis}}, replicas: 2, podDisruptionBudget: {enabled: true}, networkPolicy: {enabled: true}, receiver: {networkPolicy: {enabled: true}}}",
		"bundled":   "{redis: {bundled: {password: sixteenletters123, persistence: {mode: Always}}}, resources: {limits: {cpu: 1, memory: 1Gi}}, monitoring: {dashboard: {enabled: true}}}",
	} {
		for _, way := range []string{"apply", "apply-server-side"} {
			t.Run(name+", "+way, func(t *testing.T) {
				a := newArgoCD(t)
				ns := a.namespace("chart-")
				cmd := exec.CommandContext(t.Context(), helm, "template", ns, filepath.Join(root, "charts", "heymarket-operator"), "--namespace", ns, "--values", "-", "--set", "tests.enabled=false")
				cmd.Stdin = strings.NewReader(values)
				rendered, err := cmd.Output()
				if err != nil {
					t.Fatalf("helm template: %v", err)
				}
				objects := manifests(t, string(rendered))
				if len(objects) < 8 {
					t.Fatalf("only %d objects are rendered", len(objects))
				}
				a.sync(way, objects)
				a.inSync(objects)
				for i, object := range objects {
					objects[i] = a.live(object.GroupVersionKind(), object.GetNamespace(), object.GetName())
				}
				for _, v := range a.health(objects...) {
					if v.Health == "Degraded" || v.Health == "Unknown" {
						t.Errorf("%s is %s: %s", v.Object, v.Health, v.Message)
					}
				}
			})
		}
	}
}

// The script in Argo CD's engine, for webhooks in each state.
func TestArgoCD(t *testing.T) {
	a := newArgoCD(t)
	var objects []*unstructured.Unstructured
	for name, tc := range cases {
		object := &unstructured.Unstructured{Object: decode(t, tc.object)}
		object.SetGroupVersionKind(webhookKind)
		object.SetName(name)
		objects = append(objects, object)
	}
	verdicts := a.health(objects...)
	if len(verdicts) != len(cases) {
		t.Fatalf("%d verdicts of %d webhooks", len(verdicts), len(cases))
	}
	for _, v := range verdicts {
		name := strings.TrimPrefix(v.Object, "HeymarketWebhook ")
		if want := cases[name].argo; v.Health != want || len(v.Message) < 10 {
			t.Errorf("%s: %s, %q; want %s with a message", name, v.Health, v.Message, want)
		}
	}
}
