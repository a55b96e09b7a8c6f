package event

import "testing"

func TestKeyBy(t *testing.T) {
	t.Parallel()
	base := &Delivery{Type: MessageSent}
	key := base.KeyBy("staging", "support", "local-1")
	if again := (&Delivery{Type: MessageSent, WebhookID: 7, HasWebhookID: true}).KeyBy("staging", "support", "local-1"); again != key {
		t.Error("the webhook configuration's id took part in the key")
	}
	for name, other := range map[string]Key{
		"value":           base.KeyBy("staging", "support", "local-2"),
		"type":            (&Delivery{Type: MessageReceived}).KeyBy("staging", "support", "local-1"),
		"name":            base.KeyBy("staging", "sales", "local-1"),
		"namespace":       base.KeyBy("live", "support", "local-1"),
		"parts run on":    base.KeyBy("staging", "supportl", "ocal-1"),
		"the empty value": base.KeyBy("staging", "support", ""),
	} {
		if other == key {
			t.Errorf("another %s makes the same key", name)
		}
	}
}
