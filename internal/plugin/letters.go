package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"heymarket.dev/operator/internal/receiver/admin"
)

// maxAnswer bounds what is read of an answer: a thousand dead letters without their bodies are less than 1 MiB, a body is at most 1 MiB.
const maxAnswer = 16 << 20

// letters are the dead letters of one target, as a receiver serves them.
type letters struct {
	client *http.Client
	target string
}

// choice says which dead letters are meant.
type choice struct {
	entry     string // one; the others then say nothing
	eventType string
	status    int // the target's last answer, 0 for none; negative: any
	limit     int // 0: no limit of the person's
	all       bool
}

// narrow says that not all letters of the target are meant.
func (c choice) narrow() bool {
	return c.entry != "" || c.eventType != "" || c.status >= 0 || c.limit > 0
}

func (c choice) query() url.Values {
	q := url.Values{}
	if c.entry != "" {
		return q
	}
	if c.eventType != "" {
		q.Set("type", c.eventType)
	}
	if c.status >= 0 {
		q.Set("status", strconv.Itoa(c.status))
	}
	if c.limit > 0 {
		q.Set("limit", strconv.Itoa(c.limit))
	}
	if c.all {
		q.Set("all", "true")
	}
	return q
}

func (l letters) list(ctx context.Context, c choice) (found []admin.Letter, err error) {
	return found, l.ask(ctx, http.MethodGet, "", c.query(), &found)
}

func (l letters) show(ctx context.Context, entry string) (letter admin.Letter, err error) {
	return letter, l.ask(ctx, http.MethodGet, "/"+url.PathEscape(entry), nil, &letter)
}

// replay puts letters back into the target's queue and returns how many.
func (l letters) replay(ctx context.Context, c choice) (int, error) {
	var done admin.Done
	path := "/replay"
	if c.entry != "" {
		path = "/" + url.PathEscape(c.entry) + path
	}
	err := l.ask(ctx, http.MethodPost, path, c.query(), &done)
	return done.Replayed, err
}

// discard removes letters for good and returns how many.
func (l letters) discard(ctx context.Context, c choice) (int, error) {
	var done admin.Done
	path := ""
	if c.entry != "" {
		path = "/" + url.PathEscape(c.entry)
	}
	err := l.ask(ctx, http.MethodDelete, path, c.query(), &done)
	return done.Discarded, err
}

// ask sends one request and decodes the answer. A refusal of the receiver is a sentence for people already.
func (l letters) ask(ctx context.Context, method, path string, query url.Values, answer any) error {
	address := "http://receiver/targets/" + url.PathEscape(l.target) + "/dead-letters" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
	if err != nil {
		return err
	}
	response, err := l.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the receiver: %w; try again, another Pod may answer", withoutURL(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("read the receiver's answer: %w", err)
	case response.StatusCode == http.StatusServiceUnavailable:
		return fmt.Errorf("the receiver cannot ask Redis: %s; try again when the condition Durable is True", strings.TrimSpace(string(body)))
	case response.StatusCode != http.StatusOK:
		return errors.New(strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("the receiver's answer is of another version: %w; use the plugin of the operator's version", err)
	}
	return nil
}

// withoutURL is what an http.Client has met, without the address that it quotes, which may be a secret.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
