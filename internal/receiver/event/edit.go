package event

import "bytes"

// What an edited body may not change, because the event has been queued by it.
const (
	OtherType         Malformed = `the member "type" differs from the event's type, which cannot be changed`
	OtherWebhook      Malformed = `the member "id" differs from the event's, which names the webhook and cannot be changed`
	OtherConversation Malformed = `the event belongs to a conversation, which orders it and cannot be changed: restore its ID in "event_data"`
	OtherRecipient    Malformed = `the event is about the consent of one recipient, who cannot be changed: restore "target", "phone", "inbox" and "id" in "event_data"`
)

// Edit returns the body that replaces e's: as Decode leaves it, without a token. It refuses, as a Malformed error, what Decode
// refuses, and a change of what e has been queued by: its type, which chooses the lane, its webhook, its conversation, which
// orders it, and the recipient whose consent it is about. Where e's own body is no delivery, its type and conversation count.
func Edit(e Event, body []byte) ([]byte, error) {
	d, err := Decode(body)
	if err != nil {
		return nil, err
	}
	if d.Type != e.Type {
		return nil, OtherType
	}
	conversation := d.Conversation()
	if e.Conversation != "" && conversation != e.Conversation {
		return nil, OtherConversation
	}
	if before, err := Decode(e.Body); err == nil {
		switch {
		case d.HasWebhookID != before.HasWebhookID || d.WebhookID != before.WebhookID:
			return nil, OtherWebhook
		case conversation != before.Conversation():
			return nil, OtherConversation
		case IsConsent(d.Type) && !d.identity.sameRecipient(&before.identity):
			return nil, OtherRecipient
		}
	}
	return d.Body, nil
}

func (i *identity) sameRecipient(other *identity) bool {
	recipient, inbox, id := i.recipient()
	otherRecipient, otherInbox, otherID := other.recipient()
	return bytes.Equal(recipient, otherRecipient) && bytes.Equal(inbox, otherInbox) && id == otherID
}
