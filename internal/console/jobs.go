package console

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"heymarket.dev/operator/internal/receiver/admin"
)

// mostJobs bounds the jobs that are kept, and those that are running.
const mostJobs = 32

const (
	// undoTime is how long a discard can be undone before it starts.
	undoTime = 5 * time.Second
	// quick is how long an answer waits for a job to end, so that its page need not poll.
	quick = 200 * time.Millisecond
)

// job is a started replay or discard. It continues when its page is closed, until the console ends.
type job struct {
	ID, Name, Target string
	Order            order
	stop             context.CancelFunc
	ended            chan struct{}

	mu       sync.Mutex
	done     admin.Progress
	err      error
	begun    bool
	finished bool
}

// jobState is the state of a job at one moment.
type jobState struct {
	ID      string
	Order   order
	Done    int
	Skipped int
	Error   string
	// Pending jobs have not started: they can still be undone. Undone ones never started.
	Pending, Undone bool
	Finished        bool
}

type jobs []*job

// begin starts a job.
func (c *Console) begin(name, target string, o order, query url.Values) (*job, error) {
	ctx, cancel := context.WithCancel(c.ctx)
	j := &job{ID: rand.Text(), Name: name, Target: target, Order: o, stop: cancel, ended: make(chan struct{})}
	c.mu.Lock()
	if len(c.jobs) >= mostJobs {
		finished := slices.IndexFunc(c.jobs, func(j *job) bool { return j.state().Finished })
		if finished < 0 {
			c.mu.Unlock()
			cancel()
			return nil, problem(http.StatusServiceUnavailable, "Too many replays and discards are in progress. Wait until one of them has finished.")
		}
		c.jobs = slices.Delete(c.jobs, finished, finished+1)
	}
	c.jobs = append(c.jobs, j)
	c.mu.Unlock()
	go func() {
		defer close(j.ended)
		defer cancel()
		if o.Operation == discard {
			select {
			case <-c.undoable():
			case <-ctx.Done():
			}
		}
		if j.start(ctx) {
			j.run(ctx, c.place, query)
		}
	}()
	if o.Operation == replay {
		j.settle()
	}
	return j, nil
}

// settle waits for a moment until the job ends.
func (j *job) settle() {
	select {
	case <-j.ended:
	case <-time.After(quick):
	}
}

// start reports whether a job may begin: it was not stopped before.
func (j *job) start(ctx context.Context) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.begun = ctx.Err() == nil
	j.finished = !j.begun
	return j.begun
}

func (j *job) run(ctx context.Context, place Place, query url.Values) {
	letters, end, err := place.Letters(ctx, j.Name, j.Target)
	var done admin.Progress
	if err == nil {
		defer end()
		progress := func(p admin.Progress) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.done = p
		}
		if j.Order.Operation == discard {
			done, err = letters.Discard(ctx, j.Order.Entry, query, progress)
		} else {
			done, err = letters.Replay(ctx, j.Order.Entry, query, nil, progress)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if done != (admin.Progress{}) {
		j.done = done
	}
	j.err, j.finished = err, true
}

func (j *job) state() jobState {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := jobState{ID: j.ID, Order: j.Order, Done: j.done.Replayed + j.done.Discarded, Skipped: j.done.Skipped, Finished: j.finished, Pending: !j.begun && !j.finished, Undone: !j.begun && j.finished}
	if j.err != nil {
		s.Error = j.err.Error()
	}
	return s
}

func (c *Console) job(r *http.Request) (*job, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.jobs, func(j *job) bool { return j.ID == r.PathValue("job") }); i >= 0 {
		return c.jobs[i], nil
	}
	return nil, errNotFound
}

// running are the jobs on the dead letters of a target that have not ended.
func (c *Console) running(name, target string) (all []jobState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.jobs {
		if s := j.state(); j.Name == name && j.Target == target && !s.Finished {
			all = append(all, s)
		}
	}
	return all
}

func (c *Console) showJob(w http.ResponseWriter, r *http.Request) error {
	j, err := c.job(r)
	if err != nil {
		return err
	}
	template := "job"
	if !byHTMX(r) {
		template = "job-page"
	}
	return c.render(w, http.StatusOK, template, page{Title: j.Order.Verb(), Name: j.Name, Target: j.Target, Data: j.state()})
}

// stopJob ends a job. What it has done stays done; a discard that has not begun is undone.
func (c *Console) stopJob(w http.ResponseWriter, r *http.Request) error {
	j, err := c.job(r)
	if err != nil {
		return err
	}
	j.stop()
	j.settle()
	if !byHTMX(r) {
		http.Redirect(w, r, jobPath(j.ID), http.StatusSeeOther)
		return nil
	}
	return c.showJob(w, r)
}

func jobPath(id string) string { return "/jobs/" + id }

// byHTMX reports whether htmx sent a request, and takes a part of a page. Otherwise the browser did, before or without it.
func byHTMX(r *http.Request) bool { return r.Header.Get("HX-Request") != "" }
