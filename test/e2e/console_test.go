//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"heymarket.dev/operator/test/support/browser"
	"heymarket.dev/operator/test/support/quickstart"
)

// The console of the built plugin, in a browser, in front of the receivers in the cluster: everything goes through port-forwards.
func TestTheConsoleInFrontOfACluster(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	page := browser.Open(t)
	do := func(what string, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		ctx, cancel := context.WithTimeout(page, time.Minute)
		defer cancel()
		if err := chromedp.Do(ctx, actions...); err != nil {
			text, _ := chromedp.Run(page, chromedp.Evaluate[string](`document.body.innerText.slice(0, 3000)`))
			t.Fatalf("%s: %v; the page shows\n%s", what, err, text)
		}
	}
	shows := func(expression string) {
		t.Helper()
		do(expression, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			for {
				if is, err := chromedp.Evaluate[bool]("Boolean("+expression+")")(ctx, target); err != nil || is {
					return err
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(50 * time.Millisecond):
				}
			}
		}))
	}
	send := func(eventType, state string) {
		t.Helper()
		do("send "+eventType, chromedp.SetValue(`select[name=type]`, eventType), chromedp.Click(`form[hx-post$="/send"] button`), chromedp.WaitVisible(`#sent .note.good`))
		shows(`document.querySelector('#events .event .type')?.textContent === '` + eventType + `' && document.querySelector('#events .event .badge').textContent === '` + state + `'`)
	}

	do("open the console", chromedp.Navigate(startConsole(t, s)), chromedp.WaitVisible(`.flow`))
	shows(`document.querySelector('h1').textContent.includes('` + quickstart.WebhookName + `') && document.querySelector('.place').textContent.includes('` + s.namespace + `')`)
	shows(`document.querySelector('.live.on')`)
	do("send straight to a receiver", chromedp.Click(`input[name=direct]`))
	send("message_recieved", "delivered")
	if err := s.target.Program(t.Context(), quickstart.Step{Status: 422}); err != nil {
		t.Fatal(err)
	}
	send("chat_closed", "dead letter")

	do("go to the dead letters", chromedp.Click(`.tabs a[href$="/dead"]`), chromedp.WaitVisible(`.letters tbody a`))
	do("open the letter", chromedp.Click(`.letters tbody a`), chromedp.WaitVisible(`.secret button`))
	do("ask to replay it", chromedp.Click(`.actions .primary`), chromedp.WaitVisible(`dialog[open] form`))
	shows(`document.querySelector('dialog[open] form')?.['htmx-internal-data']`)
	do("replay it", chromedp.Click(`dialog .primary`))
	shows(`document.querySelector('dialog[open] h2')?.textContent.startsWith('Replayed 1 of 1')`)
	var received []quickstart.Received
	if err := quickstart.Poll(t.Context(), time.Minute, func(ctx context.Context) (_ bool, err error) {
		received, err = s.target.Received(ctx, 0)
		return len(received) >= 3, err
	}); err != nil {
		t.Fatalf("the target received %d requests: %v", len(received), err)
	}
	if first, again := received[1], received[2]; first.Status != 422 || again.Status != 200 || first.EventID() != again.EventID() || first.Body != again.Body {
		t.Errorf("the target received %+v and then %+v", first, again)
	}
}

// startConsole runs the plugin until the test ends, and returns the address that it prints.
func startConsole(t *testing.T, s scene) string {
	t.Helper()
	dir := t.TempDir()
	buildPlugin(t, dir)
	command := exec.CommandContext(t.Context(), filepath.Join(dir, "kubectl-heymarket"),
		"console", quickstart.WebhookName, "--namespace", s.namespace, "--kubeconfig", cluster.Kubeconfig, "--no-open")
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		if err := command.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Error(err)
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, address, found := strings.Cut(lines.Text(), "Console: "); found {
			return address
		}
	}
	t.Fatal("the console prints no address: ", lines.Err())
	return ""
}
