package chart

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/internal/controller/desired"
)

// kustomized are the objects of a folder of config/, built by kustomize itself. Components are other folders of it.
func kustomized(t *testing.T, folder string, components ...string) []client.Object {
	t.Helper()
	config, err := filepath.Abs(filepath.Join(root, "config"))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	from, err := filepath.Rel(overlay, config) // kustomize takes no absolute paths
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("resources: [%s]\ncomponents:\n", filepath.Join(from, folder))
	for _, component := range components {
		text += fmt.Sprintf("- %s\n", filepath.Join(from, component))
	}
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlay)
	if err != nil {
		t.Fatalf("kustomize config/%s: %v", folder, err)
	}
	made, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decode(string(made))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// The chart and config/default install the same operator. What differs on purpose is named here: labels, the Redis that
// comes with the chart and for which alone redis.isolation is Managed, the namespace that comes with config/, and the image, of which kustomize users set the name by images:.
func TestChartAndConfigInstallTheSame(t *testing.T) {
	t.Parallel()
	chart, config := installed(rendered(t, "redis: {isolation: Shared}")), kustomized(t, "default")

	crd, want := find[*apiextensionsv1.CustomResourceDefinition](t, chart, ""), find[*apiextensionsv1.CustomResourceDefinition](t, config, "")
	if crd.Annotations["helm.sh/resource-policy"] != "keep" {
		t.Error("the CRD is not kept when the release is uninstalled")
	}
	delete(crd.Annotations, "helm.sh/resource-policy")
	crd.Labels = nil
	same(t, "the CRD", want, crd)

	same(t, "the names of ClusterRoles", names[*rbacv1.ClusterRole](config), names[*rbacv1.ClusterRole](chart))
	for _, name := range names[*rbacv1.ClusterRole](config) {
		got, want := find[*rbacv1.ClusterRole](t, chart, name), find[*rbacv1.ClusterRole](t, config, name)
		same(t, "the rules of ClusterRole "+name, want.Rules, got.Rules)
		for label, value := range want.Labels {
			if strings.Contains(label, "aggregate-to") && got.Labels[label] != value {
				t.Errorf("ClusterRole %s lacks the label %s", name, label)
			}
		}
	}
	same(t, "the rules of the Role", find[*rbacv1.Role](t, config, "").Rules, find[*rbacv1.Role](t, chart, "").Rules)
	same(t, "the namespace of the Role", find[*rbacv1.Role](t, config, "").Namespace, find[*rbacv1.Role](t, chart, "").Namespace)
	for _, of := range [][]client.Object{chart, config} {
		cluster, own := find[*rbacv1.ClusterRoleBinding](t, of, ""), find[*rbacv1.RoleBinding](t, of, "")
		account := find[*corev1.ServiceAccount](t, of, "")
		for _, subjects := range [][]rbacv1.Subject{cluster.Subjects, own.Subjects} {
			if len(subjects) != 1 || subjects[0].Name != account.Name || subjects[0].Namespace != account.Namespace {
				t.Errorf("a binding is for %v, the ServiceAccount is %s/%s", subjects, account.Namespace, account.Name)
			}
		}
		find[*rbacv1.ClusterRole](t, of, cluster.RoleRef.Name)
		find[*rbacv1.Role](t, of, own.RoleRef.Name)
	}

	got, wanted := find[*appsv1.Deployment](t, chart, ""), find[*appsv1.Deployment](t, config, "")
	same(t, "the Deployment's name", client.ObjectKeyFromObject(wanted), client.ObjectKeyFromObject(got))
	same(t, "the replicas", wanted.Spec.Replicas, got.Spec.Replicas)
	same(t, "the Pods' annotations", wanted.Spec.Template.Annotations, got.Spec.Template.Annotations)
	spec, wantedSpec := got.Spec.Template.Spec, wanted.Spec.Template.Spec
	secret := spec.Volumes[0].Secret
	secret.SecretName, secret.Items = wantedSpec.Volumes[0].Secret.SecretName, wantedSpec.Volumes[0].Secret.Items
	spec.Containers[0].ImagePullPolicy = wantedSpec.Containers[0].ImagePullPolicy // the chart sets the default explicitly
	same(t, "the Pods", wantedSpec, spec)
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: chart and config/default disagree (-config +chart):\n%s", what, diff)
	}
}

func names[T client.Object](objects []client.Object) []string {
	var list []string
	for _, object := range objects {
		if _, ok := object.(T); ok {
			list = append(list, object.GetName())
		}
	}
	slices.Sort(list)
	return list
}

// With named namespaces the same rules apply in these, and nowhere else. All of them are for namespaced objects: a rule for
// another kind would have no effect in a Role.
func TestNamedNamespacesHaveTheSameRules(t *testing.T) {
	t.Parallel()
	objects := installed(rendered(t, "namespaces: [staging, production]"))
	want := find[*rbacv1.ClusterRole](t, kustomized(t, "default"), "heymarket-operator").Rules
	given := map[string]bool{}
	for _, object := range objects {
		role, ok := object.(*rbacv1.Role)
		if !ok || role.Namespace == namespace {
			continue
		}
		given[role.Namespace] = true
		same(t, "the rules in "+role.Namespace, want, role.Rules)
		for _, other := range objects {
			if binding, ok := other.(*rbacv1.RoleBinding); ok && binding.Namespace == role.Namespace && binding.RoleRef.Name != role.Name {
				t.Errorf("the RoleBinding in %s is for %s", role.Namespace, binding.RoleRef.Name)
			}
		}
	}
	same(t, "the namespaces with a Role", map[string]bool{"staging": true, "production": true}, given)

	namespaced := []string{
		"secrets", "services", "configmaps", "events", "pods", "deployments", "replicasets", "endpointslices", "heymarketwebhooks", "heymarketwebhooks/status", "heymarketwebhooks/finalizers",
		"ingresses", "httproutes", "gateways", "horizontalpodautoscalers", "scaledobjects", "poddisruptionbudgets", "networkpolicies", "serviceaccounts", "leases",
		"namespaces", // A Role may let its own namespace be read.
	}
	for _, rule := range want {
		for _, resource := range rule.Resources {
			if !slices.Contains(namespaced, resource) {
				t.Errorf("a rule is about %s: if that is a kind in namespaces, list it here; if not, the manager cannot have it with named namespaces", resource)
			}
		}
	}
}

// config/namespaced is config/default with a Role in each namespace instead of the ClusterRole, and with nothing else changed.
func TestConfigForNamespaces(t *testing.T) {
	t.Parallel()
	all, some := kustomized(t, "default"), kustomized(t, "namespaced")
	const name, inside = "heymarket-operator", "heymarket-operator-webhooks"
	account := find[*corev1.ServiceAccount](t, some, "")
	same(t, "the rules in a namespace", find[*rbacv1.ClusterRole](t, all, name).Rules, find[*rbacv1.Role](t, some, inside).Rules)
	binding := find[*rbacv1.RoleBinding](t, some, inside)
	if binding.RoleRef.Kind != "Role" || binding.RoleRef.Name != inside || binding.Namespace != "staging" || find[*rbacv1.Role](t, some, inside).Namespace != "staging" {
		t.Errorf("the RoleBinding in %q is for %+v", binding.Namespace, binding.RoleRef)
	}
	same(t, "who has the Role", []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}}, binding.Subjects)

	deployment := find[*appsv1.Deployment](t, some, "")
	args := &deployment.Spec.Template.Spec.Containers[0].Args
	if last := (*args)[len(*args)-1]; last != "--namespaces=staging" {
		t.Errorf("the manager's last argument is %s", last)
	}
	*args = (*args)[:len(*args)-1]
	rest := func(objects []client.Object) []client.Object {
		return slices.DeleteFunc(objects, func(o client.Object) bool {
			switch o.(type) {
			case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding:
				return o.GetName() == name
			}
			return o.GetName() == inside
		})
	}
	if len(names[*rbacv1.ClusterRoleBinding](some)) != 0 || slices.Contains(names[*rbacv1.ClusterRole](some), name) {
		t.Error("the manager still has rights in all namespaces")
	}
	same(t, "the rest", rest(all), rest(some))
}

// The component config/redis-ca does what redis.caSecret does, with either base.
func TestConfigForAPrivateAuthority(t *testing.T) {
	t.Parallel()
	pods := func(objects []client.Object) corev1.PodSpec {
		pod := find[*appsv1.Deployment](t, objects, "").Spec.Template.Spec
		slices.Sort(pod.Containers[0].Args)
		pod.Containers[0].Image, pod.Containers[0].ImagePullPolicy = "", ""
		pod.Volumes[0].Secret.Items = nil // config/ mounts the whole Secret with the URL
		return pod
	}
	const redis = "redis: {existingSecret: {name: heymarket-redis}, caSecret: {name: heymarket-redis-ca}}\n"
	for base, values := range map[string]string{"default": redis, "namespaced": redis + "namespaces: [staging]"} {
		same(t, "the Pods of "+base, pods(kustomized(t, base, "redis-ca")), pods(rendered(t, values)))
	}
}

// The component config/openshift does what userID: Platform does, with either base.
func TestConfigForOpenShift(t *testing.T) {
	t.Parallel()
	pods := func(objects []client.Object) corev1.PodSpec {
		pod := find[*appsv1.Deployment](t, objects, "").Spec.Template.Spec
		slices.Sort(pod.Containers[0].Args)
		pod.Containers[0].Image, pod.Containers[0].ImagePullPolicy = "", ""
		pod.Volumes[0].Secret.Items = nil // config/ mounts the whole Secret with the URL
		return pod
	}
	const values = "userID: Platform\nredis: {existingSecret: {name: heymarket-redis}}\n"
	for base, values := range map[string]string{"default": values, "namespaced": values + "namespaces: [staging]"} {
		same(t, "the Pods of "+base, pods(kustomized(t, base, "openshift")), pods(rendered(t, values)))
	}
}

// `make generate` copies them and `make verify` reports stale ones, but this failure is easier to find.
func TestFilesOfTheChartAreThoseOfConfig(t *testing.T) {
	t.Parallel()
	pairs := map[string]string{"files/rbac/role.yaml": "rbac/role.yaml", "files/rbac/user_roles.yaml": "rbac/user_roles.yaml"}
	for _, side := range []string{filepath.Join(root, "config", "crd", "heymarket.dev_*.yaml"), filepath.Join(chartDir, "files", "crds", "*.yaml")} {
		found, err := filepath.Glob(side)
		if err != nil || len(found) == 0 {
			t.Fatalf("there is no %s: %v", side, err)
		}
		for _, path := range found {
			pairs["files/crds/"+filepath.Base(path)] = "crd/" + filepath.Base(path)
		}
	}
	for copied, original := range pairs {
		got, err := os.ReadFile(filepath.Join(chartDir, copied))
		want, wantErr := os.ReadFile(filepath.Join(root, "config", original))
		if err != nil || wantErr != nil || !bytes.Equal(got, want) {
			t.Errorf("charts/heymarket-operator/%s is not config/%s; `make generate` copies it (%v, %v)", copied, original, err, wantErr)
		}
	}
}

// Every flag of the manager can be set by a value, and the chart sets no unknown flag.
func TestEveryFlagHasAValue(t *testing.T) {
	t.Parallel()
	flags := managerFlags(t)
	unset := map[string]string{
		"version": "it prints and ends",
	}
	set := map[string]bool{}
	for _, values := range []string{"", file(t, "testdata/rich.values.yaml"), file(t, "testdata/own-redis.values.yaml")} {
		for _, arg := range find[*appsv1.Deployment](t, rendered(t, values), "").Spec.Template.Spec.Containers[0].Args {
			name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			if !slices.Contains(flags, name) {
				t.Errorf("the chart sets --%s, which cmd/manager does not know", name)
			}
			set[name] = true
		}
	}
	for _, name := range flags {
		if !set[name] && unset[name] == "" {
			t.Errorf("--%s of cmd/manager has no value: give it one in values.yaml, values.schema.json, templates/deployment.yaml and the values of a golden in testdata, or a reason here", name)
		}
	}
}

// The manager accepts the defaults for receivers in the format of the values.
func TestReceiverDefaultsArrive(t *testing.T) {
	t.Parallel()
	args := find[*appsv1.Deployment](t, rendered(t, file(t, "testdata/rich.values.yaml")), "").Spec.Template.Spec.Containers[0].Args
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--receiver-defaults=") })
	if i < 0 {
		t.Fatalf("no --receiver-defaults in %q", args)
	}
	got, err := desired.ParseReceiverDefaults(strings.TrimPrefix(args[i], "--receiver-defaults="))
	if err != nil {
		t.Fatal(err)
	}
	var values struct{ Receiver desired.ReceiverDefaults }
	if err := yaml.Unmarshal([]byte(file(t, "testdata/rich.values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	same(t, "the defaults of receivers", values.Receiver, got)
}

// managerFlags reads the names out of cmd/manager/options.go: calls such as f.StringVar(&o.x, "name", …).
func managerFlags(t *testing.T) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "cmd", "manager", "options.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 3 {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !(strings.HasSuffix(method.Sel.Name, "Var") || method.Sel.Name == "Func" || method.Sel.Name == "BoolFunc" || method.Sel.Name == "TextVar") {
			return true
		}
		for _, arg := range call.Args[:2] {
			if literal, ok := arg.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				name, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				found[name] = true
			}
		}
		return true
	})
	if len(found) < 5 {
		t.Fatalf("found only the flags %v in cmd/manager/options.go", found)
	}
	return slices.Sorted(maps.Keys(found))
}
