package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/recent"
)

const (
	// overviewEvents and pageEvents bound the events on one page, and streamed those in one message of a stream.
	overviewEvents = 15
	pageEvents     = 200
	streamed       = 50
	// streamPause lets changes accumulate, and keepAlive is how often a message is sent if nothing changes.
	streamPause = 100 * time.Millisecond
	keepAlive   = 15 * time.Second
)

// problem is an error of a request, with the status that fits it.
func problem(status int, sentence string) error {
	return admin.Problem{Status: status, Sentence: sentence}
}

var errNotFound = problem(http.StatusNotFound, "There is no such page.")

// page is the data of templates.
type page struct {
	Title, Place, CSRF string
	// Name is the webhook, Tab the chosen tab, and Target the chosen target; each may be "".
	Name, Tab, Target string
	Hook              *v1alpha1.HeymarketWebhook
	// Source is why counts are not exact, and Problem why the page may be out of date.
	Source, Problem string
	View            view
	Filter          filter
	Data            any
}

// Filtered reports whether the filter excludes anything.
func (p page) Filtered() bool { return p.Filter != filter{} }

// Dead returns the number of dead letters of a target.
func (p page) Dead(target string) string {
	for _, t := range p.Hook.Status.Targets {
		if t.Name == target {
			return number(t.DeadLetters)
		}
	}
	return "?"
}

// With is the page with other data, for a template within it.
func (p page) With(data any) page {
	p.Data = data
	return p
}

// StreamQuery returns the parameters of the stream that updates the page.
func (p page) StreamQuery() template.URL {
	q := url.Values{"since": {fmt.Sprint(p.View.Number())}}
	for name, value := range map[string]string{"type": p.Filter.Type, "target": p.Filter.Target, "event": p.Filter.ID} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return template.URL(q.Encode()) //nolint:gosec // Encode has escaped it
}

//go:embed templates/*.html
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"hook": hookPath, "dead": deadPath, "says": says, "number": number[int], "age": func(t time.Time) string { return age(t, time.Now()) },
	"number64": number[int64], "types": event.Types, "states": func() []string { return states }, "word": word, "clock": clock,
	"since": func(t metav1.Time) string { return age(t.Time, time.Now()) }, "ready": ready, "sorted": sorted,
	"ms":   func(ms float64) string { return decimal(ms) + " ms" },
	"tone": tone,
}).ParseFS(templateFiles, "templates/*.html"))

func hookPath(name string) string { return "/webhooks/" + url.PathEscape(name) }

func deadPath(name, target string) string { return hookPath(name) + "/dead/" + url.PathEscape(target) }

// clock formats a time in this machine's zone, with the date unless it is today.
func clock(t time.Time) string {
	t = t.Local()
	if now := time.Now(); t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05.000")
	}
	return t.Format("2006-01-02 15:04:05")
}

// word returns an outcome in words.
func word(o recent.Outcome) string {
	switch o {
	case recent.DeadLetter:
		return stateDead
	case recent.Refused:
		return "rejected"
	case recent.Retry:
		return "failed"
	}
	return string(o)
}

// tone returns the colour of a state or an outcome.
func tone(state any) string {
	switch fmt.Sprint(state) {
	case stateDelivered, string(recent.Stored), "True":
		return "good"
	case stateRetrying, string(recent.Retry), string(recent.Interrupted), string(recent.Unsettled):
		return "warn"
	case stateDead, string(recent.DeadLetter), string(recent.Refused), "rejected", "False":
		return "bad"
	}
	return "calm"
}

// ready returns the Ready condition of a webhook.
func ready(hook *v1alpha1.HeymarketWebhook) metav1.Condition {
	for _, c := range hook.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			return c
		}
	}
	return metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionUnknown, Reason: "NotReported", Message: "The operator has not reported a status yet."}
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// answer serves pages with a function that returns an error.
func (c *Console) answer(serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := serve(w, r)
		if err == nil || r.Context().Err() != nil {
			return
		}
		name := "error"
		if byHTMX(r) {
			name = "alert"
		}
		_ = c.render(w, statusOf(err), name, page{Title: "Something went wrong", Data: err.Error()})
	}
}

// statusOf returns the status of a page that shows an error: that with which the console, a receiver or the API server rejected the
// request, or 502 or 504 if none of them answered.
func statusOf(err error) int {
	if p, rejected := errors.AsType[admin.Problem](err); rejected && p.Status >= 400 && p.Status < 600 {
		return p.Status
	}
	switch apierrors.ReasonForError(err) {
	case metav1.StatusReasonUnauthorized:
		return http.StatusUnauthorized
	case metav1.StatusReasonForbidden:
		return http.StatusForbidden
	case metav1.StatusReasonTooManyRequests:
		return http.StatusTooManyRequests
	}
	if late, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && late.Timeout() {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// render writes a template with the data common to all pages.
func (c *Console) render(w http.ResponseWriter, status int, name string, p page) error {
	p.Place, p.CSRF = c.place.Name(), c.guard.csrf
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, p); err != nil {
		return fmt.Errorf("render the page: %w", err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, err := text.WriteTo(w)
	return err
}

func (c *Console) listWebhooks(w http.ResponseWriter, r *http.Request) error {
	hooks, err := c.place.Webhooks(r.Context())
	if err != nil {
		return err
	}
	return c.render(w, http.StatusOK, "webhooks", page{Title: "Webhooks", Data: hooks})
}

// of reads the data common to all pages of one webhook.
func (c *Console) of(r *http.Request, tab string, f filter, limit int) (p page, err error) {
	p = page{Name: r.PathValue("name"), Tab: tab, Filter: f}
	p.Title = p.Name
	if p.Hook, p.Source, err = c.place.Webhook(r.Context(), p.Name); err != nil {
		return p, err
	}
	watched, err := c.watch(r.Context(), p.Name)
	if err != nil {
		return p, err
	}
	p.View = watched.since(0, f, limit)
	p.Problem = p.View.Problem
	return p, nil
}

func (c *Console) overview(w http.ResponseWriter, r *http.Request) error {
	p, err := c.of(r, "overview", filter{}, keptEvents)
	if err != nil {
		return err
	}
	p.Data = waiting(p.View.Events)
	p.View.Events = p.View.Events[:min(len(p.View.Events), overviewEvents)]
	return c.render(w, http.StatusOK, "overview", p)
}

// waiting returns the events that will be retried.
func waiting(events []*shownEvent) (all []*shownEvent) {
	for _, e := range events {
		if len(e.Waiting()) > 0 && len(all) < overviewEvents {
			all = append(all, e)
		}
	}
	return all
}

func (c *Console) waiting(w http.ResponseWriter, r *http.Request) error {
	watched, err := c.watch(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	v := watched.since(0, filter{State: stateRetrying}, overviewEvents)
	return c.render(w, http.StatusOK, "waiting", page{Name: r.PathValue("name"), Data: waiting(v.Events)})
}

func eventFilter(q url.Values) filter {
	return filter{Type: q.Get("type"), Target: q.Get("target"), State: q.Get("state"), ID: q.Get("event")}
}

func (c *Console) events(w http.ResponseWriter, r *http.Request) error {
	p, err := c.of(r, "events", eventFilter(r.URL.Query()), pageEvents)
	if err != nil {
		return err
	}
	return c.render(w, http.StatusOK, "events", p)
}

func (c *Console) eventContent(w http.ResponseWriter, r *http.Request) error {
	content, err := c.place.Content(r.Context(), r.PathValue("name"), r.PathValue("event"))
	if err != nil {
		return err
	}
	return c.render(w, http.StatusOK, "content", page{Data: admin.Readable(content.Body, content.BodyText)})
}

// stream sends the changes of a page: events after the number at which the page was rendered, and figures.
func (c *Console) stream(w http.ResponseWriter, r *http.Request) error {
	watched, err := c.watch(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	defer watched.open()()
	f, shown := eventFilter(r.URL.Query()), uint64(0)
	if _, err := fmt.Sscan(r.URL.Query().Get("since"), &shown); err != nil {
		return problem(http.StatusBadRequest, "since is a number.")
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		_, _ = fmt.Sscan(last, &shown) // a number of this console, or else the page's is used
	}
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	silent := time.NewTicker(keepAlive)
	defer silent.Stop()
	for {
		v := watched.since(shown, f, streamed)
		if err := writeView(w, v, shown); err != nil {
			return err
		}
		if err := control.Flush(); err != nil {
			return nil
		}
		shown = v.number
		select {
		case <-r.Context().Done():
			return nil
		case <-v.changed:
			pause(r.Context(), streamPause, nil)
		case <-silent.C:
		}
	}
}

// writeView writes server-sent events: "added" for events that are not on the page, "changed" for those that are, and "figures".
func writeView(w http.ResponseWriter, v view, shown uint64) error {
	for _, e := range slices.Backward(v.Events) {
		name := "changed"
		if e.added > shown {
			name = "added"
		}
		if err := writeMessage(w, name, v.number, func(text *bytes.Buffer) error { return templates.ExecuteTemplate(text, name, e) }); err != nil {
			return err
		}
	}
	return writeMessage(w, "figures", v.number, func(text *bytes.Buffer) error {
		if v.Problem != "" {
			v.Figures["problem"] = v.Problem
		}
		return json.MarshalWrite(text, v.Figures, jsontext.AllowInvalidUTF8(true))
	})
}

func writeMessage(w http.ResponseWriter, name string, id uint64, write func(*bytes.Buffer) error) error {
	var text bytes.Buffer
	if err := write(&text); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "event: %s\nid: %d\n", name, id)
	for line := range bytes.Lines(text.Bytes()) {
		if err == nil {
			_, err = fmt.Fprintf(w, "data: %s\n", bytes.TrimRight(line, "\r\n"))
		}
	}
	if err == nil {
		_, err = fmt.Fprint(w, "\n")
	}
	return err
}

// series serves the charts as JSON.
func (c *Console) series(w http.ResponseWriter, r *http.Request) error {
	watched, err := c.watch(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.MarshalWrite(w, watched.charts(time.Now()), jsontext.AllowInvalidUTF8(true))
}

func (c *Console) send(w http.ResponseWriter, r *http.Request) error {
	eventType := r.PostFormValue("type")
	if !slices.Contains(event.Types(), eventType) {
		return problem(http.StatusBadRequest, "Choose one of the event types.")
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	sent, err := c.place.Send(ctx, r.PathValue("name"), eventType, r.PostFormValue("direct") != "")
	if err != nil {
		return err
	}
	return c.render(w, http.StatusOK, "sent", page{Name: r.PathValue("name"), Data: sent})
}
