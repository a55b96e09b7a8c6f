package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

// shelf keeps dead letters in memory, for the receiver's own handler.
type shelf struct {
	letters []delivery.DeadLetter
	err     error
	asked   delivery.DeadLetterFilter // by the last call
	full    bool                      // a larger body exceeds the limit
	edited  string                    // the last body
	count   func(context.Context) error
}

func (s *shelf) ListDeadLetters(_ context.Context, _ string, f delivery.DeadLetterFilter, limit int) (found []delivery.DeadLetter, _ error) {
	s.asked = f
	for _, l := range s.letters {
		if (f.Entry == "" || f.Entry == l.Entry) && (f.Type == "" || f.Type == l.Type) && (f.Status == nil || *f.Status == l.Status) &&
			(limit == 0 || len(found) < limit) {
			found = append(found, l)
		}
	}
	return found, s.err
}

func (s *shelf) DeadLetter(_ context.Context, _, entry string) (delivery.DeadLetter, bool, error) {
	for _, l := range s.letters {
		if l.Entry == entry {
			return l, true, s.err
		}
	}
	return delivery.DeadLetter{}, false, s.err
}

func (s *shelf) CountDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter) (int, error) {
	if s.count != nil {
		return 0, s.count(ctx)
	}
	found, err := s.ListDeadLetters(ctx, target, f, 0)
	return len(found), err
}

// ReplayDeadLetters takes one letter a page.
func (s *shelf) ReplayDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, progress func(delivery.DeadLetterCount)) (count delivery.DeadLetterCount, err error) {
	found, err := s.ListDeadLetters(ctx, target, f, limit)
	for _, taken := range found {
		for i, l := range s.letters {
			if l.Entry == taken.Entry {
				s.letters = append(s.letters[:i:i], s.letters[i+1:]...)
				break
			}
		}
		count.Taken++
		progress(count)
	}
	return count, err
}

func (s *shelf) DiscardDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error) {
	return s.ReplayDeadLetters(ctx, target, f, limit, progress)
}

// ReplayEdited keeps the body that it is given.
func (s *shelf) ReplayEdited(ctx context.Context, target, entry string, body []byte) (count delivery.DeadLetterCount, err error) {
	if s.full {
		return count, fmt.Errorf("replay: %w", admin.ErrQuota)
	}
	s.edited = string(body)
	return s.ReplayDeadLetters(ctx, target, delivery.DeadLetterFilter{Entry: entry}, 0, func(delivery.DeadLetterCount) {})
}

// newLetters are the dead letters of a target, served by the room that serves them in a Pod.
func newLetters(t *testing.T) (letters, *shelf) {
	t.Helper()
	s := &shelf{}
	for i := range 4 {
		s.letters = append(s.letters, delivery.DeadLetter{
			Event: event.Event{
				ID: fmt.Sprintf("evt_%d", i), Type: []string{event.MessageSent, event.ChatClosed}[i%2], Body: []byte(`{"event_data":{"text":"private"}}`),
				AcceptedAt: time.UnixMilli(int64(i) * 1000),
			},
			Entry: fmt.Sprintf("%d000-0", i), Attempts: 1 + i, Status: []int{422, 0}[i/2], Reason: "the target refused it", Excerpt: "no \x1b[31m such customer",
			DiedAt: time.UnixMilli(int64(i)*1000 + 500),
		})
	}
	server := httptest.NewServer(admin.Handler(admin.Options{
		DeadLetters: s, Names: func() []string { return []string{"crm"} }, MaxBodyBytes: func() int64 { return 1000 },
	}))
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

// Cancelling a request ends its count in the receiver as well.
func TestACountEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan struct{})
	l, s := newLetters(t)
	s.count = func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-begun
		leave()
	}()
	if _, err := l.count(ctx); err == nil {
		t.Error("it was counted")
	}
	<-ended
}

// The flags become the parameters of the request.
func TestFlagsThatChoose(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for flags, want := range map[string]delivery.DeadLetterFilter{
		"":                                  {},
		"--type chat_closed --status 0":     {Type: event.ChatClosed, Status: new(0)},
		"--reason in_time --text 100%&x=1":  {Reason: "in_time", Text: "100%&x=1"},
		"--since 2026-11-21T12:00:00Z":      {Since: noon},
		"--until 2026-11-21T13:00:00+01:00": {Until: noon},
	} {
		f := &deadFlags{which: choice{status: anyStatus}}
		cmd := &cobra.Command{}
		f.filters(cmd, 10)
		if err := cmd.ParseFlags(strings.Fields(flags)); err != nil {
			t.Fatal(err)
		}
		l, s := newLetters(t)
		if _, err := l.list(t.Context(), f.which); err != nil {
			t.Errorf("%q: %v", flags, err)
		}
		if diff := cmp.Diff(want, s.asked); diff != "" {
			t.Errorf("%q asks for (-want +got):\n%s", flags, diff)
		}
		if want == (delivery.DeadLetterFilter{}) == (f.which.check() == nil) {
			t.Errorf("%q: whether it chooses anything: %v", flags, f.which.check())
		}
	}
	var at time.Time
	before := time.Now()
	if err := (moment{&at}).Set("2h"); err != nil || at.Before(before.Add(-2*time.Hour)) || at.After(time.Now().Add(-2*time.Hour)) {
		t.Errorf("two hours ago is %s, %v", at, err)
	}
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
			"replay": func(l letters) (int, error) {
				p, err := l.replay(t.Context(), tc.which, func(admin.Progress) {})
				return p.Replayed, err
			},
			"discard": func(l letters) (int, error) {
				p, err := l.discard(t.Context(), tc.which, func(admin.Progress) {})
				return p.Discarded, err
			},
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
	if err := list(cmd, []letters{l}, choice{status: 422, limit: 2}, false); err != nil {
		t.Fatal(err)
	}
	want := `TARGET  ID      TYPE          GIVEN UP              ATTEMPTS  STATUS  REASON
crm     0000-0  message_sent  1970-01-01T00:00:00Z  1         422     the target refused it
crm     1000-0  chat_closed   1970-01-01T00:00:01Z  2         422     the target refused it
There may be more of crm: raise --limit (up to 1000), or narrow the list, by --type or --since for example.
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
	if err := list(cmd, []letters{l}, choice{status: 599, limit: 2}, false); err != nil || out.String() != "No dead letters.\n" {
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
	if err := report(&cobra.Command{}, verb{"replay", "Replay", "Replayed"}, "crm", 0, 0, nil); err == nil {
		t.Error("nothing replayed is no mistake")
	}
	s.letters, s.err = nil, fmt.Errorf("redis is away")
	if _, err := l.replay(t.Context(), choice{status: -1, all: true}, func(admin.Progress) {}); err == nil || !strings.Contains(err.Error(), "Durable") {
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

// Every unclear part of a command line must be an error: if it were treated as missing, it would select every dead
// letter.
func TestUnclearCommandLines(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ line, says string }{
		{"stauts", "status"},
		{"statsu support", "status"},
		{"xyz", "--help"},
		{"dead lst support", "list"},
		{"dead remove", "--help"},
		{"help stauts", "status"},
		{"help dead lst", "list"},
		{"completion bsh", "bash"},
		{"dead replay support", "--all"},
		{"dead discard support", "--all"},
		{"dead replay support --all=false", "--all"},
		{"dead replay support --limit -1", "1 to"},
		{"dead replay support --limit 0", "1 to"},
		{"dead replay support --limit 99999999999999999999", "1 to"},
		{"dead replay support --limit=", "empty"},
		{"dead discard support --status -5", "0 to 999"},
		{"dead discard support --status=", "empty"},
		{"dead discard support --status 422 --status 500", "once"},
		{"dead list support --limit 1001", "1 to 1000"},
		{"dead list support --limit -1", "1 to 1000"},
		{"dead list support --status=", "empty"},
		{"dead replay support --id=", "empty"},
		{"dead discard support --id=", "empty"},
		{"dead show support --id=", "empty"},
		{"dead show support", "--id"},
		{"dead replay support --id replay", "1700000000000-0"},
		{"dead replay support --id ..", "1700000000000-0"},
		{"dead replay support --id 1-0 --all", "leave out"},
		{"dead discard support --id 1-0 --status 422", "leave out"},
		{"dead discard support --all --limit 1", "leave out"},
		{"dead discard support --all --text Hello", "leave out"},
		{"dead discard support --id 1-0 --since 2h", "leave out"},
		{"dead discard support --text=", "empty"},
		{"dead replay support --reason=", "empty"},
		{"dead replay support --since=", "empty"},
		{"dead replay support --since yesterday", "2h"},
		{"dead replay support --since -2h", "2h"},
		{"dead replay support --until 2026-11-21", "2h"},
		{"dead discard support --status 422 --until 0001-01-01T00:00:00Z", "from 1970"},
		{"dead discard support --limit 9 --since 1969-12-31T23:59:59Z", "from 1970"},
		{"dead discard support --all --all", "once"},
		{"dead discard support --type=", "empty"},
		{"dead discard support --type chat_close", "chat_closed"},
		{"dead replay support --target=", "empty"},
		{"dead replay support --all --namespace=", "empty"},
		{"dead replay support --all --context=", "empty"},
		{"dead replay support --all --kubeconfig=", "empty"},
		{"dead replay --all", "name one HeymarketWebhook"},
		{"dead replay support --all --file x", "set --id"},
		{"dead replay support --limit 1 --file x", "set --id"},
		{"dead replay support --id 1-0 --limit 1 --file x", "leave out"},
		{"dead replay support --id 1-0 --file=", "empty"},
		{"dead edit support", "name one HeymarketWebhook and the ID"},
		{"dead edit support 1-0 2-0", "name one HeymarketWebhook and the ID"},
		{"dead edit support 1", "is not the ID of a dead letter"},
		{"dead edit support ../../x", "is not the ID of a dead letter"},
		{"dead replay support other --all", "name one HeymarketWebhook"},
		{"status support --namespace=", "empty"},
	} {
		cmd := Command("test")
		cmd.SetArgs(strings.Fields(tc.line))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%q: %v; want an error with %q", tc.line, err, tc.says)
		}
	}
	for _, args := range [][]string{
		{"dead", "replay", "support", "--id", ""},
		{"dead", "replay", "support", "--id", " "},
		{"dead", "discard", "support", "--type", "chat_closed "},
		{"dead", "replay", "", "--all"},
		{"status", " "},
		{"dead", "replay", "support", "--all", "-n", ""},
		{""},
	} {
		cmd := Command("test")
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

func TestAllAsksAPersonAndNoProgram(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "y": true, "n\n": false, "\n": false, "": false, "yess\n": false, "all\n": false} {
		var out strings.Builder
		err := confirm(strings.NewReader(answer), &out, "Discard all 4 dead letters of target crm?")
		if (err == nil) != want || !strings.Contains(out.String(), "4 dead letters") {
			t.Errorf("answer %q: %v after %q; want %t", answer, err, out.String(), want)
		}
	}
	l, s := newLetters(t)
	if n, err := l.count(t.Context()); err != nil || n != 4 {
		t.Errorf("count = %d, %v", n, err)
	}
	cmd, out := command(t)
	cmd.SetIn(strings.NewReader("")) // no terminal: nothing is asked
	f := &deadFlags{which: choice{status: anyStatus, all: true}}
	err := f.change(cmd, l, verb{"discard", "Discard", "Discarded"}, l.discard, func(p admin.Progress) int { return p.Discarded })
	if err != nil || len(s.letters) != 0 || !strings.Contains(out.String(), "Discarded 3 dead letters so far.\nDiscarded 4 dead letters of target crm.\n") {
		t.Errorf("%v, %d left, printed:\n%s", err, len(s.letters), out)
	}
}

// Other people's text must not control the reader's terminal.
func TestWhatIsPrintedIsPrintable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	evil := "a\x1b]0;x\x07\u009b31m\x7f\xff\u202ec\u2066\r\x00\x08"
	if _, err := fmt.Fprintf(terminal{&out}, "%s\n\tend\n", evil); err != nil {
		t.Fatal(err)
	}
	if want := "a ]0;x  31m \uFFFD\uFFFDc\uFFFD   \n\tend\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	if got := printable("a\nb\tc\u2028d"); got != "a b c d" {
		t.Errorf("in one line: %q", got)
	}
	out.Reset()
	show(terminal{&out}, "crm", admin.Letter{Entry: "1-0", Reason: "x\nTarget  forged", Body: []byte(`{"text":"` + "\u009b31m" + `"}`)})
	if strings.ContainsAny(out.String(), "\u009b\x1b") || strings.Contains(out.String(), "\nTarget  forged") {
		t.Errorf("printed %q", out.String())
	}
	out.Reset()
	show(&out, "crm", admin.Letter{Entry: "1-0", Body: []byte(strings.Repeat("[", 5000) + strings.Repeat("]", 5000))})
	if out.Len() > 20_000 {
		t.Errorf("nesting is unfolded to %d bytes", out.Len())
	}
}

// Whatever a receiver answers but 200 is an error with its status and a sentence, and never an empty one.
func TestARejectionIsAnError(t *testing.T) {
	t.Parallel()
	for _, status := range []int{204, 304, 400, 404, 405, 409, 410, 413, 415, 421, 429, 500, 502, 503} {
		for _, sentence := range []string{"", " \n", "no \x1b[31mroom\n"} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, sentence)
			}))
			client := &http.Client{Transport: redirected(server.URL)}
			l := letters{client: client, target: "crm"}
			_, shown := l.show(t.Context(), "1-0")
			_, replayed := l.replay(t.Context(), choice{entry: "1-0"}, func(admin.Progress) {})
			for name, err := range map[string]error{
				"show": shown, "replay": replayed, "others": getJSON(t.Context(), client, "http://localhost/v1/stats", maxAnswer, new(admin.Stats)),
			} {
				problem, is := errors.AsType[admin.Problem](err)
				if want := strings.Contains(sentence, "room") && status >= 400; !is || problem.Status != status || len(problem.Sentence) < 5 || strings.Contains(problem.Sentence, "\x1b") || strings.Contains(problem.Sentence, "room") != want {
					t.Errorf("%s: %d %q: the error is %v", name, status, sentence, err)
				}
			}
			server.Close()
		}
	}
}
