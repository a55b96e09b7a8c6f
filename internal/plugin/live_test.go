package plugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"heymarket.dev/operator/internal/dev"
	"heymarket.dev/operator/internal/plugin"
)

// written is a command's output so far.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// A terminal session with the real receiver: one terminal tails, another sends and waits. Not parallel, like TestDevFromTwoTerminals.
func TestWatchingLive(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	var status atomic.Int64
	status.Store(http.StatusOK)
	var last atomic.Value // the last body
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		last.Store(string(body))
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(target.Close)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := run(ctx, "dev", "-f", quickstart, "--forward", target.URL)
		ended <- err
	}()
	defer stop()
	file, err := dev.StateFile()
	if err != nil {
		t.Fatal(err)
	}
	await(t, ended, func() bool { _, err := os.Stat(file); return err == nil })

	say := func(fails string, want string, args ...string) string {
		t.Helper()
		out, err := run(t.Context(), append(args, "--dev")...)
		if (err != nil) != (fails != "") || err != nil && !strings.Contains(err.Error(), fails) {
			t.Errorf("%q: %v, want %q", args, err, fails)
		}
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%q printed\n%s, want %s", args, out, want)
		}
		return out
	}
	tail, live := plugin.Command("test"), &written{}
	tail.SetOut(live)
	tail.SetArgs([]string{"tail", "support", "--dev"})
	tailed := make(chan error, 1)
	tailing, end := context.WithCancel(t.Context())
	go func() { tailed <- tail.ExecuteContext(tailing) }()
	await(t, tailed, func() bool { return strings.Contains(live.String(), "TIME") })

	out := say("", `(?s)stored +200 .*\nevt_\S+ +crm +200 +\d+\.\d +1 +delivered\n$`, "send", "support", "chat_closed", "--wait")
	event := regexp.MustCompile(`evt_[a-z2-7]+`).FindString(out)
	if out := say("", `delivered\n$`, "send", "support", "--all-types", "--wait"); strings.Count(out, "  delivered") != 12 {
		t.Errorf("not every type is delivered:\n%s", out)
	}
	say("", `(?s)stored .*duplicate .*\n1? *.*delivered\n$`, "send", "support", "message_sent", "--duplicate", "--wait")
	status.Store(http.StatusUnprocessableEntity)
	out = say("1 of 1 deliveries did not succeed", `crm +422 +\d+\.\d +1 +dead letter: the target refused it with 422\n$`, "send", "support", "chat_opened", "--wait")
	dead := regexp.MustCompile(`evt_[a-z2-7]+`).FindString(out)
	status.Store(http.StatusServiceUnavailable)
	say("did not succeed within 300ms", `crm +503 +.* retry at \d\d:\d\d:\d\d: ServerError\n$`, "send", "support", "chat_pending", "--wait", "--timeout", "300ms")
	wantMistake(t, []string{"--bad-token"}, "send", "support", "--bad-token", "--wait", "--dev")
	say("", `rejected`, "send", "support", "--bad-token")

	await(t, tailed, func() bool { return strings.Contains(live.String(), "refused: token") })
	end()
	if err := <-tailed; err != nil {
		t.Error(err)
	}
	screen := live.String()
	for _, want := range []string{
		`\d\d:\d\d:\d\d\.\d\d\d  chat_closed +` + event + ` +200 +\d+\.\d  stored for crm\n`,
		`chat_closed +` + event + `  crm +1 +200 +\d+\.\d  delivered\n`,
		`chat_opened +` + dead + `  crm +1 +422 +\d+\.\d  dead letter: the target refused it with 422\n`,
		`message_sent .*  duplicate\n`, `retry at \d\d:\d\d:\d\d: ServerError`, ` 401 +\d+\.\d  refused: token\n`,
	} {
		if !regexp.MustCompile(want).MatchString(screen) {
			t.Errorf("tail lacks %s:\n%s", want, screen)
		}
	}
	if strings.Contains(screen, "\x1b") || strings.Index(screen, "stored for crm") > strings.Index(screen, "delivered") {
		t.Errorf("what is no terminal gets colours, or an attempt comes before its request:\n%s", screen)
	}

	once := func(args ...string) []string { return append([]string{"tail", "support", "--follow=false"}, args...) }
	if out := say("", `dead letter`, once("--outcome", "dead_letter")...); strings.Count(out, "\n") != 2 {
		t.Errorf("one dead letter is\n%s", out)
	}
	if out := say("", ``, once("--limit", "3")...); strings.Count(out, "\n") != 4 {
		t.Errorf("three lines are\n%s", out)
	}
	if out := say("", ``, once("--since", "1h")...); strings.Count(out, "\n") < 30 {
		t.Errorf("all lines are\n%s", out)
	}
	var record struct{ Event, Target, Outcome string }
	if out := say("", ``, once("--type", "chat_opened", "--target", "crm", "--outcome", "dead_letter", "-o", "json")...); json.Unmarshal([]byte(out), &record) != nil || record.Event != dead {
		t.Errorf("as JSON: %s", out)
	}
	say("", `(?s)"type": "chat_opened"`, once("--type", "chat_opened", "--show-content")...)
	say("", `no longer stored`, once("--type", "chat_closed", "--show-content")...)

	say("", `(?s)stored +16 +\d.*TARGET.*crm +14 +\d+\.\d+ +[1-9]\d* .* 1 +\S+ +1 +Closed\n`, "stats", "support", "--watch")
	say("", `^\[\{"receiver":"dev".*"waiting":\[`, "stats", "support", "-o", "json")
	wantMistake(t, []string{"--outcome", "dead_letter"}, "tail", "support", "--outcome", "lost", "--dev")
	wantMistake(t, []string{"no target", "crm"}, "tail", "support", "--target", "cmr", "--dev")
	wantMistake(t, []string{"--type", "chat_closed"}, "tail", "support", "--type", "chat_close", "--dev")
	wantMistake(t, []string{"--output"}, "tail", "support", "-o", "yaml", "--dev")
	wantMistake(t, []string{"--output", "set json"}, "dead", "list", "support", "-o", "yaml", "--dev")
	wantMistake(t, []string{"one type"}, "send", "support", "", "--dev")
	wantMistake(t, []string{"--burst"}, "send", "support", "--burst", "3", "--wait", "--dev")
	wantMistake(t, []string{"--wait"}, "send", "support", "--timeout", "3s", "--dev")
	// Letters of one type, which a canary goes before.
	status.Store(http.StatusUnprocessableEntity)
	for range 4 {
		_, _ = run(t.Context(), "send", "support", "incoming_call", "--wait", "--dev")
	}
	canary := []string{"dead", "replay", "support", "--type", "incoming_call", "--canary", "3"}
	say("the rest was not replayed: 3 of 3 deliveries", `Replayed 3 dead letters of target crm as a canary`, canary...)
	if out := say("", ``, "dead", "list", "support", "--type", "incoming_call"); strings.Count(out, "\n") != 5 {
		t.Errorf("after a canary that failed there are\n%s", out)
	}
	status.Store(http.StatusOK)
	say("", `(?s)as a canary.*delivered.*Replayed 1 dead letter of target crm\.\n$`, canary...)
	say("nothing to replay", ``, canary...)
	for range 2 {
		status.Store(http.StatusUnprocessableEntity)
		_, _ = run(t.Context(), "send", "support", "incoming_call", "--wait", "--dev")
		status.Store(http.StatusOK)
	}
	if out := say("", `delivered\n$`, canary...); strings.Count(out, "Replayed") != 1 {
		t.Errorf("a canary that takes all letters leaves nothing to replay:\n%s", out)
	}
	wantMistake(t, []string{"leave out --canary"}, "dead", "replay", "support", "--id", "1-0", "--canary", "1", "--dev")
	wantMistake(t, []string{"--all"}, "dead", "replay", "support", "--canary", "1", "--dev")
	wantMistake(t, []string{"raise it"}, "dead", "replay", "support", "--limit", "2", "--canary", "2", "--dev")
	wantMistake(t, []string{"--canary"}, "dead", "replay", "support", "--limit", "2", "--timeout", "2s", "--dev")
	// A letter is edited: a rejection keeps the file, which a script corrects and sends.
	status.Store(http.StatusUnprocessableEntity)
	_, _ = run(t.Context(), "send", "support", "target_opt_out", "--wait", "--dev")
	status.Store(http.StatusOK)
	letter := regexp.MustCompile(`\d+-\d+`).FindString(say("", `\d+-\d+`, "dead", "list", "support", "--type", "target_opt_out"))
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("KUBE_EDITOR", "true")
	say("", `nothing was sent`, "dead", "edit", "support", letter)
	t.Setenv("KUBE_EDITOR", "sed -i s/target_opt_out/target_opt_in/")
	_, err = run(t.Context(), "dead", "edit", "support", letter, "--dev")
	kept := regexp.MustCompile(`is kept in (\S+)\. Correct it, then run\n  kubectl heymarket dead replay support --target crm --id ` + letter + ` --file `).FindStringSubmatch(fmt.Sprint(err))
	if kept == nil || !strings.Contains(err.Error(), `the member "type" differs`) {
		t.Fatalf("a change of the type: %v", err)
	}
	text, err := os.ReadFile(kept[1])
	if err != nil || !bytes.Contains(text, []byte(`"target_opt_in"`)) {
		t.Fatalf("the file that is kept has %s, %v", text, err)
	}
	if err := os.WriteFile(kept[1], bytes.Replace(text, []byte("target_opt_in"), []byte("target_opt_out"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	say("", `Replayed 1 dead letter of target crm\.`, "dead", "replay", "support", "--id", letter, "--file", kept[1])
	status.Store(http.StatusUnprocessableEntity)
	_, _ = run(t.Context(), "send", "support", "chat_pending", "--wait", "--dev")
	status.Store(http.StatusOK)
	letter = regexp.MustCompile(`\d+-\d+`).FindString(say("", `\d+-\d+`, "dead", "list", "support", "--type", "chat_pending"))
	t.Setenv("KUBE_EDITOR", `sed -i '0,/"event_data": {/s//"event_data": {"edited": true,/'`)
	say("", `Replayed 1 dead letter of target crm\.`, "dead", "edit", "support", letter)
	await(t, ended, func() bool { return strings.Contains(last.Load().(string), `"event_data":{"edited":true,`) })
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
