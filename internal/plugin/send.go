package plugin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/fixture"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/ingest"
)

const (
	// requestLimit bounds one request of the plugin.
	requestLimit = 30 * time.Second
	// maxBurst bounds --burst, and atOnce the concurrent requests of a burst.
	maxBurst = 100_000
	atOnce   = 16
)

// Routes of a test event.
const (
	viaURL = "url"
	viaPod = "pod"
)

// sendFlags select the events to send, and the route.
type sendFlags struct {
	file, text, via               string
	set                           []string
	allTypes, duplicate, badToken bool
	burst                         int
	resolve, caFile               string
	wait                          bool
	timeout                       time.Duration
}

func sendCommand(to *connection) *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send NAME [TYPE]",
		Short: "Send a test event as Heymarket would, and report the result",
		Long: `Send a test event as Heymarket would, and report the result: stored, duplicate, ignored because no target wants it, or rejected.
It carries the token from its Secret and goes to the webhook's public URL, so it tests DNS, certificate and Ingress as well; --resolve
and --ca-file help where these are not set up yet, and --via pod sends to a receiver Pod through the API server instead.

The event is a sample of its type, with an ID and a time of its own so that it is new. To the targets it is an event like any other.`,
		Example: `  kubectl heymarket send support
  kubectl heymarket send support chat_closed --set event_data.inbox=7 --via pod
  kubectl heymarket send support --all-types --wait --dev`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 || len(args) == 2 && strings.TrimSpace(args[1]) == "" {
				return fmt.Errorf("name one HeymarketWebhook and one type, as in `%s support chat_closed`", cmd.CommandPath())
			}
			return oneName(cmd, args[:min(len(args), 1)])
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return completeType(cmd, args, begun)
			}
			return completeName(to)(cmd, args, begun)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.checkWait(cmd.Flags().Changed("timeout")); err != nil {
				return err
			}
			events, err := f.events(cmd.InOrStdin(), strings.Join(args[1:], ""), time.Now())
			if err != nil {
				return err
			}
			c, err := to.open()
			if err != nil {
				return err
			}
			return f.send(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], events)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.file, "file", "", "send the event in this file, or - for standard input; the token is put into it")
	flags.StringArrayVar(&f.set, "set", nil, "set a member of the event, as in event_data.inbox=7; repeatable")
	flags.StringVar(&f.text, "text", "", "set the text of a message: short for --set event_data.text=…")
	flags.BoolVar(&f.allTypes, "all-types", false, "send one event of each type")
	flags.BoolVar(&f.duplicate, "duplicate", false, "send each event twice, as Heymarket does when an answer is late")
	flags.BoolVar(&f.badToken, "bad-token", false, "send a wrong token; succeeds if the receiver rejects it")
	flags.Var(number{&f.burst, 1, maxBurst}, "burst", "send this many events, up to 16 at the same time, and report only totals")
	flags.BoolVar(&f.wait, "wait", false, "wait until every target that wants the event has it; fails if one does not get it")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "with --wait: how long")
	flags.StringVar(&f.via, "via", viaURL, "url: the public URL, as Heymarket uses it; pod: directly to a receiver Pod")
	flags.StringVar(&f.resolve, "resolve", "", "connect to this IP address, or IP:port, instead of looking up the URL's host")
	flags.StringVar(&f.caFile, "ca-file", "", "file of certificate authorities in PEM form to trust for the URL instead of the system's")
	return cmd
}

// events returns the bodies to send, without token and webhook ID.
func (f *sendFlags) events(stdin io.Reader, eventType string, now time.Time) (events [][]byte, err error) {
	switch {
	case f.via != viaURL && f.via != viaPod:
		return nil, fmt.Errorf("--via is %q; set %s or %s", f.via, viaURL, viaPod)
	case f.via == viaPod && (f.resolve != "" || f.caFile != ""):
		return nil, errors.New("--resolve and --ca-file are for the public URL: leave them out, or leave out --via pod")
	case f.file != "" && (eventType != "" || f.allTypes || f.burst > 0):
		return nil, errors.New("--file holds the event: leave out the type, --all-types and --burst, or leave out --file")
	case f.allTypes && eventType != "":
		return nil, fmt.Errorf("--all-types sends every type: leave it out, or leave out %s", eventType)
	case f.file != "":
		body, err := readEvent(f.file, stdin)
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		events = [][]byte{body}
	default:
		types := []string{cmp.Or(eventType, event.MessageReceived)}
		if f.allTypes {
			types = event.Types()
		}
		for i := range max(f.burst, 1) * len(types) {
			body, err := fixture.Fresh(types[i%len(types)], now.Add(time.Duration(i)*time.Microsecond))
			if err != nil {
				return nil, err
			}
			events = append(events, body)
		}
	}
	if f.text != "" {
		f.set = append(f.set, "event_data.text="+f.text)
	}
	for i := range events {
		for _, assignment := range f.set {
			path, value, ok := strings.Cut(assignment, "=")
			if !ok {
				return nil, fmt.Errorf("--set %q sets nothing: write it as event_data.inbox=7", assignment)
			}
			if events[i], err = fixture.Set(events[i], path, value); err != nil {
				return nil, fmt.Errorf("--set: %w", err)
			}
		}
	}
	if f.duplicate {
		twice := make([][]byte, 0, 2*len(events))
		for _, body := range events {
			twice = append(twice, body, body)
		}
		events = twice
	}
	return events, nil
}

func readEvent(file string, stdin io.Reader) ([]byte, error) {
	const most = 2 << 20 // twice what a receiver accepts
	read := func() ([]byte, error) { return os.ReadFile(file) }
	if file == "-" {
		read = func() ([]byte, error) { return io.ReadAll(io.LimitReader(stdin, most)) }
	}
	content, err := read()
	if err == nil && len(bytes.TrimSpace(content)) == 0 {
		err = fmt.Errorf("%s is empty: it must contain an event as JSON", file)
	}
	return content, err
}

// sent is the result of sending one event.
type sent struct {
	eventType string
	status    int
	result    string // stored, duplicate, ignored, rejected; accepted: the receiver gives no details
	event     string
	sentence  string // of a rejection
	took      time.Duration
}

func (f *sendFlags) send(ctx context.Context, c place, out, stderr io.Writer, name string, events [][]byte) error {
	to, err := f.sender(ctx, c, name)
	if err != nil {
		return err
	}
	defer to.end()
	if f.badToken {
		to.token = "not-" + to.token
	}
	for i := range events {
		if events[i], err = to.complete(events[i]); err != nil {
			return err
		}
	}
	report := func(io.Writer, []sent) error { return nil }
	if f.wait {
		if to.hook.Spec.Paused {
			return fmt.Errorf("%s is paused, so that nothing is delivered: leave out --wait, or `kubectl heymarket resume %s %s` first", name, name, c.flags())
		}
		if report, err = f.awaiting(ctx, c, name, stderr); err != nil {
			return err
		}
	}
	began := time.Now()
	results, err := sendAll(ctx, to.client, to.address, events, f.burst > 0)
	if err != nil {
		return fmt.Errorf("the URL does not answer: %w; check DNS, certificate and Ingress with `kubectl heymarket doctor %s %s`, or test the receiver alone with --via pod",
			err, name, c.flags())
	}
	if f.burst > 0 {
		showTotals(out, results, time.Since(began))
	} else {
		showSent(out, results)
	}
	if err := f.judge(results, to.hook.Spec.Token.SecretKeyRef.Name, to.hook.Spec.Token.SecretKeyRef.Key); err != nil {
		return err
	}
	return report(out, results)
}

// sender holds the data for sending events to one webhook, until end is called.
type sender struct {
	hook           *v1alpha1.HeymarketWebhook
	token, address string
	client         *http.Client
	end            func()
}

// sender resolves where and how a webhook's events are sent.
func (f *sendFlags) sender(ctx context.Context, c place, name string) (to sender, err error) {
	to.end = func() {}
	if to.hook, err = c.webhook(ctx, name); err != nil {
		return to, err
	}
	if to.address, err = c.url(ctx, name); err != nil {
		return to, err
	}
	if to.token, err = c.token(ctx, to.hook); err != nil {
		return to, err
	}
	if f.via != viaPod {
		if to.client, err = urlClient(f.resolve, f.caFile); err == nil {
			to.end = to.client.CloseIdleConnections
		}
		return to, err
	}
	if to.address, err = inPlainHTTP(to.address); err == nil {
		to.client, to.end, err = c.reach(ctx, name, contract.EventsPort)
	}
	return to, err
}

// complete returns an event in the form in which Heymarket would send it to this webhook: with its token and ID.
func (to sender) complete(body []byte) ([]byte, error) {
	return fixture.For(body, to.token, ptr.Deref(to.hook.Spec.WebhookID, fixture.WebhookID))
}

// sendAll sends the events one after the other, or several at once, and returns the result of each, in their order.
func sendAll(ctx context.Context, client *http.Client, address string, events [][]byte, together bool) ([]sent, error) {
	workers := 1
	if together {
		workers = atOnce
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results, next := make([]sent, len(events)), make(chan int)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range next {
				var err error
				if results[i], err = sendOne(ctx, client, address, events[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range events {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	all.Wait()
	return results, context.Cause(ctx)
}

func sendOne(ctx context.Context, client *http.Client, address string, body []byte) (sent, error) {
	began := time.Now()
	status, answer, err := post(ctx, client, address, body)
	s := sent{eventType: fixture.Type(body), status: status, took: time.Since(began)}
	if err != nil {
		return s, err
	}
	if status != http.StatusOK {
		s.result, s.sentence = "rejected", answer
		return s, nil
	}
	var became struct {
		Result string `json:"result"`
		Event  string `json:"event"`
	}
	s.result = "accepted"
	if json.Unmarshal([]byte(answer), &became) == nil && became.Result != "" {
		s.result, s.event = became.Result, became.Event
	}
	return s, nil
}

func showSent(out io.Writer, results []sent) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RESULT\tSTATUS\tMS\tTYPE\tEVENT")
	for _, s := range results {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%s\t%s\n", s.result, s.status, float64(s.took.Microseconds())/1000, printable(s.eventType), cmp.Or(s.event, s.sentence, "-"))
	}
	_ = w.Flush()
}

func showTotals(out io.Writer, results []sent, took time.Duration) {
	counts, slowest := map[string]int{}, time.Duration(0)
	for _, s := range results {
		counts[s.result]++
		slowest = max(slowest, s.took)
	}
	var parts []string
	for _, result := range []string{"stored", "duplicate", "ignored", "accepted", "rejected"} {
		if n := counts[result]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, result))
		}
	}
	fmt.Fprintf(out, "Sent %d events in %s, the slowest answer after %s: %s.\n",
		len(results), took.Round(time.Millisecond), slowest.Round(time.Millisecond), strings.Join(parts, ", "))
}

// judge returns an error unless every event was answered as expected.
func (f *sendFlags) judge(results []sent, secret, key string) error {
	for _, s := range results {
		switch {
		case f.badToken && s.status == http.StatusOK:
			return errors.New("the receiver accepted a wrong token")
		case f.badToken && (s.status == http.StatusUnauthorized || s.status == http.StatusTooManyRequests):
		case s.status != http.StatusOK:
			return refusal(s.status, s.sentence, secret, key)
		}
	}
	return nil
}

// inPlainHTTP returns a URL as a Pod serves it, without an Ingress that terminates TLS.
func inPlainHTTP(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", errors.New("the Secret holds no valid URL; delete the Secret, and the operator writes a new one")
	}
	u.Scheme, u.Host = "http", "receiver"
	return u.String(), nil
}

// post sends a body and returns the answer. Its errors contain no URL.
func post(ctx context.Context, client *http.Client, address string, body []byte) (status int, answer string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, "", withoutURL(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Prefer", ingest.PreferResult)
	response, err := client.Do(request)
	if err != nil {
		return 0, "", withoutURL(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 256))
	return response.StatusCode, printable(strings.TrimSpace(string(text))), err
}

// refusal explains an answer other than 200.
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
