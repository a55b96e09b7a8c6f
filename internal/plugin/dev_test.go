package plugin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"heymarket.dev/operator/internal/dev"
)

const quickstart = "../../examples/quickstart"

// A terminal session: dev in one terminal; in another an event of every type, one that the target rejects permanently, and its
// dead letter, replayed. Not parallel: the file by which --dev finds the running webhook exists once per user.
func TestDevFromTwoTerminals(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	wantMistake(t, []string{"kubectl heymarket dev -f"}, "send", "support", "--dev")
	var status, requests atomic.Int64
	status.Store(http.StatusOK)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		requests.Add(1)
	}))
	t.Cleanup(target.Close)

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var screen string
	go func() {
		out, err := run(ctx, "dev", "-f", quickstart, "--forward", target.URL+"/hook")
		screen = out
		ended <- err
	}()
	defer stop()
	file, err := dev.StateFile()
	if err != nil {
		t.Fatal(err)
	}
	await(t, ended, func() bool { _, err := os.Stat(file); return err == nil })
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with the token: %v, %v", info.Mode(), err)
	}

	say := func(want string, args ...string) string {
		t.Helper()
		out, err := run(t.Context(), append(args, "--dev")...)
		if err != nil || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%q printed\n%s%v, want %s", args, out, err, want)
		}
		return out
	}
	if out := say(`stored +200 .* incoming_call +evt_`, "send", "support", "--all-types"); strings.Count(out, "stored") != 12 {
		t.Errorf("not every type is stored:\n%s", out)
	}
	say(`(?s)stored .*\nduplicate `, "send", "support", "chat_closed", "--duplicate")
	say(`rejected +401`, "send", "support", "--bad-token")
	say(`^Sent 40 events in .*: 40 stored\.\n$`, "send", "support", "--burst", "40")
	event := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(event, []byte(`{"type":"new_type","event_data":{"big":9007199254740993}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	say(`stored +200 .* new_type +evt_`, "send", "support", "--file", event)
	if err := os.WriteFile(event, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantMistake(t, []string{event, "empty"}, "send", "support", "--file", event, "--dev")
	wantMistake(t, []string{event, "empty"}, "dead", "replay", "support", "--id", "1-0", "--file", event, "--dev")
	wantMistake(t, []string{"400", "event_data"}, "send", "support", "--set", "event_data=7", "--dev")
	wantMistake(t, []string{"--set", "event_data.inbox=7"}, "send", "support", "--set", "event_data.inbox", "--dev")
	wantMistake(t, []string{`"sales"`}, "send", "sales", "--dev")
	wantMistake(t, []string{"--namespace"}, "send", "support", "--dev", "--namespace", "staging")

	await(t, ended, func() bool { return requests.Load() == 12+1+40+1 })
	say(`(?s)Durable +ok +Events are kept in memory.*Target crm +ok +.*Route +ok`, "doctor", "support")
	status.Store(http.StatusUnprocessableEntity)
	say(`stored`, "send", "support", "message_sent", "--via", "pod")
	var list string
	await(t, ended, func() bool {
		list, err = run(t.Context(), "dead", "list", "support", "--dev")
		return err == nil && strings.Contains(list, "422")
	})
	say(`^\{"target":"crm","entry":"\d+-\d+","event":"evt_[^"]+","type":"message_sent",[^\n]*"status":422,[^\n]*\}\n$`, "dead", "list", "support", "-o", "json")
	say(`^\{"target":"crm",[^\n]*"body":\{[^\n]*\}\n$`, "dead", "show", "support", "-o", "json", "--id", strings.Fields(list)[9])
	status.Store(http.StatusOK)
	say(`Replayed 1 dead letter of target crm`, "dead", "replay", "support", "--limit", "1")
	say(`No dead letters`, "dead", "list", "support")
	say(`^$`, "dead", "list", "support", "-o", "json")
	await(t, ended, func() bool { // what a receiver reports may be a second old
		out, err := run(t.Context(), "status", "support", "--dev")
		return err == nil && regexp.MustCompile(`(?s)support in staging is Ready.*crm +0 +- +0 `).MatchString(out)
	})
	if out := say(`^http://127\.0\.0\.1:\d+/staging/support/[a-z2-7]{26}\n$`, "url", "support"); strings.Contains(say(`\*\*\*\*`, "status", "support"), strings.TrimSpace(out)) {
		t.Error("the status shows the whole URL")
	}

	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"every event is lost when this command ends", "message_sent", "crm #1", "422", "delivered", "rejected: token"} {
		if !strings.Contains(screen, want) {
			t.Errorf("dev does not show %q:\n%s", want, screen)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file stays when dev has ended")
	}
}

// await waits for what another goroutine brings about.
func await(t *testing.T, ended <-chan error, done func() bool) {
	t.Helper()
	for !done() {
		select {
		case err := <-ended:
			t.Fatalf("dev has ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestDevOnce(t *testing.T) {
	t.Parallel()
	out, err := run(t.Context(), "dev", "-f", quickstart, "--echo", "--play", "--once")
	if err != nil || strings.Count(out, "\nok  ") != 16 || strings.Contains(out, "NO") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDevFlags(t *testing.T) {
	t.Parallel()
	wantMistake(t, []string{"filename"}, "dev")
	wantMistake(t, []string{"--echo"}, "dev", "-f", quickstart, "--play")
	wantMistake(t, []string{"--play"}, "dev", "-f", quickstart, "--once", "--echo")
	wantMistake(t, []string{"--forward", "--echo"}, "dev", "-f", quickstart, "--echo", "--forward", "http://localhost:1")
	wantMistake(t, []string{"not a URL"}, "dev", "-f", quickstart, "--forward", "localhost:3000")
	wantMistake(t, []string{"no target of that name"}, "dev", "-f", quickstart, "--forward", "http://localhost:1", "--forward", "cmr=http://localhost:1")
	wantMistake(t, []string{"--redis-url", "redis://"}, "dev", "-f", quickstart, "--echo", "--redis-url", "localhost:6379")
	out, err := run(t.Context(), "dev", "-f", quickstart, "--show-children")
	if err != nil || strings.Count(out, "\nkind: ") != 6 || !strings.Contains(out, "kind: Ingress") {
		t.Errorf("the children are %d, %v:\n%s", strings.Count(out, "\nkind: "), err, out)
	}
}
