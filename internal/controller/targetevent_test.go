package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"heymarket.dev/operator/api/v1alpha1"
)

// eventSink receives what a recorder sends to the API server.
type eventSink chan *eventsv1.Event

func (s eventSink) Create(_ context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	s <- e
	return e, nil
}

func (s eventSink) Update(_ context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	return e, nil
}

func (s eventSink) Patch(_ context.Context, e *eventsv1.Event, _ []byte) (*eventsv1.Event, error) {
	return e, nil
}

// notes are the Events that a reconciler records.
type notes struct{ list []string }

func (n *notes) Eventf(about, _ runtime.Object, kind, reason, _, format string, args ...any) {
	of := about.(*corev1.ObjectReference)
	n.list = append(n.list, fmt.Sprintf("%s %s of %s %s/%s %s %s %s: %s", kind, reason, of.Kind, of.Namespace, of.Name, of.UID, of.ResourceVersion, of.FieldPath, fmt.Sprintf(format, args...)))
}

// Each target is compared with its own former state, and each transition is one Event about this target.
func TestTransitionsOfTargets(t *testing.T) {
	t.Parallel()
	hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: "staging", Name: "support", UID: "u", ResourceVersion: "7"}}
	const closed, open, gone = v1alpha1.CircuitClosed, v1alpha1.CircuitOpen, v1alpha1.CircuitGone
	before := &v1alpha1.HeymarketWebhookStatus{Targets: []v1alpha1.TargetStatus{
		{Name: "log", Circuit: closed, DeadLetters: 1}, {Name: "crm", Circuit: closed}, {Name: "erp", Circuit: open}, {Name: "archive", Circuit: open}, {Name: "former", Circuit: open},
	}}
	after := &v1alpha1.HeymarketWebhookStatus{Targets: []v1alpha1.TargetStatus{
		{Name: "log", Circuit: closed, DeadLetters: 5},
		{Name: "crm", Circuit: gone},
		{Name: "erp", Circuit: closed},
		{Name: "archive", Circuit: open, DeadLetters: 2},
		{Name: "new", Circuit: open},
		{Name: "fine", Circuit: closed},
	}}
	var got notes
	(&Reconciler{Events: &got}).emitTargetEvents(hook, before, after)
	want := []string{
		`Warning CircuitOpened of HeymarketWebhook staging/support u 7 spec.targets{crm}: Target "crm" answers 410 Gone`,
		`Normal CircuitClosed of HeymarketWebhook staging/support u 7 spec.targets{erp}: Target "erp" accepts events again.`,
		`Warning DeadLetters of HeymarketWebhook staging/support u 7 spec.targets{archive}: Target "archive" has dead letters`,
		`Warning CircuitOpened of HeymarketWebhook staging/support u 7 spec.targets{new}: Target "new" fails, so it gets fewer attempts`,
	}
	if !slices.EqualFunc(want, got.list, func(w, g string) bool { return strings.HasPrefix(g, w) }) {
		t.Errorf("Events:\n%s\nwant those that begin with\n%s", strings.Join(got.list, "\n"), strings.Join(want, "\n"))
	}
}

// Two targets that fail at the same time emit two Events, although recorders merge those with the same object and reason.
func TestEachTargetHasItsOwnEvent(t *testing.T) {
	t.Parallel()
	sink := make(eventSink, 10)
	broadcaster := events.NewBroadcaster(sink)
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &Reconciler{Events: broadcaster.NewRecorder(Scheme(), FieldOwner)}
	hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: "staging", Name: "support", UID: "1"}}
	failing := &v1alpha1.HeymarketWebhookStatus{Targets: []v1alpha1.TargetStatus{
		{Name: "crm", Circuit: v1alpha1.CircuitOpen}, {Name: "erp", Circuit: v1alpha1.CircuitOpen}, {Name: "archive", Circuit: v1alpha1.CircuitClosed},
	}}
	r.emitTargetEvents(hook, &v1alpha1.HeymarketWebhookStatus{}, failing)
	var about []string
	for range 2 {
		select {
		case e := <-sink:
			about = append(about, e.Reason+" "+e.Regarding.Name+" "+e.Regarding.FieldPath)
		case <-time.After(time.Minute):
			t.Fatalf("only these Events were sent: %v", about)
		}
	}
	slices.Sort(about)
	if diff := cmp.Diff([]string{"CircuitOpened support spec.targets{crm}", "CircuitOpened support spec.targets{erp}"}, about); diff != "" {
		t.Errorf("Events (-want +got):\n%s", diff)
	}
}
