package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// retryTimeout is how long an answer is retried on which Heymarket would repeat the event: a Service may have only just got its
// first Pod.
const retryTimeout = 30 * time.Second

// heymarket sends events as Heymarket does.
type heymarket struct {
	url    *url.URL // its path is a secret
	token  string
	client *http.Client
	lastID int64
}

func newHeymarket(u *url.URL, token string, transport http.RoundTripper) *heymarket {
	if transport == nil {
		transport = &http.Transport{} // the receiver is in the same cluster, so proxy settings in the environment are ignored
	}
	return &heymarket{url: u, token: token, lastID: time.Now().UnixMicro(), client: &http.Client{
		Timeout:       15 * time.Second,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// newEvent returns the id of an event that no receiver has seen.
func (h *heymarket) newEvent() int64 {
	h.lastID++
	return h.lastID
}

// accepted sends an event until it is answered 200.
func (h *heymarket) accepted(ctx context.Context, id int64) error {
	limited, cancel := context.WithTimeout(ctx, retryTimeout)
	defer cancel()
	return poll(limited, func(ctx context.Context) (bool, error) { return true, h.send(ctx, id, h.token, http.StatusOK) })
}

// refused sends an event with a wrong token.
func (h *heymarket) refused(ctx context.Context, id int64) error {
	return h.send(ctx, id, "not-"+h.token, http.StatusUnauthorized)
}

func (h *heymarket) send(ctx context.Context, id int64, token string, want int) error {
	body, err := json.Marshal(event{Type: "message_recieved", Webhook: 1, Token: token, Data: data{ID: id, Text: "helm test"}})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url.String(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be used") // the error would quote it
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := h.client.Do(request)
	if err != nil {
		if at, ok := errors.AsType[*url.Error](err); ok {
			err = at.Err // without the URL
		}
		return fmt.Errorf("POST to %s: %w", h.url.Host, err)
	}
	defer response.Body.Close()
	if response.StatusCode != want {
		return fmt.Errorf("%s answered %d, not %d", h.url.Host, response.StatusCode, want)
	}
	return nil
}

// event is an event as sent and, without the token, as delivered.
type event struct {
	Type    string `json:"type"`
	Webhook int64  `json:"id"`
	Token   string `json:"token"`
	Data    data   `json:"event_data"`
}

type data struct {
	ID   int64  `json:"id"`
	Text string `json:"text"`
}
