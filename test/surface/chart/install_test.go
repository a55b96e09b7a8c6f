package chart

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/apiservertest"
)

// A cluster is a real API server with nothing behind it: objects are stored and checked, and nothing runs.
type cluster struct {
	client.Client

	t    *testing.T
	helm string
	home string
}

func newCluster(t *testing.T) cluster {
	t.Helper()
	config := apiservertest.Config(t)
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	apiservertest.Kubeconfig(t, filepath.Join(home, "kubeconfig"))
	return cluster{Client: c, t: t, helm: needHelm(t), home: home}
}

// run runs helm against the cluster, in a namespace.
func (c cluster) run(namespace, values string, args ...string) string {
	c.t.Helper()
	out, err := helm(c.t.Context(), c.helm, c.home, values, append(args, "--namespace", namespace)...)
	if err != nil {
		c.t.Fatalf("helm %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (c cluster) install(namespace, values string, args ...string) string {
	c.t.Helper()
	return c.run(namespace, values, append([]string{"install", "heymarket-operator", chartDir, "--create-namespace", "--values", "-"}, args...)...)
}

func (c cluster) upgrade(namespace, values string, args ...string) string {
	c.t.Helper()
	return c.run(namespace, values, append([]string{"upgrade", "heymarket-operator", chartDir, "--values", "-"}, args...)...)
}

func (c cluster) get(object client.Object, namespace, name string) {
	c.t.Helper()
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, object); err != nil {
		c.t.Fatal(err)
	}
}

func (c cluster) gone(object client.Object, namespace, name string) bool {
	c.t.Helper()
	err := c.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, object)
	if err != nil && !apierrors.IsNotFound(err) {
		c.t.Fatal(err)
	}
	return err != nil || object.GetDeletionTimestamp() != nil
}

const redisName = "heymarket-operator-redis"

// A real API server accepts the installation; upgrades keep the password and do not touch Redis; uninstalling keeps the CRD and
// the claim; installing again uses them.
func TestInstallUpgradeUninstall(t *testing.T) {
	c := newCluster(t)
	const ns = "lifecycle"
	// The test server has the CRD already, as a cluster that was installed by kustomize would.
	c.install(ns, "redis: {bundled: {persistence: {mode: Always}}}", "--take-ownership")

	var first, second corev1.Secret
	var before, after appsv1.StatefulSet
	c.get(&first, ns, redisName)
	c.get(&before, ns, redisName)
	c.upgrade(ns, "redis: {bundled: {persistence: {mode: Always}}}\nreplicas: 2\npodDisruptionBudget: {enabled: true}\nnetworkPolicy: {enabled: true}\ncommonLabels: {team: a}")
	c.get(&second, ns, redisName)
	c.get(&after, ns, redisName)
	if len(first.Data["password"]) != 32 || string(first.Data["url"]) != string(second.Data["url"]) {
		t.Error("the upgrade made another password")
	}
	if before.Generation != after.Generation {
		t.Error("the upgrade changed the spec of Redis")
	}
	var manager appsv1.Deployment
	c.get(&manager, ns, "heymarket-operator")
	if *manager.Spec.Replicas != 2 {
		t.Errorf("after the upgrade there are %d replicas, want 2", *manager.Spec.Replicas)
	}
	// Nothing of it is changed by the same again.
	resourceVersion := manager.ResourceVersion
	c.upgrade(ns, "redis: {bundled: {persistence: {mode: Always}}}\nreplicas: 2\npodDisruptionBudget: {enabled: true}\nnetworkPolicy: {enabled: true}\ncommonLabels: {team: a}")
	c.get(&manager, ns, "heymarket-operator")
	if manager.ResourceVersion != resourceVersion {
		t.Error("an upgrade to the same changes the Deployment")
	}
	// Nothing that Kubernetes has set by default is in the way of other values.
	c.upgrade(ns, "redis: {bundled: {persistence: {mode: Always}}}\nstrategy: {type: Recreate}\nlivenessProbe: {initialDelaySeconds: null}\nresources: {limits: {memory: null}}")
	c.get(&manager, ns, "heymarket-operator")
	if manager.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || !manager.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().IsZero() {
		t.Errorf("the upgrade left %v and limits of %v", manager.Spec.Strategy, manager.Spec.Template.Spec.Containers[0].Resources.Limits)
	}
	c.run(ns, "", "rollback", "heymarket-operator", "1")
	c.get(&second, ns, redisName)
	if string(first.Data["url"]) != string(second.Data["url"]) {
		t.Error("the rollback made another password")
	}

	// To a Redis of one's own: the bundled one goes, its claim stays, and its password is in no Secret any more.
	c.upgrade(ns, "redis: {url: 'redis://redis.example.com:6379/0'}")
	c.get(&second, ns, redisName)
	if len(second.Data) != 1 || string(second.Data["url"]) != "redis://redis.example.com:6379/0" {
		t.Errorf("the Secret has %d keys, want the URL alone", len(second.Data))
	}
	if !c.gone(&appsv1.StatefulSet{}, ns, redisName) {
		t.Error("the bundled Redis is still there")
	}

	c.run(ns, "", "uninstall", "heymarket-operator")
	if !c.gone(&appsv1.Deployment{}, ns, "heymarket-operator") {
		t.Error("the Deployment is still there")
	}
	var crd apiextensionsv1.CustomResourceDefinition
	c.get(&crd, "", "heymarketwebhooks.heymarket.dev")
	var claim corev1.PersistentVolumeClaim
	c.get(&claim, ns, redisName)
	if crd.DeletionTimestamp != nil || claim.DeletionTimestamp != nil {
		t.Error("uninstalling takes the CRD or the claim away")
	}

	c.install(ns, "")
	c.get(&after, ns, redisName)
	if !persistent(after) {
		t.Error("installed again, Redis does not use the claim that was kept")
	}
	c.run(ns, "", "uninstall", "heymarket-operator")
}

// The CRD is that of the chart's version, for upgrades and rollbacks.
func TestUpgradeBringsTheCRDAlong(t *testing.T) {
	c := newCluster(t)
	const ns = "upgrade"
	// retryHorizon came with this release.
	state := func() (before, now bool) {
		var crd apiextensionsv1.CustomResourceDefinition
		c.get(&crd, "", "heymarketwebhooks.heymarket.dev")
		spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties
		_, targets := spec["targets"]
		_, horizon := spec["deduplication"].Properties["retryHorizon"]
		return targets && !horizon, targets && horizon
	}
	// The CRD belongs to the API server's own installation, or to the other test's.
	c.run(ns, "", "install", "heymarket-operator", filepath.Join("testdata", "chart-before.tgz"), "--create-namespace", "--take-ownership", "--force-conflicts")
	if before, _ := state(); !before {
		t.Error("the CRD is not that of the release before")
	}
	c.upgrade(ns, "")
	if _, now := state(); !now {
		t.Error("the upgrade leaves the CRD behind")
	}
	c.run(ns, "", "rollback", "heymarket-operator", "1")
	if before, _ := state(); !before {
		t.Error("the rollback leaves the CRD of the upgrade")
	}
	c.upgrade(ns, "")
	c.run(ns, "", "uninstall", "heymarket-operator")
	if _, now := state(); !now {
		t.Error("uninstalling takes the CRD away")
	}
}

// Auto uses a volume if the cluster has a default StorageClass at the first installation, and keeps that choice.
func TestAutoPersistence(t *testing.T) {
	c := newCluster(t)
	var redis appsv1.StatefulSet
	// The CRD belongs to the other test.
	const without, with, values = "without-class", "with-class", "crds: {enabled: false}"
	notes := c.install(without, values+"\nfullnameOverride: "+without)
	c.get(&redis, without, without+"-redis")
	if persistent(redis) || !strings.Contains(notes, "emptyDir") {
		t.Errorf("without a default StorageClass there is a claim, or the notes do not warn:\n%s", notes)
	}
	class := &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: "example.com/none",
	}
	if err := c.Create(t.Context(), class); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background(), class); client.IgnoreNotFound(err) != nil { // the test's own context is over
			t.Error(err)
		}
	})
	c.upgrade(without, values+"\nfullnameOverride: "+without)
	c.get(&redis, without, without+"-redis")
	if persistent(redis) {
		t.Error("an upgrade moves Redis to an empty volume")
	}
	notes = c.install(with, values+"\nfullnameOverride: "+with)
	c.get(&redis, with, with+"-redis")
	if !persistent(redis) || !strings.Contains(notes, "PersistentVolumeClaim "+with+"-redis") {
		t.Errorf("with a default StorageClass there is no claim, or the notes do not name it:\n%s", notes)
	}
	if err := c.Delete(t.Context(), class); err != nil {
		t.Fatal(err)
	}
	c.upgrade(with, values+"\nfullnameOverride: "+with)
	c.get(&redis, with, with+"-redis")
	if !persistent(redis) {
		t.Error("an upgrade takes the claim from Redis")
	}
	c.run(without, "", "uninstall", "heymarket-operator")
	c.run(with, "", "uninstall", "heymarket-operator")
}

func persistent(s appsv1.StatefulSet) bool {
	for _, volume := range s.Spec.Template.Spec.Volumes {
		if volume.PersistentVolumeClaim != nil {
			return true
		}
	}
	return false
}
