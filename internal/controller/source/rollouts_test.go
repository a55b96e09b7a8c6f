package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	earlier = "heymarket.dev/operator:v1"
	present = "heymarket.dev/operator:v2"
)

// deployments is a cache that holds no other kind.
type deployments []*appsv1.Deployment

func (all deployments) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	for _, d := range all {
		list.(*appsv1.DeploymentList).Items = append(list.(*appsv1.DeploymentList).Items, *d)
	}
	return nil
}

func (deployments) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.ErrUnsupported
}

// receivers are Deployments; each word is the state of one.
func receivers(t *testing.T, states string) (all deployments) {
	t.Helper()
	for i, state := range strings.Fields(states) {
		d := deploymentOf(fmt.Sprintf("hook-%d", i), earlier)
		complete(d)
		switch state {
		case "earlier":
		case "rolling", "stuck", "done":
			d.Spec.Template.Spec.Containers[0].Image = present
			d.Generation = 2
			if state == "rolling" {
				d.Status.Conditions[0].Reason = "ReplicaSetUpdated"
			}
			if state == "stuck" {
				d.Status.Conditions[0].Status, d.Status.Conditions[0].Reason = corev1.ConditionFalse, "ProgressDeadlineExceeded"
			}
			if state != "rolling" {
				d.Status.ObservedGeneration = 2
			}
		default:
			t.Fatalf("no such state: %s", state)
		}
		all = append(all, d)
	}
	return all
}

func deploymentOf(webhook, image string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "staging", Name: contract.ReceiverName(webhook), Generation: 1, Labels: map[string]string{contract.LabelManagedBy: contract.ManagedByValue},
		},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: desired.ContainerName, Image: image}}},
			},
		},
	}
}

// complete plays the Deployment controller: all Pods are of the present template, and ready.
func complete(d *appsv1.Deployment) {
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2,
		Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"}},
	}
}

func TestRolloutPlaces(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		limit  int
		states string
		free   int
	}{
		"none has begun":               {2, "earlier earlier earlier", 2},
		"one is rolling":               {2, "rolling earlier earlier", 1},
		"as many as may":               {2, "rolling rolling earlier", 0},
		"the first is done":            {2, "done rolling earlier", 1},
		"more than may, by hand":       {2, "rolling rolling rolling earlier", -1},
		"the whole first wave stuck":   {2, "stuck stuck earlier", 0},
		"one of the first wave stuck":  {2, "stuck rolling earlier", 0},
		"one stuck, another succeeded": {2, "stuck done earlier", 2},
		"more stuck than succeeded":    {3, "stuck stuck done earlier", 2},
		"one stuck at fault by itself": {2, "stuck done done rolling earlier", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := NewRollouts(tc.limit, present, receivers(t, tc.states))
			if err := r.recount(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := r.free("staging"); got != tc.free {
				t.Errorf("%d places are free, want %d", got, tc.free)
			}
		})
	}
}

func TestRolloutsLeavePlacesToOtherNamespaces(t *testing.T) {
	t.Parallel()
	all := receivers(t, strings.Repeat("rolling ", 10)+"earlier earlier")
	other := all[11]
	other.Namespace = "other"
	r := NewRollouts(10, present, all)
	if free, err := r.Admit(t.Context(), all[10]); err != nil || free {
		t.Errorf("Admit of a namespace that has all places = %v, %v; want false", free, err)
	}
	if free, err := r.Admit(t.Context(), other); err != nil || !free {
		t.Errorf("Admit of another namespace = %v, %v; want true", free, err)
	}
}

// A namespace whose receivers never finish cannot keep the only slot: here two such namespaces were first, with 20 receivers
// each.
func TestRolloutsReachEveryNamespaceAlthoughOthersNeverFinish(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"rolling", "stuck"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			all := receivers(t, strings.Repeat("earlier ", 43))
			for i, d := range all {
				d.Namespace = []string{"hostile-1", "hostile-2"}[i%2]
				if i >= 40 {
					d.Namespace = fmt.Sprint("quiet-", i)
				}
			}
			r := NewRollouts(1, present, all)
			r.Period = 0
			rolled := map[string]int{}
			for turns := 0; rolled["quiet-40"]+rolled["quiet-41"]+rolled["quiet-42"] < 3; turns++ {
				if turns > 4 {
					t.Fatalf("%v were rolled after %d stalls", rolled, turns)
				}
				for progress := true; progress; {
					progress = false
					for _, d := range all {
						if desired.ReceiverImage(d) == present {
							continue
						}
						switch free, err := r.Admit(t.Context(), d); {
						case err != nil:
							t.Fatal(err)
						case !free:
							continue
						}
						d.Spec.Template.Spec.Containers[0].Image, d.Generation = present, 2
						rolled[d.Namespace]++
						progress = true
						switch {
						case strings.HasPrefix(d.Namespace, "quiet"):
							complete(d)
						case state == "stuck":
							d.Status.ObservedGeneration = 2
							d.Status.Conditions[0].Status, d.Status.Conditions[0].Reason = corev1.ConditionFalse, "ProgressDeadlineExceeded"
						default:
							d.Status.Conditions[0].Reason = "ReplicaSetUpdated"
						}
					}
					if next, err := r.next(t.Context()); err != nil {
						t.Fatal(err)
					} else if len(next) > 0 {
						progress = true
					}
				}
				r.moved = r.moved.Add(-2 * stallTimeout)
			}
			if n := rolled["hostile-1"] + rolled["hostile-2"]; state == "rolling" && n > 2 {
				t.Errorf("%d receivers of the hostile namespaces were rolled, want at most one of each", n)
			}
		})
	}
}

// Waiting receivers are served by namespace: here 600 receivers of one precede the only one of another.
func TestRolloutsTakeTurnsByNamespace(t *testing.T) {
	t.Parallel()
	all := receivers(t, "rolling "+strings.Repeat("earlier ", 601))
	all[0].Namespace, all[601].Namespace = "first", "quiet"
	r := NewRollouts(1, present, all)
	for _, d := range all[1:] {
		if free, err := r.Admit(t.Context(), d); err != nil || free {
			t.Fatalf("Admit = %v, %v; want false", free, err)
		}
	}
	if got := slices.IndexFunc(r.waiting, func(k client.ObjectKey) bool { return k.Namespace == "quiet" }); got != 1 {
		t.Errorf("%d wait before the receiver of the quiet namespace, want 1", got)
	}
}

// Every receiver gets a slot in the end, and there are never more at a time than slots, whatever the caches lack.
func TestRolloutsInTurn(t *testing.T) {
	t.Parallel()
	const limit = 3
	all := receivers(t, strings.Repeat("earlier ", 20))
	r := NewRollouts(limit, present, all)
	r.Period = 0
	waiting, rolling := slices.Clone(all), deployments{}
	rolled := 0
	for round := 0; len(waiting)+len(rolling) > 0; round++ {
		if round > 100 {
			t.Fatalf("%d wait, %d roll, and nothing moves", len(waiting), len(rolling))
		}
		var refused deployments
		for _, d := range waiting {
			switch free, err := r.Admit(t.Context(), d); {
			case err != nil:
				t.Fatal(err)
			case free:
				rolling = append(rolling, d)
			default:
				refused = append(refused, d)
			}
		}
		waiting = refused
		if len(rolling) > limit {
			t.Fatalf("%d roll at a time", len(rolling))
		}
		if next, err := r.next(t.Context()); err != nil || len(next) > limit-len(rolling) {
			t.Fatalf("%d are woken for %d places, %v", len(next), limit-len(rolling), err)
		}
		// One is still out of sight, another one is seen to roll, and the first one completes.
		for i, d := range rolling[:min(2, len(rolling))] {
			d.Spec.Template.Spec.Containers[0].Image, d.Generation = present, 2
			if i == 0 {
				complete(d)
			}
		}
		rolling, rolled = rolling[min(1, len(rolling)):], rolled+min(1, len(rolling))
	}
	if rolled != 20 {
		t.Errorf("%d were rolled, want 20", rolled)
	}
}

// An admitted receiver that does not roll out releases its slot, and waiting ones are woken by the name of their webhook.
func TestRolloutPlaceIsNotLost(t *testing.T) {
	t.Parallel()
	all := receivers(t, "earlier earlier")
	r := NewRollouts(1, present, all)
	r.Period = 0
	admit := func(d *appsv1.Deployment, want bool) {
		t.Helper()
		if free, err := r.Admit(t.Context(), d); err != nil || free != want {
			t.Fatalf("Admit = %v, %v; want %v", free, err, want)
		}
	}
	admit(all[0], true)
	admit(all[0], true) // It may ask again, after a write that failed.
	admit(all[1], false)
	next, err := r.next(t.Context())
	if err != nil || len(next) != 0 {
		t.Errorf("woken for no place: %v, %v", next, err)
	}
	key := client.ObjectKeyFromObject(all[0])
	r.admitted[key] = admission{generation: 1, at: time.Now().Add(-2 * admissionTimeout)}
	next, err = r.next(t.Context())
	if diff := cmp.Diff([]client.ObjectKey{{Namespace: "staging", Name: "hook-1"}}, next); diff != "" || err != nil {
		t.Errorf("woken (-want +got): %v\n%s", err, diff)
	}
	admit(all[1], true)
}
