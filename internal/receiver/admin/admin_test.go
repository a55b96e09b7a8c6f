package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/event"
)

// shelf keeps dead letters of one target in memory and notes what is done with them.
type shelf struct {
	letters             []event.DeadLetter
	replayed, discarded []string
	err                 error
}

func (s *shelf) DeadLetters(_ context.Context, _, after string, limit int, match func(event.DeadLetter) bool) ([]event.DeadLetter, error) {
	var out []event.DeadLetter
	for _, l := range s.letters {
		if l.Entry > after && match(l) && len(out) < limit {
			out = append(out, l)
		}
	}
	return out, s.err
}

func (s *shelf) Replay(_ context.Context, _ string, letters []event.DeadLetter) (int, error) {
	for _, l := range letters {
		s.replayed = append(s.replayed, l.Entry)
	}
	return len(letters), s.err
}

func (s *shelf) Discard(_ context.Context, _ string, letters []event.DeadLetter) (int, error) {
	for _, l := range letters {
		s.discarded = append(s.discarded, l.Entry)
	}
	return len(letters), s.err
}

func newShelf() *shelf {
	s := &shelf{}
	for i := range 6 {
		s.letters = append(s.letters, event.DeadLetter{
			Event: event.Event{ID: fmt.Sprintf("evt_%d", i), Type: []string{event.MessageSent, event.ChatClosed}[i%2], Body: []byte(`{"text":"private"}`)},
			Entry: fmt.Sprintf("%d-0", i), Attempts: 16, Status: []int{422, 500, 0}[i%3], Reason: "refused",
		})
	}
	return s
}

func TestHandler(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ask                 string
		status              int
		holds, lacks        []string
		replayed, discarded []string
	}{
		{ask: "GET /targets/crm/dead-letters", status: 200, holds: []string{"0-0", "5-0", "refused", "422"}, lacks: []string{"private"}},
		{ask: "GET /targets/crm/dead-letters?limit=1", status: 200, holds: []string{"0-0"}, lacks: []string{"evt_1"}},
		{ask: "GET /targets/crm/dead-letters?after=4-0", status: 200, holds: []string{"5-0"}, lacks: []string{"4-0"}},
		{ask: "GET /targets/crm/dead-letters?status=0", status: 200, holds: []string{"2-0", "5-0"}, lacks: []string{"0-0"}},
		{ask: "GET /targets/crm/dead-letters/3-0", status: 200, holds: []string{"evt_3", "private"}, lacks: []string{"evt_2"}},
		{ask: "GET /targets/crm/dead-letters/9-0", status: 404, holds: []string{"no such dead letter"}},
		{ask: "GET /targets/other/dead-letters", status: 404, holds: []string{"crm"}},
		{ask: "GET /targets/crm/dead-letters?limit=0", status: 400, holds: []string{"1 to 1000"}},
		{ask: "GET /targets/crm/dead-letters?status=bad", status: 400, holds: []string{"status"}},
		{ask: "GET /targets/crm/dead-letters?typ=x", status: 400, holds: []string{`"typ"`, "type"}},
		{ask: "POST /targets/crm/dead-letters/replay?typ=x", status: 400}, // a slip must not replay everything
		{ask: "POST /targets/crm/dead-letters/replay?limit=2", status: 200, holds: []string{`"replayed": 2`}, replayed: []string{"0-0", "1-0"}},
		{ask: "POST /targets/crm/dead-letters/replay?type=chat_closed&status=500", status: 200, replayed: []string{"1-0"}},
		{ask: "POST /targets/crm/dead-letters/4-0/replay", status: 200, replayed: []string{"4-0"}},
		{ask: "POST /targets/crm/dead-letters/replay", status: 200, replayed: []string{"0-0", "1-0", "2-0", "3-0", "4-0", "5-0"}},
		{ask: "DELETE /targets/crm/dead-letters/4-0", status: 200, holds: []string{`"discarded": 1`}, discarded: []string{"4-0"}},
		{ask: "DELETE /targets/crm/dead-letters?status=422", status: 200, discarded: []string{"0-0", "3-0"}},
		{ask: "DELETE /targets/crm/dead-letters", status: 400, holds: []string{"all=true"}},
		{ask: "DELETE /targets/crm/dead-letters?all=true", status: 200, discarded: []string{"0-0", "1-0", "2-0", "3-0", "4-0", "5-0"}},
		{ask: "PUT /targets/crm/dead-letters", status: 405},
	} {
		t.Run(tc.ask, func(t *testing.T) {
			t.Parallel()
			s := newShelf()
			method, path, _ := strings.Cut(tc.ask, " ")
			w := httptest.NewRecorder()
			admin.Handler(s, func() []string { return []string{"crm"} }).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
			if w.Code != tc.status {
				t.Fatalf("status %d, want %d: %s", w.Code, tc.status, w.Body)
			}
			for _, text := range tc.holds {
				if !strings.Contains(w.Body.String(), text) {
					t.Errorf("the answer lacks %q: %s", text, w.Body)
				}
			}
			for _, text := range tc.lacks {
				if strings.Contains(w.Body.String(), text) {
					t.Errorf("the answer holds %q: %s", text, w.Body)
				}
			}
			if diff := cmp.Diff([][]string{tc.replayed, tc.discarded}, [][]string{s.replayed, s.discarded}); diff != "" {
				t.Errorf("replayed and discarded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAStoreThatFailsIsToldSo(t *testing.T) {
	t.Parallel()
	s := newShelf()
	s.err = fmt.Errorf("redis did not confirm")
	for _, ask := range []string{"GET /targets/crm/dead-letters", "POST /targets/crm/dead-letters/replay", "DELETE /targets/crm/dead-letters?all=true"} {
		method, path, _ := strings.Cut(ask, " ")
		w := httptest.NewRecorder()
		admin.Handler(s, func() []string { return []string{"crm"} }).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "did not confirm") {
			t.Errorf("%s: %d %s", ask, w.Code, w.Body)
		}
	}
	if !slices.Equal(s.replayed, nil) {
		t.Errorf("replayed %v", s.replayed)
	}
}
