package plugin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/event"
)

// shelf keeps dead letters in memory, for the receiver's own handler.
type shelf struct {
	letters []event.DeadLetter
	err     error
}

func (s *shelf) DeadLetters(_ context.Context, _, _ string, limit int, match func(event.DeadLetter) bool) (found []event.DeadLetter, _ error) {
	for _, l := range s.letters {
		if match(l) && len(found) < limit {
			found = append(found, l)
		}
	}
	return found, s.err
}

func (s *shelf) take(letters []event.DeadLetter) (int, error) {
	for _, taken := range letters {
		for i, l := range s.letters {
			if l.Entry == taken.Entry {
				s.letters = append(s.letters[:i:i], s.letters[i+1:]...)
				break
			}
		}
	}
	return len(letters), s.err
}

func (s *shelf) Replay(_ context.Context, _ string, letters []event.DeadLetter) (int, error) {
	return s.take(letters)
}

func (s *shelf) Discard(_ context.Context, _ string, letters []event.DeadLetter) (int, error) {
	return s.take(letters)
}

// newLetters are the dead letters of a target, served by the room that serves them in a Pod.
func newLetters(t *testing.T) (letters, *shelf) {
	t.Helper()
	s := &shelf{}
	for i := range 4 {
		s.letters = append(s.letters, event.DeadLetter{
			Event: event.Event{
				ID: fmt.Sprintf("evt_%d", i), Type: []string{event.MessageSent, event.ChatClosed}[i%2], Body: []byte(`{"event_data":{"text":"private"}}`),
				AcceptedAt: time.UnixMilli(int64(i) * 1000),
			},
			Entry: fmt.Sprintf("%d000-0", i), Attempts: 1 + i, Status: []int{422, 0}[i/2], Reason: "the target refused it", Excerpt: "no \x1b[31m such customer",
			DiedAt: time.UnixMilli(int64(i)*1000 + 500),
		})
	}
	server := httptest.NewServer(admin.Handler(s, func() []string { return []string{"crm"} }))
	t.Cleanup(server.Close)
	return letters{client: &http.Client{Transport: redirected(server.URL)}, target: "crm"}, s
}

// redirected sends every request to one server, as a tunnel does.
type redirected string

func (to redirected) RoundTrip(r *http.Request) (*http.Response, error) {
	u, err := url.Parse(string(to))
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Host = u.Host
	return http.DefaultTransport.RoundTrip(r)
}

func (s *shelf) left() (entries []string) {
	for _, l := range s.letters {
		entries = append(entries, l.Entry)
	}
	return entries
}

func TestReplayAndDiscard(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		which choice
		taken int
		left  []string
	}{
		{which: choice{status: -1, limit: 1}, taken: 1, left: []string{"1000-0", "2000-0", "3000-0"}},
		{which: choice{status: 422}, taken: 2, left: []string{"2000-0", "3000-0"}},
		{which: choice{status: 0, eventType: event.ChatClosed}, taken: 1, left: []string{"0000-0", "1000-0", "2000-0"}},
		{which: choice{status: -1, entry: "2000-0"}, taken: 1, left: []string{"0000-0", "1000-0", "3000-0"}},
		{which: choice{status: -1, all: true}, taken: 4},
	} {
		for name, do := range map[string]func(letters) (int, error){
			"replay":  func(l letters) (int, error) { return l.replay(t.Context(), tc.which) },
			"discard": func(l letters) (int, error) { return l.discard(t.Context(), tc.which) },
		} {
			l, s := newLetters(t)
			n, err := do(l)
			if diff := cmp.Diff(tc.left, s.left()); err != nil || n != tc.taken || diff != "" {
				t.Errorf("%s %+v: took %d, %v, left (-want +got):\n%s", name, tc.which, n, err, diff)
			}
		}
	}
}

func TestListAndShow(t *testing.T) {
	t.Parallel()
	l, _ := newLetters(t)
	cmd, out := command(t)
	if err := list(cmd, []letters{l}, choice{status: 422, limit: 2}); err != nil {
		t.Fatal(err)
	}
	want := `TARGET  ID      TYPE          GIVEN UP              ATTEMPTS  STATUS  REASON
crm     0000-0  message_sent  1970-01-01T00:00:00Z  1         422     the target refused it
crm     1000-0  chat_closed   1970-01-01T00:00:01Z  2         422     the target refused it
There may be more of crm: --limit takes up to 1000, --type and --status narrow.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	out.Reset()
	letter, err := l.show(t.Context(), "2000-0")
	if err != nil {
		t.Fatal(err)
	}
	show(out, "crm", letter)
	want = `Target    crm
ID        2000-0
Event     evt_2
Type      message_sent
Accepted  1970-01-01T00:00:02Z
Given up  1970-01-01T00:00:02Z
Attempts  3
Status    none
Reason    the target refused it
Answer    no  [31m such customer

{
  "event_data": {
    "text": "private"
  }
}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("show (-want +got):\n%s", diff)
	}
	out.Reset()
	if err := list(cmd, []letters{l}, choice{status: 599, limit: 2}); err != nil || out.String() != "There are none.\n" {
		t.Errorf("none: %q, %v", out, err)
	}
}

func TestWhatTheReceiverRefuses(t *testing.T) {
	t.Parallel()
	l, s := newLetters(t)
	if _, err := l.show(t.Context(), "9000-0"); err == nil || !strings.Contains(err.Error(), "no such dead letter") {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := l.list(t.Context(), choice{status: -1, limit: 1001}); err == nil || !strings.Contains(err.Error(), "1 to 1000") {
		t.Errorf("too many: %v", err)
	}
	if err := report(&cobra.Command{}, "replayed", "crm", 0, nil); err == nil {
		t.Error("nothing replayed is no mistake")
	}
	s.err = fmt.Errorf("redis is away")
	if _, err := l.replay(t.Context(), choice{status: -1}); err == nil || !strings.Contains(err.Error(), "Durable") {
		t.Errorf("without Redis: %v", err)
	}
}

func command(t *testing.T) (*cobra.Command, *strings.Builder) {
	t.Helper()
	var out strings.Builder
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	return cmd, &out
}

// The plugin finds children by the names that the operator gives them.
func TestNamesOfChildren(t *testing.T) {
	t.Parallel()
	if got := urlSecretName("support"); got != desired.URLSecretName("support") || urlKey != desired.KeyURL {
		t.Errorf("looks for the URL in %s under %s", got, urlKey)
	}
	labels := receiverLabels("support")
	if labels[desired.LabelInstance] != "support" || labels[desired.LabelName] == "" {
		t.Errorf("looks for Pods by %v", labels)
	}
}
