//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/test/support/quickstart"
)

// The previous release, by its commit. Its chart and the sources of its image are kept, because a shallow clone has no
// history to take them from. They are made by
//
//	git archive --format=tar.gz --output=test/surface/chart/testdata/chart-before.tgz 939d58a:charts heymarket-operator
//	git archive --format=tar.gz --output=test/e2e/testdata/operator-before.tar.gz 939d58a api cmd internal go.mod go.sum \
//		':(exclude,glob)**/*_test.go' ':(exclude,glob)**/testdata/**' ':(exclude)internal/receiver/redistest'
var (
	chartBefore    = filepath.Join("test", "surface", "chart", "testdata", "chart-before.tgz")
	operatorBefore = filepath.Join("test", "e2e", "testdata", "operator-before.tar.gz")
)

// previousImage is the operator's image of the previous release, built from the checkout E2E_PREVIOUS, or from what is kept of that release.
func previousImage(t *testing.T) string {
	t.Helper()
	if checkout := os.Getenv("E2E_PREVIOUS"); checkout != "" {
		return imageOf(t, checkout)
	}
	dir := t.TempDir()
	archive := filepath.Join(driver.Root, operatorBefore)
	if out, err := exec.CommandContext(t.Context(), "tar", "--extract", "--gzip", "--file="+archive, "--directory="+dir).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v: %s", archive, err, bytes.TrimSpace(out))
	}
	return imageOf(t, dir)
}

func imageOf(t *testing.T, checkout string) string {
	t.Helper()
	name, archive, err := driver.OperatorImage(t.Context(), checkout)
	if err != nil {
		t.Fatal(err)
	}
	if err := loadImages(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	return name
}

// From the previous release to this one and back, under load: each accepted message is delivered, and users' objects do not change. `helm test` of this
// release reports success.
//
// It is not parallel: the operator that the other tests use is away meanwhile, and the CRD is that of the previous release for a while.
func TestUpgradeAndRollbackLoseNothing(t *testing.T) {
	previous := previousImage(t)
	r := newRelease(t)
	s := scene{namespace: fmt.Sprintf("e2e-upgrade-%d", ids.Add(1)%1_000_000)}
	kubectl := func(ctx context.Context, args ...string) {
		t.Helper()
		if _, err := cluster.RunKubectl(ctx, "", args...); err != nil {
			t.Fatal(err)
		}
	}
	kubectl(t.Context(), "scale", "--namespace="+quickstart.System, "deployment/heymarket-operator", "--replicas=0")
	kubectl(t.Context(), "create", "namespace", s.namespace)
	defer func() {
		ctx := context.WithoutCancel(t.Context())
		if t.Failed() {
			tell(ctx, t, s.namespace)
			out, _ := cluster.RunKubectl(ctx, "", "logs", "--namespace="+r.namespace, "deployment/hm-heymarket-operator", "--tail=15")
			t.Logf("the operator of the release:\n%s", out)
		}
		if _, err := r.run(ctx, "uninstall"); err != nil {
			t.Error(err)
		}
		if err := cluster.InstallOperator(ctx); err != nil {
			t.Fatal(err)
		}
		kubectl(ctx, "delete", "namespace", "--wait=false", r.namespace, s.namespace)
	}()

	old := filepath.Join(driver.Root, chartBefore)
	if _, err := r.run(t.Context(), "install", append(values(previous, s.namespace), old, "--create-namespace")...); err != nil {
		t.Fatal(err)
	}
	if err := cluster.ApplyQuickstart(t.Context(), s.namespace); err != nil {
		t.Fatal(err)
	}
	s.awaitImage(t, previous)
	var err error
	if s.heymarket, err = cluster.Heymarket(t.Context(), s.namespace); err != nil {
		t.Fatal(err)
	}
	s.target = cluster.Target(s.namespace, quickstart.TargetName)
	before := s.made(t)
	l := startLoad(t.Context(), s.heymarket)
	defer l.end()
	l.more(t, 200)

	began := time.Now()
	if _, err := r.run(t.Context(), "upgrade", append(values(cluster.Image.Name, s.namespace), filepath.Join(driver.Root, "charts", "heymarket-operator"))...); err != nil {
		t.Fatal(err)
	}
	s.awaitImage(t, cluster.Image.Name)
	t.Logf("upgraded after %s; refused meanwhile: %v", time.Since(began).Round(100*time.Millisecond), l.refusals())
	l.more(t, 200)
	if diff := cmp.Diff(before.known(s.made(t)), before); diff != "" {
		t.Errorf("the upgrade changes what users have made (- after, + before):\n%s", diff)
	}
	said, err := r.run(t.Context(), "test", "--logs", "--timeout=120s")
	if err != nil || !strings.Contains(said, "The operator works.") {
		t.Errorf("helm test: %v\n%s", err, said)
	}

	began = time.Now()
	if _, err := r.run(t.Context(), "rollback", "1", "--force-conflicts", "--wait", "--timeout=120s"); err != nil {
		t.Fatal(err)
	}
	s.awaitImage(t, previous)
	t.Logf("rolled back after %s; refused meanwhile: %v", time.Since(began).Round(100*time.Millisecond), l.refusals())
	l.more(t, 200)
	l.end()
	if diff := cmp.Diff(before, s.made(t)); diff != "" {
		t.Errorf("there and back changes what users have made (- before, + after):\n%s", diff)
	}
	l.allDelivered(t, s.target)
}

// awaitImage waits until the webhook is Ready and both receivers run an image.
func (s scene) awaitImage(t *testing.T, image string) {
	t.Helper()
	var last string
	err := quickstart.Poll(t.Context(), 2*time.Minute, func(ctx context.Context) (bool, error) {
		webhook, err := cluster.Webhook(ctx, s.namespace)
		if err != nil {
			return false, err
		}
		last = fmt.Sprint(webhook.Status.Image, webhook.Status.Conditions)
		if webhook.Status.Image != image || !meta.IsStatusConditionTrue(webhook.Status.Conditions, "Ready") {
			return false, nil
		}
		var deployment appsv1.Deployment
		err = cluster.Client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: quickstart.WebhookName + "-receiver"}, &deployment)
		last += fmt.Sprintf(" %+v", deployment.Status)
		status := deployment.Status
		return status.ObservedGeneration == deployment.Generation && status.AvailableReplicas == 2 && status.UpdatedReplicas == 2 && status.Replicas == 2, err
	})
	if err != nil {
		t.Fatalf("receivers do not run %s: %v; %s", image, err, last)
	}
}

// made is what a user has created or entered elsewhere: the webhook but for its status, and the URL.
type made struct {
	UID  string
	Spec map[string]any
	URL  string
}

func (s scene) made(t *testing.T) made {
	t.Helper()
	hook := &unstructured.Unstructured{}
	hook.SetAPIVersion("heymarket.dev/v1alpha1")
	hook.SetKind("HeymarketWebhook")
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: quickstart.WebhookName}, hook); err != nil {
		t.Fatal(err)
	}
	spec, _, err := unstructured.NestedMap(hook.Object, "spec")
	if err != nil {
		t.Fatal(err)
	}
	var secret corev1.Secret
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: quickstart.WebhookName + "-url"}, &secret); err != nil {
		t.Fatal(err)
	}
	return made{UID: string(hook.GetUID()), Spec: spec, URL: string(secret.Data["url"])}
}

// known is another one less the fields that m does not know: a newer release shows defaults of fields that are new.
func (m made) known(other made) made {
	var keep func(known, all any) any
	keep = func(known, all any) any {
		k, ok := known.(map[string]any)
		a, also := all.(map[string]any)
		if !ok || !also {
			if list, isList := known.([]any); isList {
				if more, same := all.([]any); same && len(more) == len(list) {
					kept := make([]any, len(list))
					for i := range list {
						kept[i] = keep(list[i], more[i])
					}
					return kept
				}
			}
			return all
		}
		kept := map[string]any{}
		for name := range k {
			if value, there := a[name]; there {
				kept[name] = keep(k[name], value)
			}
		}
		return kept
	}
	other.Spec, _ = keep(m.Spec, other.Spec).(map[string]any)
	return other
}
