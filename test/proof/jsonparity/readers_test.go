package jsonparity

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/event"
)

// TestEveryReaderSeesTheSameEvent mutates envelopes. READERS_BODIES sets how many (default 30,000), READERS_SEED which.
func TestEveryReaderSeesTheSameEvent(t *testing.T) {
	bodies, seed := setting(t, "READERS_BODIES", 30_000), setting(t, "READERS_SEED", time.Now().UnixNano())
	t.Logf("READERS_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	var accepted, refused, begun int64
	var now atomic.Value // the current input, reported with a panic or a hang
	defer func() {
		if v := recover(); v != nil {
			t.Fatalf("a panic over %q: %v", now.Load(), v)
		}
	}()
	start := time.Now()
	for begun = range bodies {
		body := mutant(rng)
		now.Store(body)
		d, err := event.Decode(body)
		if err != nil {
			refused++
			continue
		}
		accepted++
		want := envelope{Type: d.Type, Token: string(d.Token)}
		if d.Respelled {
			want.Type = "message_received"
		}
		if d.HasWebhookID {
			want.ID = strconv.FormatInt(d.WebhookID, 10)
		}
		// The byte order mark is not part of the document: a reader skips it, or refuses the body.
		body = bytes.TrimPrefix(body, []byte("\ufeff"))
		for _, r := range readers {
			got, err := r.read(body)
			if err != nil {
				continue // one that refuses what we take acts on nothing
			}
			if d.OddWebhookID && want.ID == "" { // the receiver compares it with nothing; the others must agree
				want.ID = got.ID
			}
			if got != want {
				t.Errorf("%q\n%s sees %+v, the receiver sees %+v", body, r.name, got, want)
			}
		}
		if t.Failed() && accepted > 1000 {
			break
		}
	}
	t.Logf("%d bodies in %s: %d accepted and read by %d others, %d refused", begun+1, time.Since(start).Round(time.Second), accepted, len(readers), refused)
	if accepted*20 < begun {
		t.Error("hardly a body is accepted: this shows little")
	}
}

func setting(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		t.Fatal(fmt.Errorf("%s=%q is not a number of at least 1", name, text))
	}
	return n
}
