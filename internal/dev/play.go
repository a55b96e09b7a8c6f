package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/echo"
	"heymarket.dev/operator/internal/fixture"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/ingest"
)

// Row is one request made by Play, and its result.
type Row struct {
	// Says describes the request.
	Says string
	// Want is the expected status of the answer, and Status the actual one.
	Want, Status int
	Took         time.Duration
	// Result and Event are the receiver's result; empty if the request was rejected, in which case Sentence is the body of the
	// answer.
	Result   ingest.Result
	Event    string
	Sentence string
	// Received are the resulting requests to the target in this process.
	Received []echo.Record
}

// Wrong returns an error if the result is not as expected.
func (r Row) Wrong() error {
	switch {
	case r.Status != r.Want:
		return fmt.Errorf("%s: answered %d and not %d: %s", r.Says, r.Status, r.Want, r.Sentence)
	case r.Result == ingest.Stored && len(r.Received) == 0:
		return fmt.Errorf("%s: stored, but no target received it", r.Says)
	case r.Result != ingest.Stored && len(r.Received) > 0:
		return fmt.Errorf("%s: a target received it, although it was not stored", r.Says)
	}
	return nil
}

// deliveryTime bounds how long Play waits for deliveries. A failing target is retried for longer than that.
const deliveryTime = 15 * time.Second

// Play sends an event of every type, two repeats, one event with a wrong token and a body that is not JSON, and waits until the
// stored events are delivered. It requires Options.Echo.
func (r *Running) Play(ctx context.Context) ([]Row, error) {
	var rows []Row
	send := func(says string, body []byte, want int) error {
		row := Row{Says: says, Want: want}
		if err := r.send(ctx, body, &row); err != nil {
			return fmt.Errorf("%s: %w", says, err)
		}
		rows = append(rows, row)
		return nil
	}
	before := 0
	if last := r.Echo.Received(0); len(last) > 0 {
		before = last[len(last)-1].Seq
	}
	var sent []byte
	for _, eventType := range event.Types() {
		body, err := r.fresh(eventType, r.Token)
		if err == nil {
			err = send(eventType, body, http.StatusOK)
		}
		if err == nil && (eventType == event.MessageReceived || eventType == event.ChatClosed) {
			err = send(eventType+", again", body, http.StatusOK)
			sent = body
		}
		if err != nil {
			return rows, err
		}
	}
	stranger, err := r.fresh(event.MessageReceived, "not-"+r.Token)
	if err == nil {
		err = send("with a wrong token", stranger, http.StatusUnauthorized)
	}
	if err == nil {
		err = send("a body that is not JSON", sent[:len(sent)/2], http.StatusBadRequest)
	}
	if err != nil {
		return rows, err
	}
	err = r.awaitDelivery(ctx)
	for _, record := range r.Echo.Received(before) {
		for i := range rows {
			// Deliveries to a target after the first belong to the repeat.
			if rows[i].Event == record.Headers["Webhook-Id"] && (len(rows[i].Received) < len(r.Webhook.Spec.Targets) || i+1 == len(rows) || rows[i+1].Event != rows[i].Event) {
				rows[i].Received = append(rows[i].Received, record)
				break
			}
		}
	}
	for _, row := range rows {
		err = errors.Join(err, row.Wrong())
	}
	return rows, err
}

// fresh returns a new event for this webhook.
func (r *Running) fresh(eventType, token string) ([]byte, error) {
	body, err := fixture.Fresh(eventType, time.Now())
	if err != nil {
		return nil, err
	}
	return fixture.For(body, token, ptr.Deref(r.Webhook.Spec.WebhookID, fixture.WebhookID))
}

func (r *Running) send(ctx context.Context, body []byte, row *Row) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Prefer", ingest.PreferResult)
	began := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	row.Status, row.Took = response.StatusCode, time.Since(began)
	if response.StatusCode != http.StatusOK {
		row.Sentence = strings.TrimSpace(string(text))
		return err
	}
	var answer struct {
		Result ingest.Result `json:"result"`
		Event  string        `json:"event"`
	}
	err = errors.Join(err, json.Unmarshal(text, &answer))
	row.Result, row.Event = answer.Result, answer.Event
	return err
}

// awaitDelivery waits until nothing is pending.
func (r *Running) awaitDelivery(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryTime)
	defer cancel()
	for {
		var targets []contract.TargetStatus
		if err := get(ctx, "http://"+r.Admin+"/v1/targets", &targets); err != nil {
			return err
		}
		pending := int64(0)
		for _, t := range targets {
			pending += t.Pending
		}
		if pending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d events are still waiting for a target after %s", pending, deliveryTime)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
