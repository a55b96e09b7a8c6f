package console_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/console"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/recent"
)

// hostile is text that would be a script, were it not escaped.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(1)>`

// body is the content of every event.
const body = `{"event_data":{"text":"the secret words"}}`

// fake is a place with one webhook, whose texts are hostile.
type fake struct {
	mu      sync.Mutex
	letters int
	calls   []string
	records chan []recent.Record
	rejects string        // why edited letters are rejected
	fails   error         // of every request for a webhook, letters or content, when set
	scans   chan string   // receives when a look through the letters begins and ends, when set: it lasts until it is ended
	step    chan struct{} // of a replay or discard, when set
}

func (f *fake) called(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fake) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fake) Name() string { return "namespace staging" }

func (f *fake) hook() *v1alpha1.HeymarketWebhook {
	hook := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Name: "support"}}
	hook.Spec.Targets = []v1alpha1.Target{{Name: "crm"}, {Name: "warehouse"}}
	hook.Status.Targets = []v1alpha1.TargetStatus{{Name: "crm", DeadLetters: int64(f.letters)}}
	hook.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "TooBad", Message: hostile}}
	return hook
}

func (f *fake) Webhooks(context.Context) ([]v1alpha1.HeymarketWebhook, error) {
	return []v1alpha1.HeymarketWebhook{*f.hook()}, nil
}

func (f *fake) Webhook(_ context.Context, name string) (*v1alpha1.HeymarketWebhook, string, error) {
	if name != "support" {
		return nil, "", errors.New("there is no HeymarketWebhook " + hostile)
	}
	return f.hook(), "", f.fails
}

func (f *fake) Stats(context.Context, string) ([]admin.Stats, error) {
	s := admin.Stats{Waiting: []contract.TargetStatus{{Name: "crm", Pending: 1234, Circuit: hostile, DeadLetters: int64(f.letters)}}}
	s.Targets = []recent.Target{{Name: "crm"}, {Name: "warehouse"}}
	s.Requests.Stored = 7
	return []admin.Stats{s}, nil
}

func (f *fake) Follow(ctx context.Context, _ string, show func([]recent.Record)) error {
	show(nil)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case records := <-f.records:
			show(records)
		}
	}
}

func (f *fake) Content(context.Context, string, string) (admin.Content, error) {
	return admin.Content{Body: []byte(body)}, f.fails
}

func (f *fake) Letters(_ context.Context, _, target string) (console.Letters, func(), error) {
	return fakeLetters{f, target}, func() {}, nil
}

func (f *fake) Send(_ context.Context, name, eventType string, direct bool) (console.Sent, error) {
	f.called("send %s %s %t", name, eventType, direct)
	return console.Sent{Type: eventType, Event: event(1), Result: "stored", Status: 200}, nil
}

type fakeLetters struct {
	*fake
	target string
}

// scan takes as long as a test wants, or until its page is left.
func (f fakeLetters) scan(ctx context.Context) error {
	if f.scans == nil {
		return f.fails
	}
	f.scans <- "begun"
	<-ctx.Done()
	f.scans <- "ended"
	return ctx.Err()
}

func (f fakeLetters) List(ctx context.Context, query url.Values) (all []admin.Letter, err error) {
	f.called("list %s %s", f.target, query.Encode())
	if err := f.scan(ctx); err != nil {
		return nil, err
	}
	after, _ := strconv.Atoi(strings.TrimSuffix(query.Get("after"), "-0"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	for i := after + 1; i <= f.letters && len(all) < limit; i++ {
		all = append(all, letter(i))
	}
	return all, nil
}

func letter(i int) admin.Letter {
	return admin.Letter{
		Entry: fmt.Sprintf("%d-0", i), Event: event(i), Type: "chat_closed", DiedAt: time.Unix(int64(i), 0), Attempts: 3, Status: 422,
		Reason: fmt.Sprintf("reason %d %s", i%3, hostile), Excerpt: "an answer with personal data",
	}
}

func (f fakeLetters) Count(ctx context.Context, query url.Values) (int, error) {
	f.called("count %s %s", f.target, query.Encode())
	if err := f.scan(ctx); err != nil {
		return 0, err
	}
	return f.letters, nil
}

func (f fakeLetters) Show(_ context.Context, entry string) (admin.Letter, error) {
	i, err := strconv.Atoi(strings.TrimSuffix(entry, "-0"))
	l := letter(i)
	l.Body = []byte(body)
	if f.fails != nil {
		return admin.Letter{}, f.fails
	}
	return l, err
}

func (f fakeLetters) change(ctx context.Context, name, entry string, query url.Values, progress func(admin.Progress)) (p admin.Progress, err error) {
	f.called("%s %s %s %s", name, f.target, entry, query.Encode())
	for f.step != nil {
		select {
		case _, more := <-f.step:
			if !more {
				return p, nil
			}
			p.Replayed += 10
			progress(p)
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
	return admin.Progress{Replayed: 1, Finished: true}, nil
}

func (f fakeLetters) Replay(ctx context.Context, entry string, query url.Values, edited []byte, progress func(admin.Progress)) (admin.Progress, error) {
	if edited != nil {
		f.called("edit %s %s %s", f.target, entry, edited)
		if f.rejects != "" {
			return admin.Progress{}, admin.Problem{Status: http.StatusConflict, Sentence: f.rejects}
		}
		return admin.Progress{Replayed: 1, Finished: true}, nil
	}
	return f.change(ctx, "replay", entry, query, progress)
}

func (f fakeLetters) Discard(ctx context.Context, entry string, query url.Values, progress func(admin.Progress)) (admin.Progress, error) {
	return f.change(ctx, "discard", entry, query, progress)
}

func event(i int) string {
	return "evt_" + strings.Repeat("a", 26-len(fmt.Sprint(i))) + strings.NewReplacer("0", "a", "1", "b", "8", "x", "9", "y").Replace(fmt.Sprint(i))
}

// visit is a console in front of a fake, as a browser that has opened it sees it.
type visit struct {
	testing.TB
	*fake
	page   *console.Console
	server *httptest.Server
	// undoable ends the time in which a discard can be undone, when it is closed.
	undoable chan time.Time
	address  string
	cookie   *http.Cookie
	csrf     string
}

func open(t testing.TB, f *fake) *visit {
	t.Helper()
	v := &visit{TB: t, fake: f, server: httptest.NewUnstartedServer(nil)}
	f.records = make(chan []recent.Record)
	v.page = console.New(t.Context(), f, v.server.Listener.Addr())
	v.undoable = make(chan time.Time)
	v.page.Undoable(v.undoable)
	v.server.Config.Handler = v.page
	v.server.Start()
	t.Cleanup(v.server.CloseClientConnections)
	v.address = v.page.Address("support")
	response := v.do(http.MethodGet, v.address, nil)
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/webhooks/support" || len(response.Cookies()) != 1 {
		t.Fatalf("the address answers %d to %q", response.StatusCode, response.Header.Get("Location"))
	}
	v.cookie = response.Cookies()[0]
	v.csrf = regexp.MustCompile(`name="csrf" value="([A-Z2-7]{26})"`).FindStringSubmatch(v.get("/webhooks/support"))[1]
	return v
}

// do sends a request as a browser would for a page of the console; headers that are given replace its own, "" removes them.
func (v *visit) do(method, path string, form url.Values, headers ...string) *http.Response {
	v.Helper()
	if !strings.HasPrefix(path, "http") {
		path = v.server.URL + path
	}
	request, err := http.NewRequestWithContext(v.Context(), method, path, strings.NewReader(form.Encode()))
	if err != nil {
		v.Fatal(err)
	}
	if v.cookie != nil {
		request.AddCookie(v.cookie)
	}
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", v.server.URL)
		request.Header.Set("HX-Request", "true")
	}
	for i := 0; i < len(headers); i += 2 {
		switch {
		case headers[i] == "Host":
			request.Host = headers[i+1]
		case headers[i+1] == "":
			request.Header.Del(headers[i])
		default:
			request.Header.Set(headers[i], headers[i+1])
		}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		v.Fatal(err)
	}
	v.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func (v *visit) read(r *http.Response) string {
	v.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		v.Fatal(err)
	}
	return string(text)
}

func (v *visit) get(path string) string {
	v.Helper()
	response := v.do(http.MethodGet, path, nil)
	text := v.read(response)
	if response.StatusCode != http.StatusOK {
		v.Fatalf("%s: %d\n%s", path, response.StatusCode, text)
	}
	return text
}

func (v *visit) post(path string, form url.Values, headers ...string) (int, string) {
	v.Helper()
	if !form.Has("csrf") {
		form.Set("csrf", v.csrf)
	}
	response := v.do(http.MethodPost, path, form, headers...)
	return response.StatusCode, v.read(response)
}

var pages = []string{
	"/", "/webhooks/support", "/webhooks/support/events", "/webhooks/support/dead/crm", "/webhooks/support/dead/crm/rows", "/webhooks/support/dead/crm/groups",
	"/webhooks/support/dead/crm/count", "/webhooks/support/dead/crm/confirm?operation=replay", "/webhooks/support/dead/crm/letters/1-0", "/webhooks/support/dead/crm/letters/1-0/edit", "/webhooks/support/series",
	"/webhooks/support/dead/crm/letters/1-0/content", "/webhooks/support/events/" + event(1) + "/content",
}

func TestTheAddressOpensOnce(t *testing.T) {
	t.Parallel()
	v := &visit{TB: t, fake: &fake{}, server: httptest.NewUnstartedServer(nil)}
	v.page = console.New(t.Context(), v.fake, v.server.Listener.Addr())
	v.server.Config.Handler = v.page
	v.server.Start()
	t.Cleanup(v.server.CloseClientConnections)
	address := v.page.Address("")

	// What must not spend it: guesses, other methods, other pages' links.
	for _, c := range []struct {
		method, address string
		headers         []string
	}{
		{http.MethodGet, address + "A", nil},
		{http.MethodGet, address[:len(address)-1], nil},
		{http.MethodHead, address, nil},
		{http.MethodPost, address, nil},
		{http.MethodGet, address, []string{"Sec-Fetch-Site", "cross-site"}},
		{http.MethodGet, address, []string{"Sec-Fetch-Site", "same-site"}},
		{http.MethodGet, address, []string{"Host", "evil.example.com"}},
	} {
		if response := v.do(c.method, c.address, nil, c.headers...); response.StatusCode/100 != 4 || len(response.Cookies()) > 0 {
			t.Errorf("%s %s %v: %d", c.method, c.address, c.headers, response.StatusCode)
		}
	}
	// A browser that a command starts sends none, an old one nothing.
	response := v.do(http.MethodGet, address, nil, "Sec-Fetch-Site", "none")
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/" {
		t.Fatalf("the address answers %d, to %q", response.StatusCode, response.Header.Get("Location"))
	}
	cookie := response.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" || strings.Contains(address, cookie.Value) {
		t.Errorf("the cookie is %s", cookie)
	}
	if again := v.do(http.MethodGet, address, nil); again.StatusCode != http.StatusForbidden || len(again.Cookies()) > 0 {
		t.Errorf("the address opens a second time: %d", again.StatusCode)
	}
}

func TestNothingWithoutTheSession(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 3})
	good := *v.cookie
	for name, cookie := range map[string]*http.Cookie{"no cookie": nil, "another": {Name: good.Name, Value: strings.ToLower(good.Value)}, "an empty one": {Name: good.Name}} {
		v.cookie = cookie
		for _, path := range pages {
			if response := v.do(http.MethodGet, path, nil); response.StatusCode != http.StatusForbidden {
				t.Errorf("%s: %s answers %d", name, path, response.StatusCode)
			}
		}
		if status, _ := v.post("/webhooks/support/send", url.Values{"type": {"chat_closed"}}); status != http.StatusForbidden {
			t.Errorf("%s: a change answers %d", name, status)
		}
	}
	v.cookie = &good
	for _, c := range [][]string{
		{"Host", "evil.example.com"},
		{"Host", "localhost:" + v.server.URL[strings.LastIndexByte(v.server.URL, ':')+1:]},
		{"Host", "127.0.0.1"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
	} {
		if response := v.do(http.MethodGet, "/webhooks/support", nil, c...); response.StatusCode/100 != 4 {
			t.Errorf("%v: answers %d", c, response.StatusCode)
		}
	}
	v.get("/webhooks/support")
}

func TestChangesComeFromThePagesAlone(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 3})
	send := func(headers ...string) int {
		status, _ := v.post("/webhooks/support/send", url.Values{"type": {"chat_closed"}}, headers...)
		return status
	}
	for _, c := range [][]string{
		{"Origin", "http://evil.example.com"},
		{"Origin", "null"},
		{"Origin", "http://127.0.0.1:1"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Sec-Fetch-Site", "none"},
		{"Origin", "", "Sec-Fetch-Site", ""},
		{"Host", "evil.example.com"},
	} {
		if status := send(c...); status/100 != 4 {
			t.Errorf("%v: answers %d", c, status)
		}
	}
	for _, csrf := range []string{"", "wrong", strings.ToLower(v.csrf)} {
		if status, _ := v.post("/webhooks/support/send", url.Values{"type": {"chat_closed"}, "csrf": {csrf}}); status != http.StatusForbidden {
			t.Errorf("token %q: answers %d", csrf, status)
		}
	}
	// A token in the address is not accepted: browsers would keep it in their history.
	if response := v.do(http.MethodPost, "/webhooks/support/send?csrf="+v.csrf, url.Values{"type": {"chat_closed"}}); response.StatusCode != http.StatusForbidden {
		t.Errorf("a token in the address: answers %d", response.StatusCode)
	}
	if calls := v.all(); len(calls) > 0 {
		t.Errorf("something was done: %q", calls)
	}
	for _, headers := range [][]string{nil, {"Origin", ""}, {"Sec-Fetch-Site", ""}} { // one of both is enough
		if status := send(headers...); status != http.StatusOK {
			t.Errorf("%v: answers %d", headers, status)
		}
	}
	for _, path := range []string{"/webhooks/support/send", "/webhooks/support/dead/crm/change", "/jobs/x/stop"} {
		if response := v.do(http.MethodGet, path+"?type=chat_closed&csrf="+v.csrf, nil); response.StatusCode == http.StatusOK {
			t.Errorf("GET %s changes something", path)
		}
	}
}

func TestEveryPageIsStrict(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 60})
	v.records <- []recent.Record{
		{Sequence: 1, Outcome: recent.Stored, Event: event(1), Type: hostile, Targets: []string{hostile}, Status: 200, Time: time.Now()},
		{Sequence: 2, Outcome: recent.Retry, Event: event(1), Type: hostile, Target: hostile, Attempt: 1, Reason: hostile, Time: time.Now(), RetryAt: time.Now()},
		{Sequence: 3, Outcome: recent.Refused, Event: hostile, Type: hostile, Reason: hostile, Time: time.Now()},
	}
	v.records <- nil // both are taken
	inline := regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>[^<]|\sstyle\s*=|<style|\son[a-z]+\s*=|javascript:`)
	for _, path := range append(pages, "/nothing", "/webhooks/other", "/webhooks/support/dead/crm?reason="+url.QueryEscape(hostile), "/webhooks/support/events?type="+url.QueryEscape(hostile)) {
		response := v.do(http.MethodGet, path, nil)
		text := v.read(response)
		if csp := response.Header.Get("Content-Security-Policy"); csp != "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'" {
			t.Errorf("%s: the policy is %q", path, csp)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "same-origin"} {
			if got := response.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if found := inline.FindString(strings.ReplaceAll(text, "&gt;&lt;img src=x onerror=alert(1)&gt;", "")); found != "" || strings.Contains(text, "<script>") || strings.Contains(text, "<img src=x") {
			t.Errorf("%s has something inline, %q", path, found)
		}
	}
}

// The answer of a target may quote content.
func TestContentIsAskedFor(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 3})
	for _, path := range pages {
		text := v.get(path)
		for _, secret := range []string{"the secret words", "an answer with personal data"} {
			if asked := strings.HasSuffix(path, "letters/1-0/content") || strings.HasSuffix(path, "/edit"); strings.Contains(text, secret) && !asked && !strings.HasSuffix(path, "/content") || asked && !strings.Contains(text, secret) {
				t.Errorf("%s: %q", path, secret)
			}
		}
	}
}

// raw sends a form as it is written.
func (v *visit) raw(path, form string) *http.Response {
	v.Helper()
	request, err := http.NewRequestWithContext(v.Context(), http.MethodPost, v.server.URL+path, strings.NewReader(form))
	if err != nil {
		v.Fatal(err)
	}
	request.AddCookie(v.cookie)
	request.Header.Set("Origin", v.server.URL)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		v.Fatal(err)
	}
	v.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// next reads server-sent events until one has a name, and returns its data.
func next(t *testing.T, from io.Reader, name string) string {
	t.Helper()
	var text bytes.Buffer
	piece := make([]byte, 4096)
	for {
		n, err := from.Read(piece)
		text.Write(piece[:n])
		for message := range strings.SplitSeq(text.String(), "\n\n") {
			if strings.HasPrefix(message, "event: "+name+"\n") && strings.Contains(text.String(), message+"\n\n") {
				return message
			}
		}
		if err != nil {
			t.Fatalf("%v after %s", err, &text)
		}
	}
}

func TestEventsArriveLive(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 3})
	page := v.get("/webhooks/support/events")
	if !strings.Contains(page, "No events yet") {
		t.Errorf("an empty page says not what to do:\n%s", page)
	}
	stream := regexp.MustCompile(`sse-connect="([^"]+)"`).FindStringSubmatch(page)[1]
	live := v.do(http.MethodGet, strings.ReplaceAll(stream, "&amp;", "&"), nil).Body
	now := time.Now()
	v.records <- []recent.Record{{Sequence: 1, Outcome: recent.Stored, Event: event(7), Type: "chat_closed", Targets: []string{"crm"}, Status: 200, Time: now}}
	if added := next(t, live, "added"); !strings.Contains(added, `id="`+event(7)+`"`) || !strings.Contains(added, "queued") {
		t.Errorf("the event arrives as\n%s", added)
	}
	v.records <- []recent.Record{{Sequence: 2, Outcome: recent.Delivered, Event: event(7), Type: "chat_closed", Target: "crm", Attempt: 1, Status: 204, Time: now}}
	if changed := next(t, live, "changed"); !strings.Contains(changed, `id="state-`+event(7)+`"`) || !strings.Contains(changed, "delivered") || !strings.Contains(changed, "204") {
		t.Errorf("its attempt arrives as\n%s", changed)
	}
	for query, want := range map[string]bool{"": true, "?type=chat_closed": true, "?type=chat_opened": false, "?target=crm": true, "?target=warehouse": false, "?state=delivered": true, "?state=retrying": false, "?event=" + event(8): false} {
		if got := strings.Contains(v.get("/webhooks/support/events"+query), event(7)+`"`); got != want {
			t.Errorf("%s shows the event: %t", query, got)
		}
	}
	if figures := next(t, v.do(http.MethodGet, "/webhooks/support/stream?since=0", nil).Body, "figures"); !strings.Contains(figures, `"crm.pending":"1,234"`) {
		t.Errorf("figures are %s", figures)
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 120})
	const dead = "/webhooks/support/dead/crm"
	page := v.get(dead)
	if strings.Count(page, `<tr id="letter-`) != 50 || !strings.Contains(page, `/rows?after=50-0`) {
		t.Errorf("the first page is\n%s", page)
	}
	if rows := v.get(dead + "/rows?after=100-0"); strings.Count(rows, "<tr id=") != 20 || strings.Contains(rows, "Load more") {
		t.Errorf("the last page is\n%s", rows)
	}
	if groups := v.get(dead + "/groups"); strings.Count(groups, "<li>") != 3 || !strings.Contains(groups, ">40<") {
		t.Errorf("groups are\n%s", groups)
	}
	v.get(dead + "/rows?type=chat_closed&status=422&reason=r&text=t&since=2026-11-21T12:00&until=")
	calls := v.all()
	if last := calls[len(calls)-1]; !strings.HasPrefix(last, "list crm diedSince=2026-11-2") || !strings.HasSuffix(last, "&limit=50&reason=r&status=422&text=t&type=chat_closed") {
		t.Errorf("the filter is asked for as %s", last)
	}
	if response := v.do(http.MethodGet, dead+"?since=yesterday", nil); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a wrong time answers %d", response.StatusCode)
	}
	if response := v.do(http.MethodGet, "/webhooks/support/dead", nil); response.Header.Get("Location") != dead {
		t.Errorf("dead letters begin at %s", response.Header.Get("Location"))
	}
	v.fake.letters = 0
	if page := v.get(dead); !strings.Contains(page, "No dead letters") {
		t.Errorf("an empty page is\n%s", page)
	}
}

// Only confirmed letters are changed, and never all of them by mistake.
func TestChangingDeadLetters(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 120})
	const dead = "/webhooks/support/dead/crm"
	asked := v.get(dead + "/confirm?operation=replay&reason=r")
	if !strings.Contains(asked, `name="limit" value="1"`) || !strings.Contains(asked, `name="limit" value="120"`) || !strings.Contains(asked, `name="reason" value="r"`) {
		t.Errorf("the question is\n%s", asked)
	}
	for _, form := range []url.Values{
		{},
		{"operation": {"replay"}},
		{"operation": {"discard"}, "limit": {""}},
		{"operation": {"discard"}, "limit": {"0"}},
		{"operation": {"discard"}, "limit": {"-1"}},
		{"operation": {"delete"}, "limit": {"1"}},
		{"operation": {"replay"}, "limit": {"1"}, "since": {"x"}},
	} {
		if status, text := v.post(dead+"/change", form); status != http.StatusBadRequest {
			t.Errorf("%v: %d %s", form, status, text)
		}
	}
	v.fake.calls = nil
	close(v.undoable)
	for _, c := range []struct {
		form url.Values
		want string
	}{
		{url.Values{"operation": {"replay"}, "limit": {"1"}}, "replay crm  limit=1"},
		{url.Values{"operation": {"replay"}, "limit": {"120"}, "reason": {"r"}}, "replay crm  limit=120&reason=r"},
		{url.Values{"operation": {"discard"}, "entry": {"7-0"}, "limit": {"1"}}, "discard crm 7-0 "},
	} {
		status, text := v.post(dead+"/change", c.form)
		for job := jobOf.FindStringSubmatch(text); job != nil && strings.Contains(text, "hx-get"); text = v.get(job[1]) {
			<-time.After(time.Millisecond)
		}
		if status != http.StatusOK || !strings.Contains(text, "Replayed ") && !strings.Contains(text, "Discarded ") {
			t.Errorf("%v: %d %s", c.form, status, text)
		}
		if calls := v.all(); calls[len(calls)-1] != c.want {
			t.Errorf("%v is done as %q, want %q", c.form, calls[len(calls)-1], c.want)
		}
	}
}

// jobOf finds the address of a job that has not ended.
var jobOf = regexp.MustCompile(`hx-get="(/jobs/[A-Z2-7]+)"`)

func TestLongWorkShowsProgressAndStops(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 1000, step: make(chan struct{})})
	begin := func() (job string) {
		_, text := v.post("/webhooks/support/dead/crm/change", url.Values{"operation": {"replay"}, "limit": {"1000"}})
		return jobOf.FindStringSubmatch(text)[1]
	}
	job := begin()
	v.step <- struct{}{}
	v.step <- struct{}{} // the first one is counted
	for !strings.Contains(v.get(job), `value="20"`) {
		<-time.After(time.Millisecond)
	}
	if status, _ := v.post(job+"/stop", url.Values{}); status != http.StatusOK {
		t.Errorf("stopping answers %d", status)
	}
	for !strings.Contains(v.get(job), "Stopped") {
		<-time.After(time.Millisecond)
	}
	if text := v.get(job); !strings.Contains(text, `value="20"`) {
		t.Errorf("what was done before is not shown:\n%s", text)
	}
	job = begin()
	close(v.step)
	for strings.Contains(v.get(job), "hx-get") {
		<-time.After(time.Millisecond)
	}
	if response := v.do(http.MethodGet, "/jobs/AAAA", nil); response.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown job answers %d", response.StatusCode)
	}
}

// A discard begins only when the time in which it can be undone is over. Until then its page offers that, the dialog and the page of the
// dead letters, and afterwards says that it is final.
func TestADiscardCanBeUndone(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]url.Values{
		"one":  {"operation": {"discard"}, "entry": {"7-0"}, "limit": {"1"}},
		"many": {"operation": {"discard"}, "limit": {"120"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := open(t, &fake{letters: 120})
			const dead = "/webhooks/support/dead/crm"
			begin := func() string {
				_, text := v.post(dead+"/change", form)
				if !strings.Contains(text, "<button>Undo</button>") || strings.Contains(text, "cannot be brought back") {
					t.Errorf("it cannot be undone:\n%s", text)
				}
				return jobOf.FindStringSubmatch(text)[1]
			}
			job := begin()
			if page := v.get(dead); !strings.Contains(page, job+"/stop") || !strings.Contains(page, "<button>Undo</button>") {
				t.Error("the page of the dead letters does not offer to undo it")
			}
			_, text := v.post(job+"/stop", url.Values{})
			for strings.Contains(text, "hx-get") {
				text = v.get(job)
			}
			if !strings.Contains(text, "Nothing was discarded") || strings.Contains(text, "cannot be brought back") {
				t.Errorf("it is undone as\n%s", text)
			}
			if strings.Contains(v.get(dead), job) {
				t.Error("the page of the dead letters still has it")
			}

			job = begin()
			for _, call := range v.all() {
				if strings.HasPrefix(call, "discard") {
					t.Errorf("it begins before its time is over, or though it was undone: %s", call)
				}
			}
			close(v.undoable)
			for text = ""; !strings.Contains(text, "Discarded "); text = v.get(job) {
				<-time.After(time.Millisecond)
			}
			if strings.Contains(text, "Undo") || !strings.Contains(text, "cannot be brought back") {
				t.Errorf("afterwards it shows\n%s", text)
			}
			if _, text := v.post(job+"/stop", url.Values{}); strings.Contains(text, "Nothing was discarded") {
				t.Errorf("it claims to undo what is done:\n%s", text)
			}
			if calls := strings.Join(v.all(), "\n"); strings.Count(calls, "discard crm") != 1 {
				t.Errorf("it was done as\n%s", calls)
			}
		})
	}
}

// The content of a letter is edited and replayed, with htmx and without. What is rejected comes back with the reason.
func TestALetterIsEditedAndReplayed(t *testing.T) {
	t.Parallel()
	const at = "/webhooks/support/dead/crm/letters/7-0"
	for mode, htmx := range map[string]string{"with htmx": "true", "without": ""} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			v := open(t, &fake{letters: 120})
			if page := v.get(at); strings.Contains(page, "secret words") || strings.Contains(page, "personal data\"") || !strings.Contains(page, at+"/edit") {
				t.Error("the page of the letter shows its content, or does not lead to the form")
			}
			if page := v.get(at + "/edit"); !strings.Contains(page, "&#34;text&#34;: &#34;the secret words&#34;") || !strings.Contains(page, "an answer with personal data") {
				t.Errorf("the form does not show the content:\n%s", page)
			}
			post := func(text string) (int, http.Header, string) {
				response := v.do(http.MethodPost, at+"/edit", url.Values{"text": {text}, "csrf": {v.csrf}}, "HX-Request", htmx)
				return response.StatusCode, response.Header, v.read(response)
			}
			rejected := func(want int, text, sentence string) {
				t.Helper()
				status, _, page := post(text)
				shown := strings.ReplaceAll(template.HTMLEscapeString(text), "\r\n", "\n")
				if status != want || !strings.Contains(page, `action="`+at+`/edit"`) || !strings.Contains(page, "\n"+shown+"</textarea>") || !strings.Contains(page, template.HTMLEscapeString(sentence)) {
					t.Errorf("%q: %d, without the text or %q:\n%s", text, status, sentence, page)
				}
				if strings.Contains(page, "<html") == (htmx != "") {
					t.Errorf("%q: the wrong part of the page:\n%s", text, page)
				}
			}
			rejected(http.StatusUnprocessableEntity, " \r\n", "The content is empty")
			rejected(http.StatusUnprocessableEntity, "{\r\n  \"event_data\": {\"text\": \"the secret words\"} }", "The content is unchanged")
			if calls := strings.Join(v.all(), "\n"); strings.Contains(calls, "edit ") {
				t.Errorf("something was sent:\n%s", calls)
			}
			v.rejects = "The edited event is rejected: " + hostile
			rejected(http.StatusConflict, `{"x": "`+hostile+`</textarea>"}`, v.rejects)
			if htmx != "" { // the form alone needs nothing else
				v.fails = admin.Problem{Status: http.StatusNotFound, Sentence: "There is no such dead letter."}
				rejected(http.StatusNotFound, `{"x": 1}`, "There is no such dead letter.")
				v.fails = nil
			}

			v.rejects = ""
			status, header, page := post("{\r\n  \"event_data\": 12345678901234567890\r\n}\r\n")
			to := "/webhooks/support/events?event=" + event(7)
			if htmx == "" && (status != http.StatusSeeOther || header.Get("Location") != to) || htmx != "" && (status != http.StatusOK || header.Get("HX-Redirect") != to) {
				t.Errorf("it is answered %d and leads to %q: %s", status, header, page)
			}
			if calls := v.all(); calls[len(calls)-1] != `edit crm 7-0 {"event_data":12345678901234567890}` {
				t.Errorf("it is sent as %q", calls[len(calls)-1])
			}
		})
	}
}

// A search may look at every letter: its page does not wait for it, and who leaves the page ends it.
func TestASearchEndsWithItsPage(t *testing.T) {
	t.Parallel()
	const dead = "/webhooks/support/dead/crm"
	v := open(t, &fake{letters: 120, scans: make(chan string)})
	for _, filter := range []string{"?text=x", "?reason=x", "?since=2026-11-21T12:00"} {
		page := v.get(dead + filter) // nothing receives from scans: a page that waited for one would never come
		for _, part := range []string{"/rows", "/groups", "/count"} {
			if !regexp.MustCompile(`hx-get="` + dead + part + `\?[a-z]+=[^"]+" hx-trigger="load"`).MatchString(page) {
				t.Errorf("%s does not load %s", filter, part)
			}
		}
	}
	for _, part := range []string{"/rows?text=x", "/groups?text=x", "/count?text=x", "/confirm?operation=replay&text=x"} {
		ctx, leave := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.server.URL+dead+part, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.AddCookie(v.cookie)
		left := make(chan struct{})
		go func() {
			defer close(left)
			if response, err := http.DefaultClient.Do(request); err == nil {
				_ = response.Body.Close()
			}
		}()
		if got := <-v.scans; got != "begun" {
			t.Fatal(part, got)
		}
		leave()
		<-left
		if got := <-v.scans; got != "ended" {
			t.Fatal(part, got)
		}
	}
}

// What rejects a request decides on the status of its page, and its sentence is shown. Only the lack of an answer is that of a gateway.
func TestErrorsHaveTheStatusThatFits(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 120})
	of := func(status int) error { return admin.Problem{Status: status, Sentence: "the sentence " + hostile} }
	pods := schema.GroupResource{Resource: "pods"}
	const dead = "/webhooks/support/dead/crm"
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"bad request":                 {of(400), 400},
		"gone":                        {of(404), 404},
		"gone for good":               {of(410), 410},
		"a conflict":                  {of(409), 409},
		"too large":                   {of(413), 413},
		"another media type":          {of(415), 415},
		"too many requests":           {of(429), 429},
		"no Redis":                    {fmt.Errorf("the receiver cannot reach Redis: %w", of(503)), 503},
		"no status of an error":       {of(200), 502},
		"no status at all":            {of(600), 502},
		"not allowed by the cluster":  {fmt.Errorf("list: %w", apierrors.NewForbidden(pods, "x", errors.New(hostile))), 403},
		"not known to the cluster":    {fmt.Errorf("list: %w", apierrors.NewUnauthorized(hostile)), 401},
		"too many for the cluster":    {apierrors.NewTooManyRequests(hostile, 1), 429},
		"the Pod is gone":             {fmt.Errorf("reach Pod x: %w", apierrors.NewNotFound(pods, hostile)), 502},
		"the receiver does not run":   {errors.New("connection refused " + hostile), 502},
		"the receiver does not reply": {fmt.Errorf("send the request: %w %s", context.DeadlineExceeded, hostile), 504},
	} {
		v.fails = c.err
		for _, path := range []string{
			"/webhooks/support", "/webhooks/support/dead", "/webhooks/support/events", "/webhooks/support/events/" + event(1) + "/content", dead, dead + "/rows", dead + "/groups", dead + "/count",
			dead + "/confirm?operation=replay", dead + "/letters/1-0", dead + "/letters/1-0/content", dead + "/letters/1-0/edit",
		} {
			for _, htmx := range []string{"", "true"} {
				response := v.do(http.MethodGet, path, nil, "HX-Request", htmx)
				if page := v.read(response); response.StatusCode != c.want || !strings.Contains(page, template.HTMLEscapeString(c.err.Error())) || strings.Contains(page, "<html") == (htmx != "") {
					t.Errorf("%s: %s answers %d, want %d with the sentence:\n%s", name, path, response.StatusCode, c.want, page)
				}
			}
		}
	}
}

// A form may hold a megabyte of JSON, and no more than there is room for; others are small, whatever their path is. One that cannot be
// read changes nothing: what remains of it would select more.
func TestFormsAreBounded(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 120})
	declared := 0
	for route, bound := range v.page.FormBounds() {
		path, changes := strings.CutPrefix(route, "POST ")
		if !changes && route != "/" {
			continue
		}
		if bound != 0 {
			declared++
		}
		bound = cmp.Or(bound, 64<<10)
		path = strings.NewReplacer("{name}", "support", "{target}", "crm", "{entry}", "7-0", "{job}", "edit").Replace(path)
		for _, at := range []string{path, strings.TrimSuffix(path, "/edit") + "/x/edit"} {
			most := bound
			if at != path {
				most = 64 << 10 // of no route
			}
			fits := "csrf=" + v.csrf + "&x="
			fits += strings.Repeat("x", int(most)-len(fits))
			for form, larger := range map[string]bool{fits: false, fits + "x": true} {
				response := v.raw(at, form)
				text := v.read(response)
				if got := response.StatusCode == http.StatusRequestEntityTooLarge; got != larger || larger && !strings.Contains(text, fmt.Sprintf("larger than %d KiB", most>>10)) {
					t.Errorf("%s with %d bytes: %d %.200s", at, len(form), response.StatusCode, text)
				}
			}
		}
	}
	if declared != 1 {
		t.Errorf("%d routes have a larger form, want that of edited letters", declared)
	}
	v.calls = nil
	if response := v.raw("/webhooks/support/dead/crm/change", "csrf="+v.csrf+"&operation=replay&limit=9&type=%zz"); response.StatusCode != http.StatusBadRequest || len(v.all()) > 0 {
		t.Errorf("a form that cannot be read: %d, %q", response.StatusCode, v.all())
	}
	const dead = "/webhooks/support/dead/crm"
	large := url.Values{"text": {strings.Repeat("é", 1<<20)}}
	if status, _ := v.post(dead+"/letters/7-0/edit", large); status != http.StatusUnprocessableEntity && status != http.StatusOK {
		t.Errorf("2 MiB of text: %d", status)
	}
	if status, _ := v.post(dead+"/change", large); status != http.StatusRequestEntityTooLarge {
		t.Errorf("another form of 2 MiB: %d", status)
	}
	if status, _ := v.post(dead+"/letters/7-0/edit", url.Values{"text": {strings.Repeat("é", 4<<20)}}); status != http.StatusRequestEntityTooLarge {
		t.Errorf("8 MiB of text: %d", status)
	}
}

// A form that is sent before htmx is ready leads to a whole page.
func TestAFormWithoutHTMX(t *testing.T) {
	t.Parallel()
	v := open(t, &fake{letters: 3})
	for _, operation := range []string{"replay", "discard"} {
		response := v.do(http.MethodPost, "/webhooks/support/dead/crm/change", url.Values{"operation": {operation}, "limit": {"1"}, "csrf": {v.csrf}}, "HX-Request", "")
		to := response.Header.Get("Location")
		if response.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, "/jobs/") {
			t.Errorf("it is answered %d and leads to %q", response.StatusCode, to)
		}
		page := v.get(to)
		if !strings.Contains(page, "</html>") || strings.Contains(page, "<button>Undo</button>") != (operation == "discard") {
			t.Errorf("its page is\n%s", page)
		}
		stopped := v.do(http.MethodPost, to+"/stop", url.Values{"csrf": {v.csrf}}, "HX-Request", "")
		if stopped.StatusCode != http.StatusSeeOther || stopped.Header.Get("Location") != to {
			t.Errorf("stopping is answered %d and leads to %q", stopped.StatusCode, stopped.Header.Get("Location"))
		}
	}
}

func TestListensOnLoopback(t *testing.T) {
	t.Parallel()
	l, err := console.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !strings.HasPrefix(l.Addr().String(), "127.0.0.1:") {
		t.Errorf("it listens on %s", l.Addr())
	}
}

// The assets are npm's, with their licences.
func TestVendoredAssets(t *testing.T) {
	t.Parallel()
	sums, err := os.ReadFile("vendored/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{"SHA256SUMS": "", "README.md": ""}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		listed[name] = sum
	}
	files, err := os.ReadDir("vendored")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(listed) {
		t.Errorf("there are %d files, and %d are listed", len(files), len(listed))
	}
	for _, f := range files {
		text, err := os.ReadFile("vendored/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if want, known := listed[f.Name()]; !known || want != "" && want != hex.EncodeToString(sum[:]) {
			t.Errorf("%s is not what npm has", f.Name())
		}
	}
}
