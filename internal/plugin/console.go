package plugin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/console"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/fixture"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/recent"
)

func consoleCommand(to *connection) *cobra.Command {
	stay := false
	cmd := &cobra.Command{
		Use:   "console [NAME]",
		Short: "Open a page in the browser that shows webhooks live and acts on dead letters",
		Long: `Open a page in the browser that shows the webhooks of a namespace live: rates, backlog, latencies and circuits, recent events with every
attempt, and dead letters to search, replay and discard. The page is served on a loopback address of this machine until Ctrl-C, and
reaches receiver Pods through the API server with your rights. The address that is printed opens it once, in one browser.`,
		Example: `  kubectl heymarket console support --namespace staging
  kubectl heymarket console --dev`,
		Args: oneNameOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := to.open()
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
				if _, err := c.webhook(cmd.Context(), name); err != nil {
					return err
				}
			}
			address, ended, err := serveConsole(cmd.Context(), c, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Console: %s\nThe address opens once, in one browser. Ctrl-C ends the console.\n", address)
			if !stay {
				if err := browse(cmd.Context(), address); err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "No browser was opened (%s): open the address yourself.\n", printable(err.Error()))
				}
			}
			return <-ended
		},
	}
	cmd.Flags().BoolVar(&stay, "no-open", false, "print the address without opening a browser")
	return cmd
}

// serveConsole serves the console until ctx ends, and returns the address that opens it. What ends it comes from ended.
func serveConsole(ctx context.Context, c place, name string) (address string, ended <-chan error, err error) {
	listener, err := console.Listen(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("listen for the console: %w", err)
	}
	page := console.New(ctx, consolePlace{c}, listener.Addr())
	if name != "" {
		page.Watch(name)
	}
	result := make(chan error, 1)
	go func() { result <- page.Serve(ctx, listener) }()
	return page.Address(name), result, nil
}

// browse opens an address in the person's browser.
func browse(ctx context.Context, address string) error {
	command := []string{"xdg-open", address}
	switch runtime.GOOS {
	case "darwin":
		command = []string{"open", address}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler", address}
	}
	return exec.CommandContext(ctx, command[0], command[1:]...).Run() //nolint:gosec // the address is of this process
}

// consolePlace is a place as the console sees it.
type consolePlace struct{ place }

// Name implements console.Place.
func (c consolePlace) Name() string {
	switch at := c.place.(type) {
	case *cluster:
		return "namespace " + at.namespace
	case local:
		return "kubectl heymarket dev"
	}
	return ""
}

// Webhooks implements console.Place.
func (c consolePlace) Webhooks(ctx context.Context) ([]v1alpha1.HeymarketWebhook, error) {
	return c.all(ctx)
}

// Webhook implements console.Place.
func (c consolePlace) Webhook(ctx context.Context, name string) (*v1alpha1.HeymarketWebhook, string, error) {
	return c.current(ctx, name)
}

// Stats implements console.Place.
func (c consolePlace) Stats(ctx context.Context, name string) ([]admin.Stats, error) {
	return ask(ctx, c.place, name)
}

// Follow implements console.Place.
func (c consolePlace) Follow(ctx context.Context, name string, show func([]recent.Record)) error {
	from := newFeed(c.place, name, nil, io.Discard) // Stats reports a receiver that does not answer
	records, err := from.history(ctx, recent.Kept)
	if err != nil {
		return err
	}
	show(records)
	from.follow(ctx, func(records []recent.Record) bool {
		show(records)
		return true
	})
	return ctx.Err()
}

// Content implements console.Place.
func (c consolePlace) Content(ctx context.Context, name, event string) (content admin.Content, err error) {
	client, end, err := c.reach(ctx, name, contract.AdminPort)
	if err != nil {
		return content, err
	}
	defer end()
	return content, getJSON(ctx, client, "http://localhost/v1/events/"+url.PathEscape(event)+"/content", maxAnswer, &content)
}

// Letters implements console.Place.
func (c consolePlace) Letters(ctx context.Context, name, target string) (console.Letters, func(), error) {
	client, end, err := c.reach(ctx, name, contract.AdminPort)
	if err != nil {
		return nil, nil, err
	}
	client.Timeout = 0 // letters bounds each request itself
	return consoleLetters{letters{client: client, target: target}}, end, nil
}

// Send implements console.Place.
func (c consolePlace) Send(ctx context.Context, name, eventType string, direct bool) (console.Sent, error) {
	f := sendFlags{via: viaURL}
	if direct {
		f.via = viaPod
	}
	to, err := f.sender(ctx, c.place, name)
	if err != nil {
		return console.Sent{}, err
	}
	defer to.end()
	body, err := fixture.Fresh(eventType, time.Now())
	if err == nil {
		body, err = to.complete(body)
	}
	if err != nil {
		return console.Sent{}, err
	}
	s, err := sendOne(ctx, to.client, to.address, body)
	if err != nil {
		return console.Sent{}, fmt.Errorf("the URL does not answer: %w; send straight to a receiver to leave out DNS, certificate and Ingress", err)
	}
	return console.Sent{Type: s.eventType, Event: s.event, Result: s.result, Sentence: s.sentence, Status: s.status, Took: s.took}, nil
}

// consoleLetters are letters as the console asks for them.
type consoleLetters struct{ letters }

// List implements console.Letters.
func (l consoleLetters) List(ctx context.Context, query url.Values) (found []admin.Letter, err error) {
	return found, l.ask(ctx, "", query, &found)
}

// Count implements console.Letters.
func (l consoleLetters) Count(ctx context.Context, query url.Values) (int, error) {
	var answer admin.Count
	err := l.ask(ctx, "/count", query, &answer)
	return answer.Count, err
}

// Show implements console.Letters.
func (l consoleLetters) Show(ctx context.Context, entry string) (admin.Letter, error) {
	return l.show(ctx, entry)
}

// Replay implements console.Letters.
func (l consoleLetters) Replay(ctx context.Context, entry string, query url.Values, progress func(admin.Progress)) (admin.Progress, error) {
	return l.change(ctx, http.MethodPost, entryPath(entry)+"/replay", query, progress)
}

// Discard implements console.Letters.
func (l consoleLetters) Discard(ctx context.Context, entry string, query url.Values, progress func(admin.Progress)) (admin.Progress, error) {
	return l.change(ctx, http.MethodDelete, entryPath(entry), query, progress)
}
