package event

import (
	"errors"
	"testing"
)

func TestEdit(t *testing.T) {
	t.Parallel()
	const (
		chat   = `{"type":"chat_closed","id":9,"event_data":{"id":7,"inbox":1}}`
		sent   = `{"type":"message_sent","id":9,"event_data":{"id":5,"text":"a","conversation":{"id":7}}}`
		optOut = `{"type":"target_opt_out","event_data":{"id":3,"phone":"+14155550100","inbox":1}}`
	)
	for name, c := range map[string]struct {
		before, edited string
		conversation   string // as it is stored, where the target wants an order
		want           error
		body           string // where it differs from edited
	}{
		"another member":               {before: chat, edited: `{"type":"chat_closed","id":9,"event_data":{"id":7,"inbox":2}}`},
		"another time":                 {before: chat, edited: `{"type":"chat_closed","id":9,"event_data":{"id":7,"updated":"2026-11-21T12:00:00Z"}}`},
		"a token":                      {before: chat, edited: `{"token":"t","type":"chat_closed","id":9,"event_data":{"id":7}}`, body: `{"type":"chat_closed","id":9,"event_data":{"id":7}}`},
		"the corrected spelling":       {before: `{"type":"message_recieved","event_data":{}}`, edited: `{"type":"message_received","event_data":{"x":1}}`},
		"no JSON":                      {before: chat, edited: `{"type":"chat_closed",`, want: NotJSON},
		"nothing":                      {before: chat, edited: ``, want: NotJSON},
		"a member twice":               {before: chat, edited: `{"type":"chat_closed","id":9,"event_data":{"id":7,"a":1,"a":2}}`, want: NotJSON},
		"no type":                      {before: chat, edited: `{"id":9,"event_data":{"id":7}}`, want: NoType},
		"no data":                      {before: chat, edited: `{"type":"chat_closed","id":9}`, want: NoEventData},
		"another type":                 {before: chat, edited: `{"type":"chat_opened","id":9,"event_data":{"id":7}}`, want: OtherType},
		"another webhook":              {before: chat, edited: `{"type":"chat_closed","id":8,"event_data":{"id":7}}`, want: OtherWebhook},
		"no webhook":                   {before: chat, edited: `{"type":"chat_closed","event_data":{"id":7}}`, want: OtherWebhook},
		"no webhook in place of 0":     {before: `{"type":"chat_closed","id":0,"event_data":{}}`, edited: `{"type":"chat_closed","event_data":{}}`, want: OtherWebhook},
		"another conversation":         {before: chat, edited: `{"type":"chat_closed","id":9,"event_data":{"id":8}}`, want: OtherConversation},
		"no conversation":              {before: chat, edited: `{"type":"chat_closed","id":9,"event_data":{}}`, want: OtherConversation},
		"another text":                 {before: sent, edited: `{"type":"message_sent","id":9,"event_data":{"id":5,"text":"b","conversation":{"id":7}}}`, conversation: "7"},
		"a message of another":         {before: sent, edited: `{"type":"message_sent","id":9,"event_data":{"id":5,"conversation":{"id":8}}}`, want: OtherConversation},
		"another recipient":            {before: optOut, edited: `{"type":"target_opt_out","event_data":{"id":3,"phone":"+14155550199","inbox":1}}`, want: OtherRecipient},
		"another inbox":                {before: optOut, edited: `{"type":"target_opt_out","event_data":{"id":3,"phone":"+14155550100","inbox":2}}`, want: OtherRecipient},
		"no recipient":                 {before: optOut, edited: `{"type":"target_opt_out","event_data":{"id":4}}`, want: OtherRecipient},
		"a recipient's name":           {before: optOut, edited: `{"type":"target_opt_out","event_data":{"id":3,"phone":"+14155550100","inbox":1,"name":"A"}}`},
		"of what was none":             {before: `not JSON`, edited: chat},
		"of what was none, ordered":    {before: `not JSON`, edited: chat, conversation: "7"},
		"of what was none, of another": {before: `not JSON`, edited: chat, conversation: "8", want: OtherConversation},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			was, err := Decode([]byte(c.before))
			if err != nil {
				was.Type = ChatClosed
			}
			got, err := Edit(Event{Type: was.Type, Body: []byte(c.before), Conversation: c.conversation}, []byte(c.edited))
			want := c.edited
			if c.body != "" {
				want = c.body
			}
			if c.want != nil {
				want = ""
			}
			if !errors.Is(err, c.want) || string(got) != want {
				t.Errorf("Edit = %q, %v; want %q, %v", got, err, want, c.want)
			}
		})
	}
}
