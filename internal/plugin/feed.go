package plugin

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/recent"
)

const (
	// feedPoll is how often a feed looks for new receivers.
	feedPoll = 2 * time.Second
	// feedGather is how long records are collected before they are sorted.
	feedGather = 200 * time.Millisecond
)

// feed reads the records of all receivers of a webhook: an event accepted by one may be delivered by another.
type feed struct {
	place   place
	webhook string
	query   url.Values
	notes   io.Writer // messages about the feed itself

	mu     sync.Mutex
	behind map[string]uint64 // sequence by receiver
	active map[string]bool
	came   chan recent.Record
}

func newFeed(c place, webhook string, query url.Values, notes io.Writer) *feed {
	return &feed{place: c, webhook: webhook, query: query, notes: notes, behind: map[string]uint64{}, active: map[string]bool{}, came: make(chan recent.Record, 100)}
}

func (f *feed) note(format string, args ...any) {
	fmt.Fprintln(f.notes, printable(fmt.Sprintf(format, args...)))
}

// history returns up to limit existing records, the oldest first. Later ones are followed.
func (f *feed) history(ctx context.Context, limit int) ([]recent.Record, error) {
	names, err := running(ctx, f.place, f.webhook)
	if err != nil {
		return nil, err
	}
	query := url.Values{"limit": {strconv.Itoa(max(limit, 1))}}
	maps.Copy(query, f.query)
	var all []recent.Record
	for _, name := range names {
		var answer admin.Events
		if err := askOne(ctx, f.place, name, contract.AdminPort, "/v1/events?"+query.Encode(), maxAnswer, &answer); err != nil {
			return nil, fmt.Errorf("ask receiver %s: %w", name, err)
		}
		f.behind[name] = answer.Sequence
		all = append(all, answer.Events...)
	}
	inOrder(all)
	return all[max(len(all)-limit, 0):], nil
}

// follow calls show with new records, in order and in batches, until ctx ends or show returns false.
func (f *feed) follow(ctx context.Context, show func([]recent.Record) bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	poll := time.NewTicker(feedPoll)
	defer poll.Stop()
	f.join(ctx)
	var gathered []recent.Record
	var ready <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			f.join(ctx)
		case record := <-f.came:
			if gathered = append(gathered, record); ready == nil {
				ready = time.After(feedGather)
			}
		case <-ready:
			inOrder(gathered)
			if !show(gathered) {
				return
			}
			gathered, ready = nil, nil
		}
	}
}

// inOrder sorts records by time. The clocks of receivers may differ, so a request precedes every attempt at its event.
func inOrder(records []recent.Record) {
	first := map[string]time.Time{}
	for _, r := range records {
		if at, known := first[r.Event]; r.Event != "" && (!known || r.Time.Before(at)) {
			first[r.Event] = r.Time
		}
	}
	at := func(r recent.Record) time.Time {
		if r.Outcome == recent.Stored {
			return first[r.Event]
		}
		return r.Time
	}
	slices.SortStableFunc(records, func(a, b recent.Record) int {
		before := func(r recent.Record) int {
			if r.Outcome == recent.Stored {
				return 0
			}
			return 1
		}
		return cmp.Or(at(a).Compare(at(b)), before(a)-before(b))
	})
}

// join starts to follow new receivers.
func (f *feed) join(ctx context.Context) {
	names, err := f.place.receivers(ctx, f.webhook)
	if err != nil {
		if ctx.Err() == nil {
			f.note("The receivers cannot be listed, trying again: %v", err)
		}
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		if f.active[name] {
			continue
		}
		f.active[name] = true
		behind, known := f.behind[name]
		if !known {
			behind = 1 // a new one: all of its records
		}
		go func() {
			behind, err := f.read(ctx, name, behind)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.active[name], f.behind[name] = false, behind
			if err != nil && ctx.Err() == nil {
				f.note("Receiver %s is not followed any more, unless it comes back: %v", name, err)
			}
		}()
	}
}

// read forwards the records of one receiver, and returns the sequence of the last one.
func (f *feed) read(ctx context.Context, receiver string, behind uint64) (uint64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client, end, err := f.place.reachOne(ctx, receiver, contract.AdminPort)
	if err != nil {
		return behind, err
	}
	defer end()
	client.Timeout = 0
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/events/stream?"+f.query.Encode(), http.NoBody)
	if err != nil {
		return behind, err
	}
	request.Header.Set("Last-Event-ID", strconv.FormatUint(behind, 10))
	silent := time.AfterFunc(3*admin.KeepAlive, func() { cancel(errors.New("it has been silent for too long")) })
	defer silent.Stop()
	response, err := client.Do(request)
	if err != nil {
		return behind, withoutURL(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return behind, rejection(response)
	}
	lines, kind := bufio.NewScanner(response.Body), ""
	for lines.Scan() {
		silent.Reset(3 * admin.KeepAlive)
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "":
			kind = ""
		case name == "event":
			kind = value
		case name == "data" && kind == admin.GapEvent:
			if behind > 1 {
				f.note("Some records of receiver %s are missing: they came faster than they were read.", receiver)
			}
		case name == "data" && kind == "":
			var record recent.Record
			if err := json.Unmarshal([]byte(value), &record); err != nil {
				return behind, otherVersion(err)
			}
			record.Receiver = receiver
			select {
			case f.came <- record:
				behind = record.Sequence
			case <-ctx.Done():
			}
		}
	}
	return behind, cmp.Or(context.Cause(ctx), lines.Err(), io.ErrUnexpectedEOF)
}
