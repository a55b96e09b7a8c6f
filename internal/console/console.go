// Package console is a local web page that shows webhooks live and acts on their dead letters. It reaches receivers as the plugin
// does, with the user's rights, and exposes nothing in the cluster.
package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/recent"
)

// Place is where webhooks run: a namespace of a cluster, or this machine. Text that it returns is untrusted. An error that is an
// admin.Problem, or one of the API server, sets the status of the page that shows it; all others are taken for a lack of an answer.
type Place interface {
	// Name is the name of the place, for page headers.
	Name() string
	// Webhooks lists the webhooks, and Webhook reads one with a receiver's current report. source is where its counts come from;
	// "" means that they are exact.
	Webhooks(ctx context.Context) ([]v1alpha1.HeymarketWebhook, error)
	Webhook(ctx context.Context, name string) (hook *v1alpha1.HeymarketWebhook, source string, err error)
	// Stats returns the figures of each receiver of a webhook.
	Stats(ctx context.Context, name string) ([]admin.Stats, error)
	// Follow calls show with the records that the receivers hold, then with new ones, in order and in batches, until ctx ends or
	// an error occurs.
	Follow(ctx context.Context, name string, show func([]recent.Record)) error
	// Content returns the content of an event if it is still stored.
	Content(ctx context.Context, name, event string) (admin.Content, error)
	// Letters returns the dead letters of a target, usable until end is called.
	Letters(ctx context.Context, name, target string) (letters Letters, end func(), err error)
	// Send sends a sample of an event type as Heymarket would: to the public URL, or directly to a receiver.
	Send(ctx context.Context, name, eventType string, direct bool) (Sent, error)
}

// Letters are the dead letters of one target. Queries have the parameters of the administrative API.
type Letters interface {
	List(ctx context.Context, query url.Values) ([]admin.Letter, error)
	Count(ctx context.Context, query url.Values) (int, error)
	Show(ctx context.Context, entry string) (admin.Letter, error)
	// Replay and Discard change one letter, or if entry is "" those that the query selects. They return the counts even with an
	// error, and call progress while there is more to do.
	// Edited, if not nil, replaces the content of the replayed letter.
	Replay(ctx context.Context, entry string, query url.Values, edited []byte, progress func(admin.Progress)) (admin.Progress, error)
	Discard(ctx context.Context, entry string, query url.Values, progress func(admin.Progress)) (admin.Progress, error)
}

// Sent is the result of sending a sample.
type Sent struct {
	Type, Event string
	// Result is stored, duplicate, ignored, rejected or accepted; Sentence is the reason of a rejection.
	Result, Sentence string
	Status           int
	Took             time.Duration
}

// Milliseconds is Took, to the microsecond.
func (s Sent) Milliseconds() float64 { return float64(s.Took.Microseconds()) / 1000 }

// Console serves the pages. Create it with New.
type Console struct {
	place Place
	guard *guard
	mux   *http.ServeMux
	// undoable returns a channel that ends the time in which a discard can be undone.
	undoable func() <-chan time.Time
	// ctx ends with the console and stops background work: watchers and jobs.
	ctx context.Context

	mu       sync.Mutex
	watchers map[string]*watcher
	jobs     jobs
}

// Listen listens on a free port of loopback.
func Listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", "127.0.0.1:0")
}

// New returns a console for a place, to be served at a listener's address until ctx ends.
func New(ctx context.Context, place Place, address net.Addr) *Console {
	c := &Console{undoable: func() <-chan time.Time { return time.After(undoTime) }, place: place, guard: newGuard(address.String()), mux: http.NewServeMux(), ctx: ctx, watchers: map[string]*watcher{}}
	for _, r := range c.routes() {
		c.mux.HandleFunc(r.pattern, c.answer(r.serve))
	}
	return c
}

// route is a page or an action.
type route struct {
	pattern string
	serve   func(http.ResponseWriter, *http.Request) error
	// form bounds the form of a request, in bytes; 0: formBytes.
	form int64
}

func (c *Console) routes() []route {
	const hook, dead = "/webhooks/{name}", "/webhooks/{name}/dead/{target}"
	return []route{
		{pattern: "GET /{$}", serve: c.listWebhooks},
		{pattern: "GET " + hook, serve: c.overview},
		{pattern: "GET " + hook + "/events", serve: c.events},
		{pattern: "GET " + hook + "/events/{event}/content", serve: c.eventContent},
		{pattern: "GET " + hook + "/waiting", serve: c.waiting},
		{pattern: "GET " + hook + "/stream", serve: c.stream},
		{pattern: "GET " + hook + "/series", serve: c.series},
		{pattern: "POST " + hook + "/send", serve: c.send},
		{pattern: "GET " + hook + "/dead", serve: c.firstTarget},
		{pattern: "GET " + dead, serve: c.deadLetters},
		{pattern: "GET " + dead + "/rows", serve: c.deadRows},
		{pattern: "GET " + dead + "/groups", serve: c.deadGroups},
		{pattern: "GET " + dead + "/count", serve: c.deadCount},
		{pattern: "GET " + dead + "/confirm", serve: c.confirm},
		{pattern: "POST " + dead + "/change", serve: c.change},
		{pattern: "GET " + dead + "/letters/{entry}", serve: c.letter},
		{pattern: "GET " + dead + "/letters/{entry}/content", serve: c.letterContent},
		{pattern: "GET " + dead + "/letters/{entry}/edit", serve: c.editLetter},
		{pattern: "POST " + dead + "/letters/{entry}/edit", serve: c.replayEdited, form: editBytes},
		{pattern: "GET /jobs/{job}", serve: c.showJob},
		{pattern: "POST /jobs/{job}/stop", serve: c.stopJob},
		{pattern: "/", serve: func(http.ResponseWriter, *http.Request) error { return errNotFound }},
	}
}

// formBound returns how many bytes the form of a request may have.
func (c *Console) formBound(r *http.Request) int64 {
	_, pattern := c.mux.Handler(r)
	for _, of := range c.routes() {
		if of.pattern == pattern && of.form > 0 {
			return of.form
		}
	}
	return formBytes
}

// Address returns the URL that opens the console, once, at the page of a webhook, or at the list of them for "". Only the browser
// that opens it can use the console.
func (c *Console) Address(webhook string) string {
	address := "http://" + c.guard.host + openPath + c.guard.secret
	if webhook != "" {
		address += "?webhook=" + url.QueryEscape(webhook)
	}
	return address
}

// Watch starts to collect figures of a webhook, so that its first page has charts.
func (c *Console) Watch(webhook string) {
	go func() { _, _ = c.watch(c.ctx, webhook) }() // its page reports errors
}

// Serve serves the console on a listener until ctx ends.
func (c *Console) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: c, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }, // streams end with it
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the console: %w", err)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.guard.protect(w, r, c.mux, assets, c.formBound)
}

//go:embed assets vendored/*.js vendored/*.css
var files embed.FS

// assets serves scripts, styles and the icon. They are the same for all users.
var assets = func() http.Handler {
	mux := http.NewServeMux()
	for _, dir := range []string{"assets", "vendored"} {
		within, err := fs.Sub(files, dir)
		if err != nil {
			panic(err) // the directories are embedded
		}
		mux.Handle("GET /"+dir+"/", http.StripPrefix("/"+dir, http.FileServerFS(within)))
	}
	return mux
}()
