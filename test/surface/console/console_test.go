// Package console drives the console in a real browser, in front of the real receiver, as `kubectl heymarket dev` runs both.
package console_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"heymarket.dev/operator/internal/plugin"
	"heymarket.dev/operator/test/support/browser"
)

// screenshotsEnv names a directory for pictures of every page.
const screenshotsEnv = "HEYMARKET_SCREENSHOTS"

//go:embed testdata/axe.min.js
var axe string

// output is a command's output so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// session is the console in a browser.
type session struct {
	testing.TB
	browser context.Context
	// address opens the console, and echo is the base of the target's addresses.
	address, echo string
	mu            sync.Mutex
	complaints    []string
}

// start runs dev with further flags.
func start(t testing.TB, args ...string) *session {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	command, out := plugin.Command("test"), &output{}
	command.SetOut(out)
	command.SetErr(out)
	command.SetArgs(append([]string{"dev", "-f", "testdata/webhook.yaml", "--echo"}, args...))
	ended := make(chan error, 1)
	go func() { ended <- command.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	s := &session{TB: t}
	printed := regexp.MustCompile(`(?s)Console +(http://\S+).*Received +(http://\S+)/received`)
	for s.address == "" {
		if found := printed.FindStringSubmatch(out.String()); found != nil {
			s.address, s.echo = found[1], found[2]
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("dev ended: %v\n%s", err, out)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return s
}

// begin is start with a browser.
func begin(t *testing.T) *session {
	t.Helper()
	s := start(t)
	s.browser = browser.Open(t)
	messages := chromedp.Console(s.browser)
	go func() {
		for m, err := range messages {
			if err == nil && (m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleException) {
				s.mu.Lock()
				s.complaints = append(s.complaints, fmt.Sprint(m))
				s.mu.Unlock()
			}
		}
	}()
	return s
}

// do runs actions, each of which waits for what it needs.
func (s *session) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.browser, limit)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		s.fail(what, err)
	}
}

// limit bounds one step, on a loaded machine.
const limit = time.Minute

func (s *session) fail(what string, err error) {
	s.Helper()
	text, _ := chromedp.Run(s.browser, chromedp.Evaluate[string](`document.body.innerText.slice(0, 3000)`))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Fatalf("%s: %v\ncomplaints: %q\nthe page shows\n%s", what, err, s.complaints, text)
}

// value is that of an expression of the page.
func value[T any](s *session, expression string) T {
	s.Helper()
	v, err := chromedp.Run(s.browser, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		s.fail(expression, err)
	}
	return v
}

// shows waits until an expression of the page is true.
func (s *session) shows(what, expression string) {
	s.Helper()
	for end := time.Now().Add(limit); !value[bool](s, "Boolean("+expression+")"); <-time.After(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.fail(what, errors.New("it does not become so: "+expression))
		}
	}
}

// program sets the target's answers to the next requests.
func (s *session) program(steps string) {
	s.Helper()
	response, err := http.Post(s.echo+"/program", "application/json", strings.NewReader(steps))
	if err != nil || response.StatusCode != http.StatusNoContent {
		s.Fatal(response, err)
	}
}

// received are the bodies that the target got.
func (s *session) received(target string) (bodies []string) {
	s.Helper()
	response, err := http.Get(s.echo + "/received")
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	var records []struct{ Path, Body string }
	if err := json.NewDecoder(response.Body).Decode(&records); err != nil {
		s.Fatal(err)
	}
	for _, r := range records {
		if r.Path == "/"+target {
			bodies = append(bodies, r.Body)
		}
	}
	return bodies
}

// bodies are what the target got, the last of each event.
func (s *session) bodies(target string) map[string]string {
	s.Helper()
	response, err := http.Get(s.echo + "/received")
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	var records []struct {
		Path, Body string
		Headers    map[string]string
	}
	if err := json.NewDecoder(response.Body).Decode(&records); err != nil {
		s.Fatal(err)
	}
	bodies := map[string]string{}
	for _, r := range records {
		if r.Path == "/"+target {
			bodies[r.Headers["Webhook-Id"]] = r.Body
		}
	}
	return bodies
}

// root is the console's address, without the secret.
func (s *session) root() string {
	root, _, _ := strings.Cut(s.address, "/open/")
	return root
}

// send sends a sample by the form of the overview.
func (s *session) send(eventType string) {
	s.Helper()
	s.do("send "+eventType,
		chromedp.SetValue(`select[name=type]`, eventType), run(`document.getElementById('sent').replaceChildren()`),
		chromedp.Click(`form[hx-post$="/send"] button`), chromedp.WaitVisible(`#sent .note.good`))
}

// run is a script whose value does not matter.
func run(script string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Evaluate[bool](script+"; true")(ctx, t)
		return chromedp.Void{}, err
	}
}

// prefer chooses a colour scheme, and no motion, so that pictures are still.
func prefer(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	})
}

// looks checks a page for faults of accessibility and keeps a picture of it, in light and dark, and narrow.
func (s *session) looks(name string) {
	s.Helper()
	for _, form := range []struct {
		scheme string
		width  int64
	}{{"light", 1280}, {"dark", 390}, {"dark", 1280}} {
		s.do("choose "+form.scheme, prefer(form.scheme), chromedp.EmulateViewport(form.width, 900))
		// The browser switches after it has answered: until the page is drawn, axe would see colours of both schemes.
		s.shows("the colours of "+form.scheme, `matchMedia('(prefers-color-scheme: `+form.scheme+`)').matches`)
		value[bool](s, `new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(() => drawn(true))))`)
		s.picture(fmt.Sprintf("%s-%s-%d", name, form.scheme, form.width))
		if wide := value[int64](s, `document.documentElement.scrollWidth`); wide > form.width {
			s.Errorf("%s is %d pixels wide in a window of %d", name, wide, form.width)
		}
		if form.width == 1280 {
			s.accessible(name + ", " + form.scheme)
		}
	}
	s.do("back to wide", chromedp.EmulateViewport(1280, 900))
}

func (s *session) accessible(name string) {
	s.Helper()
	if !value[bool](s, `'axe' in window`) {
		s.do("load axe", run(axe))
	}
	violations := value[[]struct {
		ID    string `json:"id"`
		Help  string `json:"help"`
		Nodes []struct {
			HTML    string `json:"html"`
			Failure string `json:"failureSummary"`
		} `json:"nodes"`
	}](s, `axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)`)
	for _, v := range violations {
		for _, n := range v.Nodes {
			s.Errorf("%s: %s: %s\n%s\n%s", name, v.ID, v.Help, n.HTML, n.Failure)
		}
	}
}

func (s *session) picture(name string) {
	s.Helper()
	dir := os.Getenv(screenshotsEnv)
	if dir == "" {
		return
	}
	<-time.After(200 * time.Millisecond) // charts are drawn again a moment after a change of size
	png, err := chromedp.Run(s.browser, chromedp.FullScreenshot(100))
	if err != nil {
		s.fail("take a picture", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		s.Fatal(err)
	}
}

// axe-core 4.14.1 is unmodified from npm.
func TestVendoredAxe(t *testing.T) {
	sums, err := os.ReadFile("testdata/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sums)) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if sum := sha256.Sum256(text); err != nil || hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s is not what npm has (%v)", name, err)
		}
	}
}

// One visit, from the address that dev prints to a replayed dead letter. Not parallel: dev keeps its state in the home directory.
func TestAVisit(t *testing.T) {
	s := begin(t)
	secret := s.address[strings.LastIndexByte(s.address, '/')+1:]

	// The address opens once, and the secret is gone from it.
	s.do("open the console", chromedp.Navigate(s.address), chromedp.WaitVisible(`.flow`))
	secret, _, _ = strings.Cut(secret, "?")
	if at := value[string](s, `location.href`); strings.Contains(at, secret) || !strings.HasSuffix(at, "/webhooks/support") {
		t.Errorf("the page is at %s", at)
	}
	again, err := http.Get(s.address)
	if err != nil || again.StatusCode != http.StatusForbidden {
		t.Errorf("the address opens twice: %v, %v", again, err)
	}
	s.shows("the stream is open", `document.querySelector('.live.on')?.textContent === 'Live'`)

	// An event that is sent from the page arrives in its list without a reload, and its figures follow.
	s.do("mark the page", run(`window.notReloaded = true`))
	s.send("message_recieved")
	s.shows("the event arrives live", `document.querySelector('#events .event .type')?.textContent === 'message_recieved'`)
	s.shows("its state follows", `document.querySelector('#events .event .badge')?.textContent === 'delivered'`)
	s.shows("figures follow", `document.querySelector('[data-live="accepted"]').textContent === '1' && window.notReloaded`)
	s.do("open its timeline", chromedp.Click(`#events .event summary`), chromedp.WaitVisible(`#events .timeline .step.good`))
	if n := len(s.received("crm")); n != 1 {
		t.Errorf("the target got %d events", n)
	}

	// What a target refuses for good becomes a dead letter, what it fails at is tried again.
	s.program(`[{"status": 422}]`)
	s.send("chat_closed")
	s.shows("a dead letter arrives live", `[...document.querySelectorAll('#events .badge')].some(b => b.textContent === 'dead letter')`)
	s.program(`[{"status": 503}]`)
	s.send("message_sent")
	s.shows("a retry arrives live", `[...document.querySelectorAll('#events .badge')].some(b => b.textContent === 'retrying')`)
	s.shows("figures show the dead letter", `document.querySelector('[data-live="crm.dead"]').textContent === '1'`)
	s.shows("figures show the backlog", `document.querySelector('[data-live="crm.pending"]').textContent === '1'`)
	s.shows("charts are drawn", `document.querySelectorAll('.chart canvas').length === 3`)
	s.do("load it again", chromedp.Reload(), chromedp.WaitVisible(`.chart canvas`))
	s.shows("the stream is open again", `document.querySelector('.live.on')`)
	s.looks("overview")
	s.do("remember what the charts show", run(`window.shown = document.querySelector('[data-series]').plots.map(p => p.scales.x.max)`))
	s.send("message_sent")
	s.shows("charts move on with time", `document.querySelector('[data-series]').plots.every((p, i) => p.scales.x.max > window.shown[i])`)

	s.do("go to the events", chromedp.Click(`.tabs a[href$="/events"]`), chromedp.WaitVisible(`.filters`))
	s.shows("four events", `document.querySelectorAll('#events .event').length === 4`)
	s.do("open all", run(`document.querySelectorAll('details').forEach(d => d.open = true)`))
	s.looks("events")
	s.do("filter by state", chromedp.SetValue(`select[name=state]`, "dead letter"), chromedp.Click(`.filters button`), chromedp.WaitVisible(`.filters a.button`))
	s.shows("one event", `document.querySelectorAll('#events .event').length === 1`)

	// A dead letter's content is not part of its page until it is requested.
	s.do("go to the dead letters", chromedp.Click(`.tabs a[href$="/dead"]`), chromedp.WaitVisible(`.letters`))
	s.shows("grouped by reason", `document.querySelector('.groups a')?.textContent.includes('422')`)
	s.looks("dead-letters")
	s.do("search what is there", chromedp.SendKeys(`input[name=text]`, "EVENT_DATA"), chromedp.Click(`.filters .primary`), chromedp.WaitVisible(`.letters tbody a`))
	s.shows("the search is counted", `document.querySelector('.title .num')?.textContent === '1'`)
	s.looks("search")
	s.do("search what is not", chromedp.SendKeys(`input[name=text]`, "nowhere"), chromedp.Click(`.filters .primary`))
	s.shows("nothing matches", `document.querySelector('.letters tbody')?.textContent.includes('None match')`)
	s.looks("search-nothing")
	s.do("clear the search", chromedp.Click(`.filters a.button`), chromedp.WaitVisible(`.letters tbody a`))
	s.do("open the letter", chromedp.Click(`.letters tbody a`), chromedp.WaitVisible(`.secret button`))
	if strings.Contains(value[string](s, `document.documentElement.outerHTML`), "event_data") {
		t.Error("the page has the content before it is asked for")
	}
	s.looks("letter")
	s.do("show the content", chromedp.Click(`.secret button`), chromedp.WaitVisible(`.content`))
	s.shows("the content", `document.querySelector('.secret .content:last-child').textContent.includes('"event_data"')`)
	s.looks("content")

	// Edit it: what is rejected is shown beside the form with the text kept, and what is replayed arrives under the same ID.
	letter := value[string](s, `location.pathname`)
	s.do("edit it", chromedp.Click(`a.button[href$="/edit"]`), chromedp.WaitVisible(`textarea`))
	s.shows("htmx is ready", `document.querySelector('form.edit')?.['htmx-internal-data']`)
	s.looks("edit")
	const replaceType = `document.querySelector('textarea').value = document.querySelector('textarea').value.replace('chat_closed', 'chat_opened')`
	s.do("change the type", run(`window.notReloaded = true; `+replaceType), chromedp.Click(`form.edit .primary`), chromedp.WaitVisible(`#edit-problem`))
	s.shows("why it is rejected, with the text", `document.querySelector('#edit-problem').textContent.includes('type') && document.querySelector('textarea').value.includes('chat_opened') && window.notReloaded`)
	s.looks("edit-rejected")
	const mark = `document.querySelector('textarea').value = document.querySelector('textarea').value.replace('chat_opened', 'chat_closed').replace('"event_data": {', '"event_data": {"edited": true,')`
	id := value[string](s, `document.querySelector('form.edit') && fetch('`+letter+`').then(r => r.text()).then(t => t.match(/evt_[a-z2-7]{26}/)[0])`)
	s.shows("htmx is ready again", `document.querySelector('form.edit')?.['htmx-internal-data']`)
	s.do("correct it", run(mark), chromedp.Click(`form.edit .primary`), chromedp.WaitVisible(`#events`))
	s.shows("its page follows it", `location.search === '?event=`+id+`' && document.querySelector('#events .badge')?.textContent === 'delivered'`)
	if got := s.bodies("crm")[id]; !strings.Contains(got, `"event_data":{"edited":true,`) {
		t.Errorf("the target got %q", got)
	}

	// Discard one: it can be undone before it begins, and is final afterwards.
	for range 2 {
		s.program(`[{"status": 422}]`)
		s.do("back to the overview", chromedp.Navigate(s.root()+"/webhooks/support"), chromedp.WaitVisible(`.flow`))
		s.shows("the stream is open", `document.querySelector('.live.on')`)
		s.send("chat_closed")
		s.shows("it is a dead letter", `document.querySelector('#events .event .badge')?.textContent === 'dead letter'`)
	}
	s.do("go to the dead letters", chromedp.Click(`.tabs a[href$="/dead"]`), chromedp.WaitVisible(`.letters tbody a`), chromedp.Click(`.letters tbody a`), chromedp.WaitVisible(`.secret button`))
	s.do("ask to discard", chromedp.Click(`.actions .danger`), chromedp.WaitVisible(`dialog[open] form`))
	s.shows("htmx is ready", `document.querySelector('dialog[open] form')?.['htmx-internal-data']`)
	s.looks("confirm-discard")
	// The page as it is before the discard begins, however slow this machine is: its polls go nowhere.
	s.do("discard", run(`document.body.addEventListener('htmx:beforeRequest', e => { if (e.detail.requestConfig.verb === 'get') e.preventDefault(); })`), chromedp.Click(`dialog .danger`), chromedp.WaitVisible(`dialog .job`))
	s.shows("it can be undone", `document.querySelector('dialog .job button').textContent === 'Undo'`)
	s.looks("undo")
	s.do("see the dead letters", chromedp.Navigate(s.root()+"/webhooks/support/dead/crm"))
	for value[int](s, `document.querySelectorAll('.letters tbody tr').length`) != 1 {
		s.do("wait until it is discarded", chromedp.Reload(), chromedp.WaitVisible(`.letters`))
	}
	s.do("open the other letter", chromedp.Click(`.letters tbody a`), chromedp.WaitVisible(`.secret button`))

	// Replay it: asked first, by the keyboard, and the target gets it.
	before := len(s.received("crm"))
	s.do("ask", chromedp.Click(`.actions .primary`), chromedp.WaitVisible(`dialog[open] form`))
	s.looks("confirm")
	s.do("cancel", chromedp.KeyEvent("\x1b"))
	s.shows("the dialog closes", `!document.querySelector('dialog[open]')`)
	if now := len(s.received("crm")); now != before {
		t.Errorf("the target got %d requests without a confirmation", now-before)
	}
	s.do("ask again", chromedp.Click(`.actions .primary`), chromedp.WaitVisible(`dialog[open] form`))
	s.shows("htmx is ready", `document.querySelector('dialog[open] form')?.['htmx-internal-data']`)
	s.do("confirm", chromedp.Click(`dialog .primary`))
	s.shows("it is replayed", `document.querySelector('dialog[open] h2')?.textContent.startsWith('Replayed 1 of 1')`)
	s.looks("replayed")
	s.do("finish", chromedp.Click(`dialog a.primary`), chromedp.WaitVisible(`.card.empty`))
	for len(s.received("crm")) == before {
		<-time.After(20 * time.Millisecond)
	}
	s.looks("no-dead-letters")

	s.do("go to the list", chromedp.Click(`.brand`), chromedp.WaitVisible(`.hooks`))
	s.looks("webhooks")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, complaint := range s.complaints {
		if !strings.Contains(complaint, "400 (Bad Request)") { // the edited event that is rejected
			t.Errorf("the browser complains: %s", complaint)
		}
	}
}
