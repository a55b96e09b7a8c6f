//go:build e2e || neighbours

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/test/support/quickstart"
)

// ids are the event_data.id of the messages that the tests send: each is new, also for a Redis that remembers an earlier run.
var ids atomic.Int64

func init() { ids.Store(time.Now().UnixMilli() * 1000) } //nolint:gochecknoinits // a test's own state

// scene is the quickstart in a namespace of its own.
type scene struct {
	namespace string
	heymarket *quickstart.Heymarket
	target    quickstart.Target
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func newScene(t *testing.T) scene {
	t.Helper()
	name := notInNames.ReplaceAllString(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "-")
	s := scene{namespace: fmt.Sprintf("e2e-%.40s-%d", name, ids.Add(1)%1_000_000)} // one of an earlier run may still be going
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if t.Failed() {
			tell(ctx, t, s.namespace)
		}
		if err := cluster.Client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}); err != nil {
			t.Errorf("delete namespace: %v", err)
		}
	})
	if err := cluster.ApplyQuickstart(t.Context(), s.namespace); err != nil {
		t.Fatal(err)
	}
	if err := cluster.AwaitReady(t.Context(), s.namespace, 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.heymarket, err = cluster.Heymarket(t.Context(), s.namespace); err != nil {
		t.Fatal(err)
	}
	s.target = cluster.Target(s.namespace, quickstart.TargetName)
	return s
}

// tell logs what a person would check first.
func tell(ctx context.Context, t *testing.T, namespace string) {
	t.Helper()
	for _, args := range [][]string{
		{"get", "hmw,pods,ingress", "--namespace=" + namespace, "-o", "wide"},
		{"logs", "--namespace=" + namespace, "--selector=app.kubernetes.io/name=heymarket-receiver", "--tail=15", "--prefix"},
		{"logs", "--namespace=" + quickstart.System, "deployment/heymarket-operator", "--tail=15"},
	} {
		out, err := cluster.RunKubectl(ctx, "", args...)
		if err != nil {
			out = err.Error()
		}
		t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
}

// receivers are the receiver Pods that are not being deleted.
func (s scene) receivers(ctx context.Context) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := cluster.Client.List(ctx, &list, client.InNamespace(s.namespace), client.MatchingLabels{"app.kubernetes.io/name": "heymarket-receiver"})
	var pods []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp.IsZero() {
			pods = append(pods, pod)
		}
	}
	return pods, err
}

// processes identifies the receivers' Pods by UID and number of restarts.
func (s scene) processes(t *testing.T) map[types.UID]int32 {
	t.Helper()
	pods, err := s.receivers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[types.UID]int32{}
	for _, pod := range pods {
		found[pod.UID] = -1
		for _, status := range pod.Status.ContainerStatuses {
			found[pod.UID] = status.RestartCount
		}
	}
	return found
}

// bothAvailable waits until the Deployment has both its receivers and the victim, if there is one, is gone.
func (s scene) bothAvailable(ctx context.Context, victim *corev1.Pod) error {
	return quickstart.Poll(ctx, 90*time.Second, func(ctx context.Context) (bool, error) {
		if victim != nil {
			err := cluster.Client.Get(ctx, client.ObjectKeyFromObject(victim), &corev1.Pod{})
			if client.IgnoreNotFound(err) != nil || err == nil {
				return false, err
			}
		}
		var deployment appsv1.Deployment
		err := cluster.Client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: quickstart.WebhookName + "-receiver"}, &deployment)
		return deployment.Status.AvailableReplicas == 2, err
	})
}

func (s scene) send(t *testing.T, e quickstart.Event) quickstart.Answer {
	t.Helper()
	answer, err := s.heymarket.Send(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// texts waits until the target has received that many messages and returns the texts of all that it has, sorted.
func (s scene) texts(t *testing.T, n int) []string {
	t.Helper()
	var texts []string
	err := quickstart.Poll(t.Context(), 30*time.Second, func(ctx context.Context) (bool, error) {
		list, err := s.target.Received(ctx, 0)
		texts = nil
		for _, r := range list {
			_, _, text, err := r.Event()
			if err != nil {
				return false, err
			}
			texts = append(texts, text)
		}
		return len(texts) >= n, err
	})
	if err != nil {
		t.Errorf("the target received %q: %v", texts, err)
	}
	slices.Sort(texts)
	return texts
}
