package plugin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"heymarket.dev/operator/internal/receiver/admin"
)

// maxAnswer bounds the size of an answer: a thousand dead letters without their bodies are less than 8 MiB, a body is at most 1
// MiB.
const maxAnswer = 16 << 20

// letters are the dead letters of one target, as a receiver serves them.
type letters struct {
	client *http.Client
	target string
	// place and webhook are those of the target.
	place   place
	webhook string
}

// choice selects dead letters.
type choice struct {
	entry     string // a single one; the other fields are then ignored
	eventType string
	status    int // the target's last answer, 0 for none; anyStatus: any
	// reason and text are contained in the reason and in the body; since and until bound the time at which the letter was given
	// up.
	reason, text string
	since, until time.Time
	limit        int // 0: no limit given
	all          bool
	edited       []byte // with entry, for a replay: content that replaces that of the letter; nil keeps it
}

const anyStatus = -1

// check returns an error unless c selects the letters to replay or discard unambiguously.
func (c choice) check() error {
	narrow := len(c.filter()) > 0 || c.limit > 0
	switch {
	case c.entry != "" && (narrow || c.all):
		return errors.New("--id names one dead letter: leave out the other flags that choose, or leave out --id")
	case c.all && narrow:
		return errors.New("--all means every dead letter of the target: leave out the other flags that choose, or leave out --all")
	case c.entry == "" && !narrow && !c.all:
		return errors.New("this would take every dead letter of the target: choose by --id, --type, --status, --reason, --text, --since, --until or --limit, or set --all if that is intended")
	}
	return nil
}

func (c choice) query() url.Values {
	if c.entry != "" {
		return url.Values{}
	}
	q := c.filter()
	if c.limit > 0 {
		q.Set("limit", strconv.Itoa(c.limit))
	}
	if c.all {
		q.Set("all", "true")
	}
	return q
}

// filter returns the part of a query that selects letters.
func (c choice) filter() url.Values {
	q := url.Values{}
	for name, text := range map[string]string{"type": c.eventType, "reason": c.reason, "text": c.text} {
		if text != "" {
			q.Set(name, text)
		}
	}
	for name, at := range map[string]time.Time{"diedSince": c.since, "diedUntil": c.until} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if c.status != anyStatus {
		q.Set("status", strconv.Itoa(c.status))
	}
	return q
}

func (l letters) list(ctx context.Context, c choice) (found []admin.Letter, err error) {
	return found, l.ask(ctx, "", c.query(), &found)
}

func (l letters) count(ctx context.Context) (int, error) {
	var answer admin.Count
	err := l.ask(ctx, "/count", nil, &answer)
	return answer.Count, err
}

func (l letters) show(ctx context.Context, entry string) (letter admin.Letter, err error) {
	return letter, l.ask(ctx, entryPath(entry), nil, &letter)
}

// replay puts letters back into the target's queue, and discard removes them permanently. Both return the counts even with an
// error, and call progress while there is more to do.
func (l letters) replay(ctx context.Context, c choice, progress func(admin.Progress)) (admin.Progress, error) {
	return l.change(ctx, http.MethodPost, entryPath(c.entry)+"/replay", c.query(), c.edited, progress)
}

func (l letters) discard(ctx context.Context, c choice, progress func(admin.Progress)) (admin.Progress, error) {
	return l.change(ctx, http.MethodDelete, entryPath(c.entry), c.query(), nil, progress)
}

// entryPath returns the path of one letter, or that of all for "".
func entryPath(entry string) string {
	if entry == "" {
		return ""
	}
	return "/" + url.PathEscape(entry)
}

// change reads an answer line by line. The work may take long, so the timeout applies to the time between two lines.
func (l letters) change(ctx context.Context, method, path string, query url.Values, edited []byte, progress func(admin.Progress)) (last admin.Progress, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(requestLimit, func() { cancel(fmt.Errorf("the receiver has been silent for %s", requestLimit)) })
	defer silent.Stop()
	response, err := l.do(ctx, method, path, query, edited)
	if err != nil {
		return last, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		silent.Reset(requestLimit)
		var line admin.Progress
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return last, otherVersion(err)
		}
		last = line
		switch {
		case line.Error != "":
			return last, fmt.Errorf("the receiver stopped: %s; run the command again for the rest", printable(line.Error))
		case line.Finished:
			return last, nil
		}
		progress(line)
	}
	err = lines.Err()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return last, fmt.Errorf("read the receiver's answer: %w; run the command again for the rest", err)
}

// ask sends one read-only request and decodes the answer.
func (l letters) ask(ctx context.Context, path string, query url.Values, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	response, err := l.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return otherVersion(err)
	}
	return nil
}

// do sends one request. If the receiver rejects it, the error is an admin.Problem with its sentence.
func (l letters) do(ctx context.Context, method, path string, query url.Values, edited []byte) (*http.Response, error) {
	address := "http://localhost/v1/targets/" + url.PathEscape(l.target) + "/dead-letters" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(edited))
	if err != nil {
		return nil, err
	}
	if edited != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := l.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("send the request to the receiver: %w; try again, another Pod may answer", withoutURL(err))
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusServiceUnavailable {
		return nil, fmt.Errorf("the receiver cannot reach Redis: %w; try again when the condition Durable is True", rejection(response))
	}
	return nil, rejection(response)
}

// rejection returns an answer that is not 200 as an admin.Problem.
func rejection(response *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	sentence := printable(strings.TrimSpace(string(body)))
	if err != nil || sentence == "" {
		sentence = fmt.Sprintf("the answer is %d, without a reason", response.StatusCode)
	}
	return admin.Problem{Status: response.StatusCode, Sentence: sentence}
}

func otherVersion(err error) error {
	return fmt.Errorf("the receiver's answer is of another version: %w; use the plugin of the operator's version", err)
}

// withoutURL returns an http.Client's error without the URL that it quotes, which may be a secret.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
