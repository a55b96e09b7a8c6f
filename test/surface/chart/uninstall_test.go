package chart

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// jobs plays the controller of Jobs in a namespace: it runs the manager with their arguments, on this machine.
func (c cluster) jobs(ctx context.Context, namespace, manager string) {
	for ctx.Err() == nil {
		var all batchv1.JobList
		_ = c.List(ctx, &all, client.InNamespace(namespace)) // It is asked again.
		for _, job := range all.Items {
			if len(job.Status.Conditions) > 0 || job.DeletionTimestamp != nil {
				continue
			}
			run := exec.CommandContext(ctx, manager, job.Spec.Template.Spec.Containers[0].Args...)
			run.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(c.home, "kubeconfig"))
			out, err := run.CombinedOutput()
			c.t.Logf("manager %v: %s", run.Args[1:], out)
			now := metav1.Now()
			kinds := []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete}
			job.Status.StartTime, job.Status.CompletionTime, job.Status.Succeeded = &now, &now, 1
			if err != nil {
				kinds = []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobFailed}
				job.Status.CompletionTime, job.Status.Succeeded, job.Status.Failed = nil, 0, 1
			}
			for _, kind := range kinds {
				job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
			}
			if err := c.Status().Update(ctx, &job); err != nil {
				c.t.Logf("status of the Job: %v", err)
			}
		}
		time.Sleep(50 * time.Millisecond) // The one test that needs it has no watch.
	}
}

// With crds.keep=false, uninstalling deletes the CRD, but not while a webhook exists; and nothing is installed over a CRD that is
// being deleted.
func TestUninstallDoesNotStrandWebhooks(t *testing.T) {
	c := newCluster(t)
	const ns, values = "uninstall", "crds: {keep: false}"
	manager := filepath.Join(t.TempDir(), "manager")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", manager, "./cmd/manager")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the manager: %v: %s", err, out)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.jobs(ctx, ns, manager) }()
	defer func() { stop(); <-done }()

	uninstall := func(args ...string) error {
		_, err := helm(t.Context(), c.helm, c.home, "", append([]string{"uninstall", "heymarket-operator", "--namespace", ns, "--timeout", "60s"}, args...)...)
		return err
	}
	crd := func() *apiextensionsv1.CustomResourceDefinition {
		var crd apiextensionsv1.CustomResourceDefinition
		err := c.Get(t.Context(), client.ObjectKey{Name: "heymarketwebhooks.heymarket.dev"}, &crd)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		return &crd
	}
	until := func(what string, condition func() bool) {
		t.Helper()
		for !condition() {
			select {
			case <-t.Context().Done():
				t.Fatal(what)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	webhook := func() *unstructured.Unstructured {
		hook := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "heymarket.dev/v1alpha1", "kind": "HeymarketWebhook",
			"metadata": map[string]any{"namespace": ns, "name": "support", "finalizers": []any{"heymarket.dev/redis-keys"}},
			"spec": map[string]any{
				"token": map[string]any{"secretKeyRef": map[string]any{"name": "heymarket"}}, "deletionPolicy": "Delete",
				"targets": []any{map[string]any{"name": "crm", "url": "http://crm.example.com/in"}},
			},
		}}
		until("create a webhook", func() bool { return c.Create(t.Context(), hook) == nil }) // The API server serves a new kind a moment later.
		return hook
	}
	letGo := func(hook *unstructured.Unstructured) {
		if err := c.Patch(t.Context(), hook, client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"finalizers": null}}`))); err != nil {
			t.Fatal(err)
		}
	}

	c.install(ns, values, "--take-ownership")
	hook := webhook()
	if err := uninstall(); err == nil {
		t.Fatal("a webhook exists, and the release is uninstalled")
	}
	if crd().DeletionTimestamp != nil {
		t.Fatal("a webhook exists, and the CRD is being deleted")
	}
	letGo(hook)
	if err := c.Delete(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	if err := uninstall(); err != nil {
		t.Fatalf("no webhook exists: %v", err)
	}
	until("the CRD is gone", func() bool { return crd() == nil })

	c.install(ns, values)
	hook = webhook()
	if err := uninstall("--no-hooks"); err != nil {
		t.Fatal(err)
	}
	until("the CRD is being deleted", func() bool { return crd().DeletionTimestamp != nil })
	_, err := helm(t.Context(), c.helm, c.home, "", "install", "heymarket-operator", chartDir, "--namespace", ns)
	if err == nil || !strings.Contains(err.Error(), "is being deleted") || !strings.Contains(err.Error(), "wait until the definition is gone") {
		t.Fatalf("over a CRD that is being deleted: %v", err)
	}
	letGo(hook)
	until("the CRD is gone", func() bool { return crd() == nil })
	c.install(ns, "")
	if err := uninstall(); err != nil { // The CRD stays, for the tests that follow.
		t.Fatal(err)
	}
}
