// Package check tests an installed operator: it creates a temporary HeymarketWebhook whose target is the check itself, sends
// events to the receiver as Heymarket would, and verifies the deliveries. `helm test` runs it.
package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cleanupTimeout bounds the cleanup, which also runs after the check's own time is up.
const cleanupTimeout = 60 * time.Second

// Check configures one check.
type Check struct {
	// Client must be allowed to create, read and delete the HeymarketWebhook and the Secret of the name below, and to read the
	// Secret of its URL.
	Client client.Client
	// Namespace is the namespace of the webhook. The operator must watch it.
	Namespace string
	// Name is the name of the temporary HeymarketWebhook and Secret. Leftovers of an earlier check with this name are removed
	// first.
	Name string
	// Listener accepts the deliveries. It is closed at the end.
	Listener net.Listener
	// Target is the host and port at which receivers reach the Listener.
	Target string
	// ImagePullSecrets are the names of Secrets for pulling the receiver's image.
	ImagePullSecrets []string
	// Transport connects to the receiver. Default: directly, without a proxy.
	Transport http.RoundTripper
	// Out receives a sentence for each step. No sentence contains the token or the secret part of the URL.
	Out io.Writer
}

// Run creates the webhook, acts as Heymarket and as the target, and in any case removes what it created. The error contains the
// failed step and what to check.
func (c Check) Run(ctx context.Context) (err error) {
	t := newTarget(c.Listener)
	defer t.close()
	w := webhook{client: c.Client, namespace: c.Namespace, name: c.Name}
	if err := w.remove(ctx); err != nil {
		return fmt.Errorf("remove what an earlier check left behind: %w", err)
	}
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		if removed := w.remove(cleanup); removed != nil {
			err = errors.Join(err, fmt.Errorf("remove the HeymarketWebhook and its Secret: %w", removed))
			return
		}
		c.say("Removed both.")
	}()

	token := rand.Text()
	if err := w.make(ctx, token, "http://"+c.Target+"/", c.ImagePullSecrets); err != nil {
		return err
	}
	c.say("Created HeymarketWebhook %s/%s and a Secret with its token. This check is its target.", c.Namespace, c.Name)
	began := time.Now()
	if err := w.awaitReady(ctx); err != nil {
		return err
	}
	c.say("It is Ready after %s.", time.Since(began).Round(100*time.Millisecond))
	url, err := w.url(ctx)
	if err != nil {
		return err
	}
	return c.play(ctx, newHeymarket(url, token, c.Transport), t)
}

// play sends an event, its repeat, one with a wrong token, and another event. Once the last one has arrived, the earlier ones
// would have as well.
func (c Check) play(ctx context.Context, h *heymarket, t *target) error {
	first, stranger, second := h.newEvent(), h.newEvent(), h.newEvent()
	if err := h.accepted(ctx, first); err != nil {
		return fmt.Errorf("send an event: %w", err)
	}
	c.say("An event is accepted.")
	if err := t.await(ctx, first); err != nil {
		return err
	}
	c.say("Its target received it.")
	if err := h.accepted(ctx, first); err != nil {
		return fmt.Errorf("send the same event again: %w", err)
	}
	c.say("Its repeat is accepted as well, as Heymarket expects.")
	if err := h.refused(ctx, stranger); err != nil {
		return fmt.Errorf("send an event with a wrong token: %w", err)
	}
	c.say("An event with a wrong token is refused.")
	if err := h.accepted(ctx, second); err != nil {
		return fmt.Errorf("send another event: %w", err)
	}
	if err := t.await(ctx, second); err != nil {
		return err
	}
	if err := t.judge(h.token, stranger, first, second); err != nil {
		return err
	}
	c.say("The target received another event, and neither the repeat nor the one with the wrong token.")
	return nil
}

func (c Check) say(format string, args ...any) { fmt.Fprintf(c.Out, format+"\n", args...) }
