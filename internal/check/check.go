// Package check tries out an installed operator: it makes a temporary HeymarketWebhook whose target is the check itself, sends events to the receiver as
// Heymarket would, and looks at what arrives. `helm test` runs it.
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

// cleanupTimeout bounds the removal of what was made, also after the time for the check itself is up.
const cleanupTimeout = 60 * time.Second

// Check is what one check needs to know.
type Check struct {
	// Client has to be allowed to make, read and delete the HeymarketWebhook and the Secret of the name below, and to read the Secret of its URL.
	Client client.Client
	// Namespace is where the webhook is made. The operator has to look after it.
	Namespace string
	// Name of the temporary HeymarketWebhook and Secret. What an earlier check has left behind under it is removed first.
	Name string
	// Listener is where the check takes deliveries. It is closed at the end.
	Listener net.Listener
	// Target is the host and port by which receivers reach the Listener.
	Target string
	// ImagePullSecrets are names of Secrets with which the receiver's image is pulled.
	ImagePullSecrets []string
	// Transport is how the receiver is reached. Default: directly, without a proxy.
	Transport http.RoundTripper
	// Out gets a sentence for each step. No sentence holds the token or the secret part of the URL.
	Out io.Writer
}

// Run makes the webhook, plays Heymarket and a target, and removes what it made, whatever came of it. The error says which step failed and what to look at.
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

// play sends an event, its repeat, one with a wrong token, and another event. Once the last one has arrived, the ones before it would have as well.
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
