package ingest

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/event"
)

// expressions returns preset answers.
type expressions struct {
	key     string
	keyErr  error
	wants   map[string]bool
	fails   map[string]bool
	readOf  []string
	readIDs []string
}

func (x *expressions) Read(eventType string, body []byte) Subject {
	x.readOf = append(x.readOf, eventType+" "+string(body))
	return x
}

func (x *expressions) Key(context.Context) (string, error) { return x.key, x.keyErr }

func (x *expressions) Wants(_ context.Context, target, id string) (bool, error) {
	x.readIDs = append(x.readIDs, id)
	if x.fails[target] {
		return false, errors.New("1:1: it cannot be evaluated for this event")
	}
	return x.wants[target], nil
}

func TestExpressionsDecide(t *testing.T) {
	t.Parallel()
	plain := &event.Delivery{Type: event.ChatClosed}
	byProfile, _ := event.Decode([]byte(closed))
	for _, tt := range []struct {
		name string
		x    expressions
		want Report
	}{
		{"both want it", expressions{wants: map[string]bool{"crm": true, "chats": true}}, Report{
			Result: Stored, Judgement: event.New, Targets: []string{"crm", "chats"}, EventID: byProfile.Key("staging", "support").ID(),
		}},
		{"one wants it", expressions{wants: map[string]bool{"chats": true}}, Report{
			Result: Stored, Judgement: event.New, Targets: []string{"chats"}, Filtered: []string{"crm"}, EventID: byProfile.Key("staging", "support").ID(),
		}},
		{"nobody wants it", expressions{}, Report{Result: Ignored, Filtered: []string{"crm", "chats"}, EventID: byProfile.Key("staging", "support").ID()}},
		{"a filter fails", expressions{fails: map[string]bool{"crm": true}}, Report{
			Result: Stored, Judgement: event.New, Targets: []string{"crm"}, FilterFailed: []string{"crm"}, Filtered: []string{"chats"}, EventID: byProfile.Key("staging", "support").ID(),
		}},
		{"a key", expressions{key: "k", wants: map[string]bool{"crm": true}}, Report{
			Result: Stored, Judgement: event.New, Targets: []string{"crm"}, Filtered: []string{"chats"}, EventID: plain.KeyBy("staging", "support", "k").ID(),
		}},
		{"a key that fails", expressions{keyErr: errors.New("no"), wants: map[string]bool{"crm": true}}, Report{
			Result: Stored, Judgement: event.New, Targets: []string{"crm"}, Filtered: []string{"chats"}, KeyFailed: true, EventID: byProfile.Key("staging", "support").ID(),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := settings()
			s.Expressions = &tt.x
			store := &fakeStore{}
			_, got := serve(t, s, store, post(closed))
			tt.want.Status, tt.want.Type, tt.want.Webhook, tt.want.Token = 200, event.ChatClosed, 1187, CurrentToken
			got.Took = 0
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if len(tt.x.readOf) != 1 || !strings.HasPrefix(tt.x.readOf[0], "chat_closed {") || strings.Contains(tt.x.readOf[0], token) {
				t.Errorf("read %q; want the event once, without its token", tt.x.readOf)
			}
			for _, id := range tt.x.readIDs {
				if id != got.EventID {
					t.Errorf("a filter saw the id %q of event %q", id, got.EventID)
				}
			}
			if _, again := serve(t, s, store, post(closed)); got.Result == Stored &&
				(again.Result != Duplicate || again.Judgement != event.Repeat || again.EventID != got.EventID || again.KeyFailed != got.KeyFailed || again.Targets != nil) {
				t.Errorf("a repeat is reported as %+v", again)
			}
		})
	}
}

// traces notes the traceparent of what is stored.
type traces struct{ trace, state, baggage string }

func (s *traces) Append(_ context.Context, _ event.Identity, e event.Event, _ []string) (event.Judgement, string, error) {
	s.trace, s.state, s.baggage = e.Trace, e.TraceState, e.Baggage
	return event.New, e.ID, nil
}

type tracer struct {
	came  string
	ended []Report
}

func (x *tracer) Begin(traceparent string) (string, func(Report)) {
	x.came = traceparent
	return "of the tracer", func(r Report) { x.ended = append(x.ended, r) }
}

func TestATraceIsTakenOrMade(t *testing.T) {
	t.Parallel()
	const came = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	for _, header := range []string{came, "", "nonsense"} {
		store := &traces{}
		req := post(closed)
		req.Header.Set("Traceparent", header)
		req.Header["Tracestate"], req.Header["Baggage"] = []string{"a=1, b=2", "c=3"}, []string{"team=support"}
		serve(t, settings(), store, req)
		if wanted := map[bool]string{true: "a=1,b=2,c=3"}[header == came]; store.state != wanted || store.baggage != "team=support" {
			t.Errorf("%q came, tracestate %q and baggage %q are kept", header, store.state, store.baggage)
		}
		if _, valid := event.ParseTrace(store.trace); !valid || (header == came) != (store.trace == came) {
			t.Errorf("%q came, %q is kept", header, store.trace)
		}
	}
	store, follow, s := &traces{}, &tracer{}, settings()
	s.Tracer = follow
	req := post(closed)
	req.Header.Set("Traceparent", came)
	serve(t, s, store, req)
	if follow.came != came || store.trace != "of the tracer" || len(follow.ended) != 1 || follow.ended[0].Result != Stored {
		t.Errorf("the tracer saw %+v, %q is kept", follow, store.trace)
	}
}

func TestTokenUses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := settings()
		s.Tokens = [][]byte{[]byte("new"), []byte(token)}
		h := NewHandler(&fakeStore{}, make(reports, 100), s)
		use := func(body string) {
			h.ServeHTTP(httptest.NewRecorder(), post(body))
		}
		want := func(current, previous time.Time) {
			t.Helper()
			if diff := cmp.Diff([]TokenUse{{CurrentToken, current}, {PreviousToken, previous}}, h.TokenUses()); diff != "" {
				t.Error(diff)
			}
		}
		start := time.Now().UTC().Truncate(time.Minute)
		want(time.Time{}, time.Time{})
		use(closed)
		use(wrong)
		want(time.Time{}, start)
		time.Sleep(61 * time.Second)
		use(string(bytes.ReplaceAll([]byte(closed), []byte(token), []byte("new"))))
		want(start.Add(time.Minute), start)
		// The rotation goes on: what was current is the previous one now, and takes its time along.
		s.Tokens = [][]byte{[]byte("newer"), []byte("new")}
		h.Use(s)
		want(time.Time{}, start.Add(time.Minute))
	})
}
