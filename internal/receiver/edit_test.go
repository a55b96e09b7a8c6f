package receiver_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// replayEdited replays the only dead letter of crm with another body, and returns the answer, and the event's ID.
func (p *process) replayEdited(body string) (status int, text, event string) {
	p.t.Helper()
	var letters []admin.Letter
	if err := json.Unmarshal([]byte(p.getAdmin("/v1/targets/crm/dead-letters")), &letters); err != nil || len(letters) != 1 {
		p.t.Fatalf("%d dead letters, %v", len(letters), err)
	}
	response, err := http.Post(p.admin+"/v1/targets/crm/dead-letters/"+letters[0].Entry+"/replay", "application/json", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), letters[0].Event
}

// The target gets the edited body, without a token and under the ID of the event. Bodies have the same bound as Heymarket's, and
// the webhook's bytes their usual one.
func TestAnEditedLetterIsDelivered(t *testing.T) {
	t.Parallel()
	redis, to := redistest.Start(t), newSink(t)
	c := newConfig(crm(to))
	c.MaxBodyBytes, c.MaxBacklogBytes = 5000, 3000
	p := start(t, redis.URL(), c)
	p.awaitReady()
	to.answer(func() int { return http.StatusUnprocessableEntity })
	p.wantPost(sample(1), http.StatusOK)
	until(t, "a dead letter", func() bool { _, s := p.get("/status"); return strings.Contains(s, `"deadLetters":1`) })
	to.answer(nil)
	for body, want := range map[string]int{
		strings.Replace(sample(1), "message_recieved", "message_sent", 1):            http.StatusBadRequest,
		strings.Replace(sample(1), text, strings.Repeat("x", 4000), 1):               http.StatusConflict,
		strings.Replace(sample(1), text, strings.Repeat("x", 5000), 1):               http.StatusRequestEntityTooLarge,
		strings.Replace(sample(1), `"event_data"`, `"event_data":{},"other"`, 1)[1:]: http.StatusBadRequest,
	} {
		if status, answer, _ := p.replayEdited(body); status != want {
			t.Errorf("%.60s: %d %s, want %d", body, status, answer, want)
		}
	}
	edited := strings.Replace(sample(1), text, "as it should have been", 1)
	status, answer, event := p.replayEdited(edited)
	if status != http.StatusOK || answer != `{"replayed":1,"finished":true}`+"\n" {
		t.Fatal(status, answer)
	}
	to.await(t, 1)
	to.mu.Lock()
	defer to.mu.Unlock()
	if want := strings.Replace(edited, `"token":"`+token+`",`, "", 1); to.bodies[event] != want {
		t.Errorf("the target got %q, want %s under %s", to.bodies, want, event)
	}
}
