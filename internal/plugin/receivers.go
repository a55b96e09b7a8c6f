package plugin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json"
)

// answer is what one receiver of a webhook answered, or why it did not.
type answer[T any] struct {
	receiver string
	value    T
	err      error
}

// maxReport bounds what askAll reads from a receiver, in bytes.
const maxReport = 1 << 20

// running returns the names of a webhook's receivers; it is an error if there are none.
func running(ctx context.Context, c place, webhook string) ([]string, error) {
	names, err := c.receivers(ctx, webhook)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("no receiver Pod of %s runs; `kubectl heymarket status %s %s` shows why", webhook, webhook, c.flags())
	}
	return names, err
}

// askAll gets a path from a port of each receiver of a webhook, of all at once. It is an error if no receiver runs.
func askAll[T any](ctx context.Context, c place, webhook string, port int, path string) ([]answer[T], error) {
	names, err := running(ctx, c, webhook)
	if err != nil {
		return nil, err
	}
	answers := make([]answer[T], len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			a := answer[T]{receiver: name}
			if a.err = askOne(ctx, c, name, port, path, maxReport, &a.value); a.err != nil {
				a.err = fmt.Errorf("ask receiver %s: %w", name, a.err)
			}
			answers[i] = a
		})
	}
	wg.Wait()
	return answers, nil
}

// askOne decodes the answer of one receiver.
func askOne(ctx context.Context, c place, receiver string, port int, path string, most int64, into any) error {
	client, end, err := c.reachOne(ctx, receiver, port)
	if err != nil {
		return err
	}
	defer end()
	return getJSON(ctx, client, "http://localhost"+path, most, into)
}

// getJSON decodes the answer to a GET, reading up to most bytes: receivers are untrusted.
func getJSON(ctx context.Context, client *http.Client, address string, most int64, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return rejection(response)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return otherVersion(err)
	}
	return nil
}
