package live

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// load sends a receiver's typical requests: events, repeats, and ones that it must reject.
func (l *Lab) load(ctx context.Context) {
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		with := token
		switch {
		case n%20 == 7:
			l.post(ctx, `{"type": "message_recieved"`)
			continue
		case n%50 == 11:
			with = "a-wrong-token"
		case n%10 == 3:
			with = previous
		}
		if n%9 != 4 { // else it is the one before again
			l.lastID++
		}
		l.post(ctx, fmt.Sprintf(`{"type": "message_recieved", "id": 4711, "token": %q, "event_data": {"id": %d, "text": "Is my order on its way?"}}`, with, l.lastID))
	}
}

func (l *Lab) post(ctx context.Context, body string) (status int) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.events, strings.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := l.client.Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}
