package controller

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

func (w *world) raise(revision int64) {
	w.t.Helper()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.URLRevision = revision })
}

// timePasses makes the previous paths look as if they had been replaced that much earlier.
func (w *world) timePasses(d time.Duration) {
	w.t.Helper()
	change(w, w.urlSecret(), func(s *corev1.Secret) {
		var previous []desired.PreviousPath
		w.do(json.Unmarshal(s.Data[desired.KeyPrevious], &previous))
		for i := range previous {
			previous[i].Replaced = previous[i].Replaced.Add(-d)
		}
		var err error
		s.Data[desired.KeyPrevious], err = json.Marshal(previous)
		w.do(err)
	})
}

// A renewal gives the URL a new secret part; the previous one is accepted for its time, and then revoked.
func TestRenewal(t *testing.T) {
	t.Parallel()
	w := settled(t)
	first := w.config().Paths
	w.recorded()

	w.raise(1)
	w.writes.take()
	w.reconcile()
	if diff := cmp.Diff([]string{"PATCH secrets/support-url", "PATCH secrets/support-receiver", "PATCH heymarketwebhooks/support/status"}, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	paths := w.config().Paths
	if len(paths) != 2 || paths[1] != first[0] || paths[0] == first[0] {
		t.Fatal("the receiver does not accept the new path and the one of before, in this order")
	}
	if url := string(w.urlSecret().Data[desired.KeyURL]); !strings.HasSuffix(url, paths[0]) {
		t.Error("the URL does not end with the new path")
	}
	status := w.hook().Status
	left := time.Until(status.PreviousURLUntil.Time)
	if status.URLRevision != 1 || left < 167*time.Hour || left > 168*time.Hour {
		t.Errorf("status: revision %d, previous until in %s", status.URLRevision, left)
	}
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Normal URLRenewed ") || !strings.Contains(got[0], `"support-url"`) || !strings.Contains(got[0], "168h") {
		t.Errorf("events: %v", got)
	}
	w.quiet()

	// Losing what is kept changes nothing that a person has typed.
	w.do(w.person.Delete(t.Context(), w.urlSecret()))
	w.reconcile()
	if diff := cmp.Diff(paths, w.config().Paths); diff != "" {
		t.Error("the paths have changed when the URL Secret was lost")
	}
	w.quiet()
	w.do(w.person.Delete(t.Context(), w.configSecret()))
	w.reconcile()
	if diff := cmp.Diff(paths, w.config().Paths); diff != "" {
		t.Error("the paths have changed when the configuration was lost")
	}

	// The time is kept where it survives the operator, and is counted down.
	w.timePasses(100 * time.Hour)
	w.rollOut(2)
	w.serve("10.1.0.1", "10.1.0.2")
	w.admit("203.0.113.7")
	if res := w.reconcile(); res.RequeueAfter < 67*time.Hour || res.RequeueAfter > 68*time.Hour {
		t.Errorf("looked at again after %s", res.RequeueAfter)
	}
	w.recorded()
	w.timePasses(68 * time.Hour)
	w.reconcile()
	if diff := cmp.Diff(paths[:1], w.config().Paths); diff != "" {
		t.Error("the previous path is not withdrawn, or the present one is")
	}
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Normal PreviousURLWithdrawn ") {
		t.Errorf("events: %v", got)
	}
	if until := w.hook().Status.PreviousURLUntil; until != nil {
		t.Errorf("previous until %s", until)
	}
	w.serve("10.1.0.1", "10.1.0.2")
	if res := w.reconcile(); res.RequeueAfter != 0 {
		t.Errorf("looked at again after %s, although nothing is to be withdrawn", res.RequeueAfter)
	}
	w.quiet()
}

// A second renewal does not shorten the first, and a leaked URL is revoked at once.
func TestRenewalAgain(t *testing.T) {
	t.Parallel()
	w := settled(t)
	var seen []string
	for revision := int64(1); revision <= 2; revision++ {
		seen = append(seen, w.config().Paths[0])
		w.raise(revision)
		w.reconcile()
	}
	paths := w.config().Paths
	if len(paths) != 3 || paths[1] != seen[1] || paths[2] != seen[0] {
		t.Error("want three paths, the latest first")
	}
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Exposure.URLRevision, h.Spec.Exposure.PreviousURLFor = 3, "0s"
	})
	w.recorded()
	w.reconcile()
	if got := w.config().Paths; len(got) != 1 || slices.Contains(paths, got[0]) {
		t.Error("want a new path alone")
	}
	if got := w.recorded(); len(got) != 2 || !strings.Contains(got[0], "URLRenewed") || !strings.Contains(got[1], "PreviousURLWithdrawn") {
		t.Errorf("events: %v", got)
	}
	w.quiet()
}

// staleSecret returns an outdated version of one Secret.
type staleSecret struct {
	client.Client
	name string
	data map[string][]byte
}

func (s staleSecret) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	err := s.Client.Get(ctx, key, obj, opts...)
	if secret, ok := obj.(*corev1.Secret); ok && key.Name == s.name {
		secret.Data = s.data
	}
	return err
}

// A cache that does not contain the renewal yet does not cause another one.
func TestRenewalByAnOldView(t *testing.T) {
	t.Parallel()
	w := settled(t)
	old := w.urlSecret()
	w.raise(1)
	w.reconcile()
	paths := w.config().Paths
	w.r.Client = staleSecret{Client: w.r.Client, name: old.Name, data: old.Data}
	w.reconcile()
	if diff := cmp.Diff(paths, w.config().Paths); diff != "" {
		t.Error("the URL was renewed twice")
	}
}

// A mistake elsewhere in the spec delays a renewal, and revokes nothing.
func TestRenewalWaitsForAcceptance(t *testing.T) {
	t.Parallel()
	w := settled(t)
	paths := w.config().Paths
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Exposure.URLRevision = 1
		h.Spec.Targets[0].Filter = "event.nothing"
	})
	w.writes.take()
	w.reconcile()
	if diff := cmp.Diff([]string{"PATCH heymarketwebhooks/support/status"}, w.writes.take()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if w.hook().Status.URLRevision != 0 {
		t.Error("the status tells of a renewal")
	}
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Targets[0].Filter = "" })
	w.reconcile()
	if got := w.config().Paths; len(got) != 2 || got[1] != paths[0] {
		t.Error("want the new path and the one of before")
	}
}

// Another path moves the route at once; requests by the previous path are still accepted for its time.
func TestChangedPathAndHost(t *testing.T) {
	t.Parallel()
	w := settled(t)
	before := w.config().Paths
	w.recorded()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) { h.Spec.Exposure.Path = "/hooks" })
	w.reconcile()
	segment := before[0][strings.LastIndexByte(before[0], '/')+1:]
	if got := w.config().Paths; len(got) != 2 || got[0] != "/hooks/"+segment || got[1] != before[0] {
		t.Error("want the new path with the same secret part, and the one of before")
	}
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning URLChanged ") {
		t.Errorf("events: %v", got)
	}
	w.quiet()
	change(w, w.hook(), func(h *v1alpha1.HeymarketWebhook) {
		h.Spec.Exposure.Path, h.Spec.Exposure.Host = "", "another.example.com"
	})
	w.reconcile()
	if got := w.config().Paths; len(got) != 2 || got[0] != before[0] || got[1] != "/hooks/"+segment {
		t.Error("want the first path again, and the one of before")
	}
	if got := w.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning URLChanged ") {
		t.Errorf("events: %v", got)
	}
	w.quiet()
}
