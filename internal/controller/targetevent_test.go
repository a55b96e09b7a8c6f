package controller

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
