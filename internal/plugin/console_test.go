package plugin_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/dev"
	"heymarket.dev/operator/internal/plugin"
)

// The console in a second terminal reaches the webhook run by dev; test/surface/console tests it in a browser. Not
// parallel, like TestDevFromTwoTerminals.
func TestConsole(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	begin := func(ctx context.Context, args ...string) (*written, <-chan error) {
		command, out, ended := plugin.Command("test"), &written{}, make(chan error, 1)
		command.SetOut(out)
		command.SetErr(out)
		command.SetArgs(args)
		go func() { ended <- command.ExecuteContext(ctx) }()
		return out, ended
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	_, devEnded := begin(ctx, "dev", "-f", quickstart, "--echo")
	file, err := dev.StateFile()
	if err != nil {
		t.Fatal(err)
	}
	await(t, devEnded, func() bool { _, err := os.Stat(file); return err == nil })
	wantMistake(t, []string{`"sales"`}, "console", "sales", "--dev", "--no-open")

	opened, end := context.WithCancel(t.Context())
	defer end()
	out, ended := begin(opened, "console", "--dev", "--no-open")
	var address string
	await(t, ended, func() bool {
		address = regexp.MustCompile(`http://127\.0\.0\.1:\d+/open/[A-Z2-7]{26}\n`).FindString(out.String())
		return address != ""
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	read := func(response *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatal(response.Status, err, string(text))
		}
		return string(text)
	}
	if list := read(client.Get(strings.TrimSpace(address))); !strings.Contains(list, `href="/webhooks/support"`) || !strings.Contains(list, "InMemory") {
		t.Errorf("the list is\n%s", list)
	}
	base, _, _ := strings.Cut(address, "/open/")
	const dead = "/webhooks/support/dead/crm"
	for path, want := range map[string]struct {
		status   int
		sentence string
	}{
		"/webhooks/sales":              {404, "runs the webhook"},
		"/webhooks/support/dead/other": {404, "There is no such target"},
		dead + "/letters/1-0":          {404, "There is no such dead letter"},
		dead + "/letters/1-0/edit":     {404, "There is no such dead letter"},
		dead + "/letters/1-0/content":  {404, "There is no such dead letter"},
		dead + "/letters/1":            {400, "The ID of a dead letter"},
		dead + "/rows?status=-1":       {400, "status is an HTTP status"},
		dead + "/rows?after=x":         {400, "after is the ID"},
		"/webhooks/support/events/evt_" + strings.Repeat("a", 26) + "/content": {404, "no longer stored"},
		"/webhooks/support/events/evt_1/content":                               {400, "event is the ID"},
	} {
		response, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != want.status || !strings.Contains(string(text), want.sentence) {
			t.Errorf("%s answers %d, want %d with %q:\n%s", path, response.StatusCode, want.status, want.sentence, text)
		}
	}
	page := read(client.Get(base + "/webhooks/support"))
	for _, direct := range []string{"", "1"} {
		form := url.Values{"csrf": {regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(page)[1]}, "type": {"chat_closed"}, "direct": {direct}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/webhooks/support/send", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", base)
		if sent := read(client.Do(request)); !strings.Contains(sent, "<b>stored</b>") {
			t.Errorf("sending says\n%s", sent)
		}
	}
	await(t, ended, func() bool {
		return strings.Count(read(client.Get(base+"/webhooks/support/events?type=chat_closed")), `good">delivered<`) == 2
	})
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	stop()
	if err := <-devEnded; err != nil {
		t.Error(err)
	}
}
