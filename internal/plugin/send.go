package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/event"
)

// requestLimit bounds one request of the plugin.
const requestLimit = 30 * time.Second

// Ways of a test event.
const (
	viaURL = "url"
	viaPod = "pod"
)

func sendCommand(to *connection) *cobra.Command {
	var eventType, text, via string
	cmd := &cobra.Command{
		Use:   "send NAME",
		Short: "Send a test event, as Heymarket would",
		Long: `Send a test event, as Heymarket would: with the token from its Secret, to the webhook's own URL, so that DNS, certificate and Ingress
are tried as well. --via pod leaves these out and goes to a receiver Pod through the API server.

To the targets it is an event like any other: only its text says that it is a test, and only where they look.`,
		Example: `  kubectl heymarket send support
  kubectl heymarket send support --type chat_closed --via pod`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(event.Types(), eventType) {
				return fmt.Errorf("--type %q is none that Heymarket sends; there are %s", eventType, strings.Join(event.Types(), ", "))
			}
			if via != viaURL && via != viaPod {
				return fmt.Errorf("--via is %q; say %s or %s", via, viaURL, viaPod)
			}
			c, err := to.open()
			if err != nil {
				return err
			}
			return c.send(cmd.Context(), cmd.OutOrStdout(), args[0], eventType, text, via)
		},
	}
	cmd.Flags().StringVar(&eventType, "type", event.MessageReceived, "type of the event")
	cmd.Flags().StringVar(&text, "text", "A test event, sent by kubectl heymarket send.", "its text")
	cmd.Flags().StringVar(&via, "via", viaURL, "url: the way that Heymarket takes; pod: straight to a receiver Pod")
	return cmd
}

func (c *cluster) send(ctx context.Context, out io.Writer, name, eventType, text, via string) error {
	hook, err := c.webhook(ctx, name)
	if err != nil {
		return err
	}
	address, err := c.url(ctx, name)
	if err != nil {
		return err
	}
	ref := hook.Spec.Token.SecretKeyRef
	token, err := c.secret(ctx, ref.Name, ref.Key, "put the token there that the Heymarket app shows")
	if err != nil {
		return err
	}
	body, err := testEvent(eventType, text, token, ptr.Deref(hook.Spec.WebhookID, 1), time.Now())
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: requestLimit, CheckRedirect: noRedirect}
	if via == viaPod {
		way, err := c.openTunnel(ctx, name, contract.EventsPort)
		if err != nil {
			return err
		}
		defer way.Close()
		client = way.client()
		if address, err = inPlainHTTP(address); err != nil {
			return err
		}
	}
	status, answer, err := post(ctx, client, address, body)
	if err != nil {
		return fmt.Errorf("the URL does not answer: %w; is its host in DNS, its certificate good, the Ingress served? With --via pod the receiver is tried alone", err)
	}
	if status == http.StatusOK {
		fmt.Fprintf(out, "Answered 200: the test event of type %s is stored, or of a type that the webhook does not accept. `kubectl heymarket status %s --namespace %s` shows the backlog.\n",
			eventType, name, c.namespace)
		return nil
	}
	return refusal(status, answer, ref.Name, ref.Key)
}

// testEvent is an event that is new to every receiver, whichever type it has: an id, a time and a text are in it.
func testEvent(eventType, text, token string, webhookID int64, now time.Time) ([]byte, error) {
	at := now.UTC().Format(time.RFC3339Nano)
	return json.Marshal(struct {
		Type  string         `json:"type"`
		ID    int64          `json:"id"`
		Token string         `json:"token"`
		Data  map[string]any `json:"event_data"`
	}{eventType, webhookID, token, map[string]any{"id": now.UnixMicro(), "text": text, "date": at, "updated": at, "type": "test"}}, json.Deterministic(true))
}

// inPlainHTTP is a URL as a Pod serves it, where no Ingress ends TLS.
func inPlainHTTP(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", errors.New("the Secret holds no valid URL; delete the Secret, and the operator writes a new one")
	}
	u.Scheme, u.Host = "http", "receiver"
	return u.String(), nil
}

// post sends a body and returns what was answered. Its errors hold no URL.
func post(ctx context.Context, client *http.Client, address string, body []byte) (status int, answer string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, "", withoutURL(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, "", withoutURL(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 256))
	return response.StatusCode, printable(strings.TrimSpace(string(text))), err
}

// refusal says what an answer other than 200 means.
func refusal(status int, answer, secret, key string) error {
	remedy := map[int]string{
		http.StatusUnauthorized: fmt.Sprintf("the receiver has another token than Secret %q has under %q; a change takes up to two minutes to reach it", secret, key),
		http.StatusForbidden:    "spec.webhookID names another webhook than the event; or something in front of the receiver refuses it",
		http.StatusNotFound:     "nothing answers at this path; does the Ingress or the Gateway route the host to this webhook? --via pod leaves them out",
		http.StatusTooManyRequests: "a target's backlog is at its bound, or this address has sent too many wrong tokens; " +
			"`kubectl heymarket status` shows the backlog",
		http.StatusServiceUnavailable: "Redis did not confirm; see the condition Durable",
	}[status]
	if remedy == "" {
		remedy = "that is no answer of a receiver; what stands in front of it?"
	}
	if answer != "" {
		answer = " (" + answer + ")"
	}
	return fmt.Errorf("answered %d%s: %s", status, answer, remedy)
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
