//go:build neighbours

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/test/support/quickstart"
)

const fewest, most = 2, 5

// replicas records the number of receivers that the Deployment asks for, each time that it changes.
type replicas struct {
	mu     sync.Mutex
	values []int32
	last   appsv1.Deployment
	stop   context.CancelFunc
	wait   sync.WaitGroup
}

// watchReplicas records until the test ends, and logs what it records.
func (s scene) watchReplicas(t *testing.T) *replicas {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &replicas{stop: stop}
	began := time.Now()
	r.wait.Go(func() {
		for sleep(ctx, 500*time.Millisecond) == nil {
			var d appsv1.Deployment
			if cluster.Client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: quickstart.WebhookName + "-receiver"}, &d) != nil || d.Spec.Replicas == nil {
				continue
			}
			r.mu.Lock()
			if n := *d.Spec.Replicas; len(r.values) == 0 || r.values[len(r.values)-1] != n {
				t.Logf("%4.0f s: %d replicas, %d available, generation %d", time.Since(began).Seconds(), n, d.Status.AvailableReplicas, d.Generation)
				r.values = append(r.values, n)
			}
			r.last = d
			r.mu.Unlock()
		}
	})
	t.Cleanup(r.end)
	return r
}

func (r *replicas) end() {
	r.stop()
	r.wait.Wait()
}

// await waits until the Deployment asks for that many receivers and has them.
func (r *replicas) await(t *testing.T, n int32, within time.Duration) {
	t.Helper()
	err := quickstart.Poll(t.Context(), within, func(context.Context) (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.last.Spec.Replicas != nil && *r.last.Spec.Replicas == n && r.last.Status.AvailableReplicas == n && r.last.Status.Replicas == n, nil
	})
	if err != nil {
		t.Fatalf("the Deployment has asked for %v replicas and has %d, want %d: %v", r.values, r.last.Status.AvailableReplicas, n, err)
	}
}

// noFight checks that only the autoscaler chose the number of receivers: it went up once and down at most once, nothing else changed the Deployment after
// that generation, and the operator does not own the field.
func (r *replicas) noFight(t *testing.T, generation int64) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	top := slices.Index(r.values, slices.Max(r.values))
	if !slices.IsSorted(r.values[:top+1]) || !slices.IsSortedFunc(r.values[top:], func(a, b int32) int { return int(b - a) }) {
		t.Errorf("the number of replicas went back and forth: %v", r.values)
	}
	if changes := r.last.Generation - generation; changes != int64(len(r.values)-1) {
		t.Errorf("the Deployment has changed %d times since generation %d, its replicas %d times", changes, generation, len(r.values)-1)
	}
	var owners []string
	for _, m := range r.last.ManagedFields {
		if strings.Contains(m.FieldsV1.GetRawString(), `"f:replicas":{}`) && m.Subresource != "status" {
			owners = append(owners, m.Manager+"/"+m.Subresource)
		}
	}
	if len(owners) != 1 || owners[0] != "kube-controller-manager/scale" {
		t.Errorf("spec.replicas is owned by %q, want the autoscaler alone", owners)
	}
}

// generation is that of the receivers' Deployment.
func (s scene) generation(t *testing.T) int64 {
	t.Helper()
	var d appsv1.Deployment
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: quickstart.WebhookName + "-receiver"}, &d); err != nil {
		t.Fatal(err)
	}
	return d.Generation
}

// scaleBy has an autoscaler choose the number of receivers, and waits until the Deployment is as it asks for.
func (s scene) scaleBy(t *testing.T, a v1alpha1.Autoscaling) {
	t.Helper()
	a.MinReplicas, a.MaxReplicas = new(int32(fewest)), most
	s.change(t, func(spec *v1alpha1.HeymarketWebhookSpec) { spec.Receiver.Autoscaling = &a })
	s.awaitCondition(t, v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonServing)
	kubectl(t, "", "rollout", "status", "deployment/"+quickstart.WebhookName+"-receiver", "--namespace="+s.namespace, "--timeout=120s")
}

// installKEDA installs KEDA by its own manifests until the test ends.
func installKEDA(t *testing.T) {
	t.Helper()
	manifest := kubectl(t, "", "kustomize", moduleDir(t, "keda", "github.com/kedacore/keda/v2")+"/config/minimal")
	for pattern, to := range map[string]string{
		`image: ghcr\.io/kedacore/keda:.*`:                   "image: heymarket.dev/cluster/keda-operator:dev",
		`image: ghcr\.io/kedacore/keda-metrics-apiserver:.*`: "image: heymarket.dev/cluster/keda-adapter:dev",
		`imagePullPolicy: Always`:                            "imagePullPolicy: Never",
		`- /keda\n`:                                          "- /keda-operator\n",
		`( *)- --enable-cert-rotation=true`:                  "$0\n$1- --enable-webhook-patching=false",
	} {
		if !regexp.MustCompile(pattern).MatchString(manifest) {
			t.Fatalf("KEDA's manifests have no %q", pattern)
		}
		manifest = regexp.MustCompile(pattern).ReplaceAllString(manifest, to)
	}
	install(t, manifest, []string{"keda-operator", "keda-adapter"}, "keda/deployment/keda-operator", "keda/deployment/keda-metrics-apiserver")
	t.Cleanup(func() { kubectl(t, manifest, "delete", "--ignore-not-found", "-f", "-") })
	kubectl(t, "", "wait", "--for=condition=Available", "--timeout=120s", "apiservice/v1beta1.external.metrics.k8s.io")
}

// A backlog that grows while the target takes its time makes KEDA add receivers, and it removes them once the backlog is delivered. No event is lost, and
// the operator leaves the number of receivers to KEDA.
func TestKEDA(t *testing.T) {
	s := newScene(t)
	installKEDA(t)
	s.change(t, func(spec *v1alpha1.HeymarketWebhookSpec) { spec.Targets[0].MaxInFlight = new(int32(4)) })
	s.scaleBy(t, v1alpha1.Autoscaling{BacklogPerReplica: new(int32(50))})
	t.Cleanup(func() { // KEDA has to be there to let go of what it scales
		kubectl(t, "", "patch", "hmw", quickstart.WebhookName, "--namespace="+s.namespace, "--type=json", `--patch=[{"op":"remove","path":"/spec/receiver/autoscaling"}]`)
		kubectl(t, "", "wait", "--for=delete", "--timeout=60s", "--namespace="+s.namespace, "scaledobject/"+quickstart.WebhookName+"-receiver")
	})
	s.awaitCondition(t, v1alpha1.ConditionScaled, metav1.ConditionTrue, v1alpha1.ReasonScaling)
	// Kubernetes waits for five minutes before it removes Pods. A person may shorten that, and the operator leaves the setting alone.
	kubectl(t, "", "patch", "scaledobject", quickstart.WebhookName+"-receiver", "--namespace="+s.namespace, "--type=merge", "--patch",
		`{"spec":{"advanced":{"horizontalPodAutoscalerConfig":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":5}}}}}}`)

	generation, r := s.generation(t), s.watchReplicas(t)
	r.await(t, fewest, 30*time.Second)
	if err := s.target.Program(t.Context(), quickstart.Step{Status: 200, Delay: "3s", Times: 1_000_000}); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t.Context(), s.heymarket)
	defer l.end()
	l.more(t, 600)
	l.end()
	r.await(t, most, 3*time.Minute)
	if err := s.target.Program(t.Context()); err != nil {
		t.Fatal(err)
	}
	if repeated := l.allDelivered(t, s.target); repeated > 0 {
		t.Errorf("%d deliveries repeated another", repeated)
	}
	r.await(t, fewest, 3*time.Minute)
	if refused := l.refusals(); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	s.awaitCondition(t, v1alpha1.ConditionScaled, metav1.ConditionTrue, v1alpha1.ReasonScaling)
	r.end()
	r.noFight(t, generation)
}

// Load makes a HorizontalPodAutoscaler add receivers by what metrics-server measures, and the operator leaves their number to it.
func TestHorizontalPodAutoscaler(t *testing.T) {
	s := newScene(t)
	install(t, neighbour(t, "metrics-server.yaml"), []string{"metrics-server"}, "kube-system/deployment/metrics-server")
	t.Cleanup(func() { kubectl(t, neighbour(t, "metrics-server.yaml"), "delete", "-f", "-") })
	kubectl(t, "", "wait", "--for=condition=Available", "--timeout=120s", "apiservice/v1beta1.metrics.k8s.io")
	s.scaleBy(t, v1alpha1.Autoscaling{TargetCPUUtilization: new(int32(20))})
	generation, r := s.generation(t), s.watchReplicas(t)
	r.await(t, fewest, 30*time.Second)
	l := startLoad(t.Context(), s.heymarket)
	defer l.end()
	err := quickstart.Poll(t.Context(), 4*time.Minute, func(context.Context) (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.Max(r.values) > fewest, nil
	})
	var hpa autoscalingv2.HorizontalPodAutoscaler
	if getErr := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: quickstart.WebhookName + "-receiver"}, &hpa); getErr != nil {
		t.Fatal(getErr)
	}
	var seen []string
	for _, m := range hpa.Status.CurrentMetrics {
		if m.Resource != nil && m.Resource.Current.AverageUtilization != nil {
			seen = append(seen, fmt.Sprintf("%s %d%%", m.Resource.Name, *m.Resource.Current.AverageUtilization))
		}
	}
	t.Logf("measured: %v", seen)
	if err != nil {
		t.Fatalf("the HorizontalPodAutoscaler adds no receiver: %v; %v", err, hpa.Status.Conditions)
	}
	l.more(t, 200)
	l.allDelivered(t, s.target)
	if refused := l.refusals(); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	s.awaitCondition(t, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	r.end()
	r.noFight(t, generation)
}
