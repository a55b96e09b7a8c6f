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

// job is a started replay or discard. It continues when its page is closed, until the console ends.
type job struct {
	ID, Name, Target string
	Order            order
	stop             context.CancelFunc

	mu       sync.Mutex
	done     admin.Progress
	err      error
	finished bool
}

// jobState is the state of a job at one moment.
type jobState struct {
	ID       string
	Order    order
	Done     int
	Skipped  int
	Error    string
	Finished bool
}

type jobs []*job

// begin starts a job.
func (c *Console) begin(name, target string, o order, query url.Values) (*job, error) {
	ctx, cancel := context.WithCancel(c.ctx)
	j := &job{ID: rand.Text(), Name: name, Target: target, Order: o, stop: cancel}
	c.mu.Lock()
	if len(c.jobs) >= mostJobs {
		finished := slices.IndexFunc(c.jobs, func(j *job) bool { return j.state().Finished })
		if finished < 0 {
			c.mu.Unlock()
			cancel()
			return nil, problem{http.StatusServiceUnavailable, "Too many replays and discards are in progress. Wait until one of them has finished."}
		}
		c.jobs = slices.Delete(c.jobs, finished, finished+1)
	}
	c.jobs = append(c.jobs, j)
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer cancel()
		j.run(ctx, c.place, query)
	}()
	select { // most are done at once, and their page need not poll
	case <-ended:
	case <-time.After(200 * time.Millisecond):
	}
	return j, nil
}

func (j *job) run(ctx context.Context, place Place, query url.Values) {
	letters, end, err := place.Letters(ctx, j.Name, j.Target)
	var done admin.Progress
	if err == nil {
		defer end()
		do := letters.Replay
		if j.Order.Operation == discard {
			do = letters.Discard
		}
		done, err = do(ctx, j.Order.Entry, query, func(p admin.Progress) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.done = p
		})
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
	s := jobState{ID: j.ID, Order: j.Order, Done: j.done.Replayed + j.done.Discarded, Skipped: j.done.Skipped, Finished: j.finished}
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

func (c *Console) showJob(w http.ResponseWriter, r *http.Request) error {
	j, err := c.job(r)
	if err != nil {
		return err
	}
	return c.render(w, http.StatusOK, "job", page{Name: j.Name, Target: j.Target, Data: j.state()})
}

// stopJob stops a job. Its completed work is not undone.
func (c *Console) stopJob(w http.ResponseWriter, r *http.Request) error {
	j, err := c.job(r)
	if err != nil {
		return err
	}
	j.stop()
	return c.showJob(w, r)
}
