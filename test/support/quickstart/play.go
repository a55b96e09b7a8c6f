package quickstart

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Row is one thing that Heymarket did and what came of it.
type Row struct {
	Says      string // what Heymarket did
	Want      int    // the status that it should be answered
	Answer    Answer
	Delivered bool       // whether the target should have received it
	Received  []Received // what it did receive
}

// Wrong returns an error if the result is not as expected.
func (r Row) Wrong() error {
	switch {
	case r.Answer.Status != r.Want:
		return fmt.Errorf("%s: answered %d, should be %d: %s", r.Says, r.Answer.Status, r.Want, r.Answer.Body)
	case r.Delivered && len(r.Received) != 1:
		return fmt.Errorf("%s: the target received it %d times, should be once", r.Says, len(r.Received))
	case !r.Delivered && len(r.Received) != 0:
		return fmt.Errorf("%s: the target received it, and should not have", r.Says)
	}
	return nil
}

// Play sends requests that every receiver must distinguish: an event, its repeat, one with a wrong token, one that is no JSON, and another event. The last one's
// delivery is waited for: what was to be delivered before it has been by then.
func Play(ctx context.Context, h *Heymarket, target Target) ([]Row, error) {
	before, err := target.Last(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	id := now.UnixMilli() // new in each play: a receiver remembers an id for days
	message := Message(id, "Is my order on its way?")
	stranger := message
	stranger.Token = "not-" + h.Token
	const broken = `{"type": "message_recieved", "event_data": {`
	rows := []Row{
		{Says: "a message from a customer", Want: http.StatusOK, Delivered: true},
		{Says: "the same message again", Want: http.StatusOK},
		{Says: "with a wrong token", Want: http.StatusUnauthorized},
		{Says: "a body that is not JSON", Want: http.StatusBadRequest},
		{Says: "a chat that was closed", Want: http.StatusOK, Delivered: true},
	}
	// A target may have the event before the sender has its answer, so each is looked for only when all are sent.
	for i, send := range []func() (Answer, error){
		func() (Answer, error) { return h.Send(ctx, message) },
		func() (Answer, error) { return h.Send(ctx, message) },
		func() (Answer, error) { return h.Send(ctx, stranger) },
		func() (Answer, error) { return h.SendBody(ctx, broken) },
		func() (Answer, error) { return h.Send(ctx, ChatClosed(8000000001, now)) },
	} {
		if rows[i].Answer, err = send(); err != nil {
			return rows[:i], fmt.Errorf("%s: %w", rows[i].Says, err)
		}
	}
	var list []Received
	err = Poll(ctx, 15*time.Second, func(ctx context.Context) (bool, error) {
		if list, err = target.Received(ctx, before); err != nil {
			return false, err
		}
		messages, chats := sort(list)
		return len(messages) > 0 && len(chats) > 0, nil
	})
	messages, chats := sort(list)
	rows[0].Received, rows[4].Received = messages, chats
	if len(messages) > 1 { // the repeat's, since the others carry no such id
		rows[0].Received, rows[1].Received = messages[:1], messages[1:]
	}
	for _, row := range rows {
		if wrong := row.Wrong(); wrong != nil {
			return rows, wrong
		}
	}
	if err == nil && len(list) != 2 {
		err = fmt.Errorf("the target received %d requests, should be 2", len(list))
	}
	return rows, err
}

func sort(list []Received) (messages, chats []Received) {
	for _, r := range list {
		switch kind, _, _, err := r.Event(); {
		case err != nil:
		case kind == "chat_closed":
			chats = append(chats, r)
		default:
			messages = append(messages, r)
		}
	}
	return messages, chats
}
