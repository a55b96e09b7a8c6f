package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// delay is longer than it takes the operator to do everything else that a scenario asks for.
const delay = 400 * time.Millisecond

// watch sends a watch request, and filters what comes back.
func (p *process) watch(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	context.AfterFunc(p.dead, cancel)
	req = req.Clone(ctx)
	// Events are compared as JSON. Other content (metadata only) is left unchanged.
	var accept []string
	for part := range strings.SplitSeq(req.Header.Get("Accept"), ",") {
		if strings.Contains(part, "json") {
			accept = append(accept, part)
		}
	}
	req.Header.Set("Accept", strings.Join(accept, ","))
	resp, err := next.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		cancel()
		return resp, err
	}
	r, w := io.Pipe()
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	go p.filter(ctx, parts[len(parts)-1], resp.Body, w)
	resp.Body = &watchBody{PipeReader: r, cancel: cancel, under: resp.Body}
	return resp, nil
}

type watchBody struct {
	*io.PipeReader
	cancel context.CancelFunc
	under  io.Closer
}

func (b *watchBody) Close() error {
	b.cancel()
	b.under.Close()
	return b.PipeReader.Close()
}

// filter copies events, one a line, until something goes wrong as planned.
func (p *process) filter(ctx context.Context, resource string, from io.Reader, to *io.PipeWriter) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			to.CloseWithError(err)
			return
		}
		switch p.wire.meetEvent(resource, line) {
		case dropped:
			_, _ = to.Write([]byte(`{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old resource version"}}` + "\n"))
			to.Close()
			return
		case cut:
			to.Close()
			return
		case delayed:
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
		}
		if _, err := to.Write(line); err != nil {
			return
		}
	}
}

// meetEvent is meet for an event; the API server's bookmarks are none.
func (w *wire) meetEvent(resource string, line []byte) string {
	var event struct {
		Type   string `json:"type"`
		Object struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"object"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(line), &event); err != nil || event.Type == "BOOKMARK" || event.Type == "ERROR" {
		return ""
	}
	return w.meet(anEvent, event.Type+" "+resource+"/"+event.Object.Metadata.Name)
}
