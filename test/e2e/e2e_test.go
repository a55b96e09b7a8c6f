//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/test/support/quickstart"
)

func TestFromAManifestToADeliveredEvent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	rows, err := quickstart.Play(t.Context(), s.heymarket, s.target)
	if err != nil {
		t.Fatal(err)
	}
	received := rows[0].Received[0]
	if strings.Contains(received.Body, s.heymarket.Token) {
		t.Errorf("the token was passed on to the target: %s", received.Body)
	}
	if received.Method != http.MethodPost || received.Path != "/heymarket" || received.EventID() == "" {
		t.Errorf("the target received %s %s with id %q", received.Method, received.Path, received.EventID())
	}
	webhook, err := cluster.Webhook(t.Context(), s.namespace)
	if err != nil {
		t.Fatal(err)
	}
	segment := s.heymarket.URL[strings.LastIndex(s.heymarket.URL, "/")+1:]
	if text := fmt.Sprint(webhook); len(segment) < 20 || strings.Contains(text, segment) {
		t.Errorf("the secret part of the URL, %d characters, can be read from the resource: %s", len(segment), text)
	}
}

func TestDeletingReceiverPodsLosesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if err := s.bothAvailable(t.Context(), nil); err != nil { // Ready is said as soon as one serves
		t.Fatal(err)
	}
	l := startLoad(t.Context(), s.heymarket)
	defer l.end()
	l.more(t, 200)
	for _, deletion := range []struct {
		how   string
		grace *int64 // in seconds; the Pod's own when nil
	}{{"politely", nil}, {"at once", new(int64)}} {
		pods, err := s.receivers(t.Context())
		if err != nil || len(pods) != 2 {
			t.Fatalf("%d receivers, %v; want 2", len(pods), err)
		}
		victim := pods[0]
		if err := cluster.Client.Delete(t.Context(), &victim, &client.DeleteOptions{GracePeriodSeconds: deletion.grace}); err != nil {
			t.Fatal(err)
		}
		err = s.bothAvailable(t.Context(), &victim)
		if err != nil {
			t.Fatalf("deleted %s, a receiver was not replaced: %v", deletion.how, err)
		}
		l.more(t, 200)
		refused := l.refusals()
		t.Logf("a receiver was deleted %s; refused meanwhile: %v", deletion.how, refused)
		if deletion.grace == nil && len(refused) > 0 {
			t.Errorf("a receiver that may end in its own time must not cost a refusal: %v", refused)
		}
	}
	l.end()

	l.allDelivered(t, s.target)
}

func TestChangingTargetsTakesEffectWithoutARestart(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	before := s.processes(t)
	webhook, err := cluster.Webhook(t.Context(), s.namespace)
	if err != nil {
		t.Fatal(err)
	}
	patch := client.MergeFrom(webhook.DeepCopy())
	base := "http://crm." + s.namespace + ".svc:8080"
	moved, audit := base+"/moved", base+"/audit"
	webhook.Spec.Targets[0].URL = &moved
	webhook.Spec.Targets = append(webhook.Spec.Targets, v1alpha1.Target{Name: "audit", URL: &audit, EventTypes: []v1alpha1.EventType{"chat_closed"}})
	if err := cluster.Client.Patch(t.Context(), webhook, patch); err != nil {
		t.Fatal(err)
	}
	if err := cluster.AwaitReady(t.Context(), s.namespace, time.Minute); err != nil {
		t.Fatal(err)
	}
	message := quickstart.Message(ids.Add(1), "to the new place")
	chat := quickstart.ChatClosed(ids.Add(1), time.Now())
	for _, e := range []quickstart.Event{message, chat} {
		if answer := s.send(t, e); answer.Status != http.StatusOK {
			t.Fatalf("%s: answered %d: %s", e.Type, answer.Status, answer.Body)
		}
	}
	var got map[string]int
	err = quickstart.Poll(t.Context(), 20*time.Second, func(ctx context.Context) (bool, error) {
		list, err := s.target.Received(ctx, 0)
		got = map[string]int{}
		for _, r := range list {
			kind, _, _, err := r.Event()
			if err != nil {
				return false, err
			}
			got[kind+" at "+r.Path]++
		}
		return len(list) >= 3, err
	})
	want := map[string]int{"message_recieved at /moved": 1, "chat_closed at /moved": 1, "chat_closed at /audit": 1}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, the target received (- want, + got):\n%s", err, diff)
	}
	if diff := cmp.Diff(before, s.processes(t)); diff != "" {
		t.Errorf("receivers restarted:\n%s", diff)
	}
}

func TestRotatingTheTokenInPlaceTakesEffectWithoutARestart(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	before := s.processes(t)
	old, renewed := s.heymarket.Token, "a-new-token-"+fmt.Sprint(ids.Add(1))
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: quickstart.TokenSecret}}
	patch := fmt.Appendf(nil, `{"stringData":{%q:%q}}`, quickstart.TokenKey, renewed)
	if err := cluster.Client.Patch(t.Context(), secret, client.RawPatch(types.MergePatchType, patch)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// Either receiver may get a request; both have the new token when twenty in a row are answered alike.
	const enough = 20
	for _, step := range []struct {
		token string
		want  []int
	}{
		{renewed, []int{http.StatusOK}},
		// A receiver that has refused ten tokens of one client within seconds answers 429.
		{old, []int{http.StatusUnauthorized, http.StatusTooManyRequests}},
	} {
		row := 0
		err := quickstart.Poll(t.Context(), time.Minute, func(ctx context.Context) (bool, error) {
			for ; row < enough; row++ {
				e := quickstart.Message(ids.Add(1), "rotation")
				e.Token = step.token
				answer, err := s.heymarket.Send(ctx, e)
				if err != nil {
					row = 0
					return false, err
				}
				if !slices.Contains(step.want, answer.Status) {
					row = 0
					return false, fmt.Errorf("the answer is %d %s", answer.Status, answer.Body)
				}
			}
			return true, nil
		})
		if err != nil {
			t.Fatalf("not %d answers of %v in a row: %v", enough, step.want, err)
		}
	}
	t.Logf("in force after %s", time.Since(began).Round(100*time.Millisecond))
	if diff := cmp.Diff(before, s.processes(t)); diff != "" {
		t.Errorf("receivers restarted:\n%s", diff)
	}
}

func TestDeletingTheResourceDeletesItsChildren(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	webhook, err := cluster.Webhook(t.Context(), s.namespace)
	if err != nil {
		t.Fatal(err)
	}
	children := func(ctx context.Context) ([]string, error) {
		var names []string
		for kind, list := range map[string]client.ObjectList{
			"Deployment": &appsv1.DeploymentList{}, "Service": &corev1.ServiceList{}, "Ingress": &networkingv1.IngressList{}, "Secret": &corev1.SecretList{}, "Pod": &corev1.PodList{},
		} {
			if err := cluster.Client.List(ctx, list, client.InNamespace(s.namespace), client.MatchingLabels{"app.kubernetes.io/instance": quickstart.WebhookName}); err != nil {
				return nil, err
			}
			if err := meta.EachListItem(list, func(o runtime.Object) error {
				names = append(names, kind+" "+o.(client.Object).GetName())
				return nil
			}); err != nil {
				return nil, err
			}
		}
		return names, nil
	}
	if names, err := children(t.Context()); err != nil || len(names) != 7 { // Deployment, Service, Ingress, 2 Secrets, 2 Pods
		t.Errorf("children before: %q, %v; want 7", names, err)
	}
	if err := cluster.Client.Delete(t.Context(), webhook); err != nil {
		t.Fatal(err)
	}
	var left []string
	err = quickstart.Poll(t.Context(), 90*time.Second, func(ctx context.Context) (bool, error) {
		var err error
		left, err = children(ctx)
		return len(left) == 0, err
	})
	if err != nil {
		t.Errorf("left over: %q: %v", left, err)
	}
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: quickstart.TokenSecret}, &corev1.Secret{}); err != nil {
		t.Errorf("the user's own Secret: %v", err)
	}
	err = quickstart.Poll(t.Context(), 20*time.Second, func(ctx context.Context) (bool, error) {
		answer, err := s.heymarket.Send(ctx, quickstart.Message(ids.Add(1), "too late"))
		return answer.Status == http.StatusNotFound, err
	})
	if err != nil {
		t.Errorf("the URL is not gone: %v", err)
	}
}

// It is not parallel: the others need the Redis that it stops.
func TestRedisAwayAndBack(t *testing.T) {
	s := newScene(t)
	redis := func(replicas int, wait ...string) {
		t.Helper()
		ctx := context.WithoutCancel(t.Context())
		for _, args := range [][]string{{"scale", "statefulset/redis", fmt.Sprintf("--replicas=%d", replicas)}, wait} {
			if _, err := cluster.RunKubectl(ctx, "", append(args, "--namespace=redis")...); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := quickstart.Message(ids.Add(1), "before")
	if answer := s.send(t, before); answer.Status != http.StatusOK {
		t.Fatalf("before: answered %d", answer.Status)
	}
	if texts := s.texts(t, 1); len(texts) != 1 {
		t.Fatalf("before: the target received %q", texts)
	}
	defer redis(1, "rollout", "status", "statefulset/redis", "--timeout=90s")
	redis(0, "wait", "--for=delete", "pod/redis-0", "--timeout=60s")

	during := quickstart.Message(ids.Add(1), "during")
	for range 10 {
		if answer := s.send(t, during); answer.Status != http.StatusServiceUnavailable || answer.RetryAfter == "" {
			t.Fatalf("without Redis: answered %d with Retry-After %q, want 503 with one", answer.Status, answer.RetryAfter)
		}
	}
	redis(1, "rollout", "status", "statefulset/redis", "--timeout=90s")
	began := time.Now()
	var answer quickstart.Answer
	if err := quickstart.Poll(t.Context(), time.Minute, func(ctx context.Context) (_ bool, err error) {
		answer, err = s.heymarket.Send(ctx, during)
		return answer.Status == http.StatusOK, err
	}); err != nil {
		t.Fatalf("with Redis again the last answer is %d: %v", answer.Status, err)
	}
	t.Logf("recovered after %s", time.Since(began).Round(100*time.Millisecond))
	// What was accepted before is remembered: the append-only file was on a disk.
	if answer := s.send(t, before); answer.Status != http.StatusOK {
		t.Errorf("the repeat: answered %d", answer.Status)
	}
	if answer := s.send(t, quickstart.Message(ids.Add(1), "after")); answer.Status != http.StatusOK {
		t.Errorf("after: answered %d", answer.Status)
	}
	if diff := cmp.Diff([]string{"after", "before", "during"}, s.texts(t, 3)); diff != "" {
		t.Errorf("the target received (- want, + got):\n%s", diff)
	}
}
