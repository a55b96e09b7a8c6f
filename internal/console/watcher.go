package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/recent"
)

const (
	// watchedPoll is how often figures are polled while a page shows them, and idlePoll otherwise.
	watchedPoll = 2 * time.Second
	idlePoll    = 10 * time.Second
	// retryPause is how long a watcher waits before it retries after an error.
	retryPause = 2 * time.Second
	// firstAnswer is how long a page waits for the first answers of receivers.
	firstAnswer = 3 * time.Second
	// keptSamples is the maximum age of the figures in charts.
	keptSamples = time.Hour
	// mostWatchers bounds the webhooks that are watched at the same time.
	mostWatchers = 100
)

// watcher collects the data of one webhook's pages: events, and figures over the last hour. It starts with the first
// page.
type watcher struct {
	place Place
	name  string
	// answered is closed when receivers have answered for the first time, or failed to.
	answered chan struct{}

	mu       sync.Mutex
	events   []*shownEvent // the oldest first
	byID     map[string]*shownEvent
	number   uint64 // of the latest change
	stats    []admin.Stats
	samples  []sample // the oldest first
	problems [2]string
	changed  chan struct{} // closed at the next change
	pages    int           // that are open
	opened   chan struct{} // a page opens
}

func newWatcher(place Place, name string) *watcher {
	return &watcher{
		place: place, name: name, answered: make(chan struct{}), byID: map[string]*shownEvent{}, changed: make(chan struct{}), opened: make(chan struct{}, 1),
	}
}

// watch returns the watcher of a webhook, once it has data to show or firstAnswer has passed.
func (c *Console) watch(ctx context.Context, name string) (*watcher, error) {
	c.mu.Lock()
	w := c.watchers[name]
	if w == nil {
		if len(c.watchers) >= mostWatchers {
			c.mu.Unlock()
			return nil, problem(http.StatusServiceUnavailable, fmt.Sprintf("This console watches %d webhooks already. Start another one.", mostWatchers))
		}
		w = newWatcher(c.place, name)
		c.watchers[name] = w
		var first sync.WaitGroup
		first.Add(2)
		go w.follow(c.ctx, sync.OnceFunc(first.Done))
		go w.poll(c.ctx, sync.OnceFunc(first.Done))
		go func() {
			first.Wait()
			close(w.answered)
		}()
	}
	c.mu.Unlock()
	late := time.NewTimer(firstAnswer)
	defer late.Stop()
	select {
	case <-w.answered:
	case <-late.C:
	case <-ctx.Done():
	}
	return w, ctx.Err()
}

func (w *watcher) follow(ctx context.Context, first func()) {
	for ctx.Err() == nil {
		err := w.place.Follow(ctx, w.name, func(records []recent.Record) {
			w.take(records)
			first()
		})
		w.report(0, err)
		first()
		pause(ctx, retryPause, nil)
	}
}

func (w *watcher) poll(ctx context.Context, first func()) {
	for ctx.Err() == nil {
		stats, err := w.place.Stats(ctx, w.name)
		if err == nil {
			w.sample(stats, time.Now())
		}
		w.report(1, err)
		first()
		w.mu.Lock()
		every := idlePoll
		if w.pages > 0 {
			every = watchedPoll
		}
		w.mu.Unlock()
		pause(ctx, every, w.opened)
	}
}

// pause waits until d has passed, ctx ends or wake receives a value.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
}

// change wakes the pages. It is called with the lock held.
func (w *watcher) change() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// report stores the error of one of two sources; nil clears it.
func (w *watcher) report(source int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if w.problems[source] != text {
		w.problems[source] = text
		w.change()
	}
}

// take adds records to their events.
func (w *watcher) take(records []recent.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems[0] = ""
	for _, r := range records {
		w.number++
		id := r.Event
		if !eventPattern.MatchString(id) {
			id = ""
		}
		e := w.byID[id]
		if e == nil || id == "" {
			e = &shownEvent{ID: id, Key: id, Type: r.Type, Last: map[string]recent.Record{}, added: w.number}
			if id == "" {
				e.Key = fmt.Sprintf("request-%d", w.number)
			} else {
				w.byID[id] = e
			}
			w.events = append(w.events, e)
		}
		e.add(r)
		e.changed = w.number
	}
	if n := len(w.events) - keptEvents; n > 0 {
		for _, e := range w.events[:n] {
			delete(w.byID, e.ID)
		}
		w.events = slices.Delete(w.events, 0, n)
	}
	w.change()
}

// view is the state of a watcher at one moment.
type view struct {
	// Events are those that match a filter, the latest first.
	Events []*shownEvent
	number uint64
	// Figures are those at that moment.
	Figures figures
	// Problem is the reason why the events and figures may be out of date; "" if they are current.
	Problem string
	changed <-chan struct{}
}

// Number returns the number of the latest change included in v.
func (v view) Number() uint64 { return v.number }

// since returns up to limit events that match f and have changed after a number.
func (w *watcher) since(number uint64, f filter, limit int) view {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := view{number: w.number, changed: w.changed, Figures: w.figures(time.Now())}
	for _, text := range w.problems {
		if text != "" {
			v.Problem = text
		}
	}
	for _, e := range slices.Backward(w.events) {
		if len(v.Events) == limit {
			break
		}
		if e.changed > number && f.matches(e) {
			v.Events = append(v.Events, e.copied())
		}
	}
	return v
}

// open counts an open page, until closed is called.
func (w *watcher) open() (closed func()) {
	count := func(n int) {
		w.mu.Lock()
		w.pages += n
		w.mu.Unlock()
	}
	count(1)
	select {
	case w.opened <- struct{}{}:
	default:
	}
	return func() { count(-1) }
}
