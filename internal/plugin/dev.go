package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/dev"
	"heymarket.dev/operator/internal/fixture"
)

// devFlags are the flags of dev.
type devFlags struct {
	file, redis, listen            string
	forward                        []string
	echo, children, play, playOnce bool
}

func devCommand(to *connection, version string) *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev [NAME]",
		Short: "Run a webhook on this machine, without a cluster",
		Long: `Run a webhook on this machine, without a cluster: from the manifest that is meant for one, which is checked as the API server
checks it, through the operator's and the receiver's own code. Events are accepted on a loopback address until Ctrl-C; in another
terminal, send, status and dead reach the webhook with --dev.

Without --redis-url, events are kept in memory and lost when the command ends. References to Secrets are resolved from the manifest;
a token that it does not hold is made up and printed. A file that holds several HeymarketWebhooks takes a NAME.`,
		Example: `  kubectl heymarket dev -f webhook.yaml --forward http://localhost:3000/hook
  kubectl heymarket dev -f examples/quickstart --echo --play`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("name at most one HeymarketWebhook, as in `%s support -f FILE`", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, to.overrides.Context.Namespace, strings.Join(args, ""), version)
		},
	}
	cmd.Flags().StringVarP(&f.file, "filename", "f", "", "manifest: a file, a directory, or - for standard input")
	cmd.Flags().StringArrayVar(&f.forward, "forward", nil, "URL to deliver to instead of the targets' addresses; TARGET=URL for one target, repeatable")
	cmd.Flags().BoolVar(&f.echo, "echo", false, "deliver to a built-in target that keeps what it receives")
	cmd.Flags().StringVar(&f.redis, "redis-url", "", "Redis to keep events in, such as redis://localhost:6379/0; default: in memory")
	cmd.Flags().StringVar(&f.listen, "listen", "", "loopback address for events, such as 127.0.0.1:8080; default: a free port")
	cmd.Flags().BoolVar(&f.children, "show-children", false, "print the objects that the operator would apply, and end")
	cmd.Flags().BoolVar(&f.play, "play", false, "with --echo: send an event of each type, repeats, a wrong token and broken JSON, and show what came of each")
	cmd.Flags().BoolVar(&f.playOnce, "once", false, "with --play: end after that")
	_ = cmd.MarkFlagRequired("filename") // it exists
	return cmd
}

func (f *devFlags) run(cmd *cobra.Command, namespace, name, version string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	forward, err := f.addresses()
	if err != nil {
		return err
	}
	if namespace == "" {
		namespace = "default"
	}
	manifest, err := dev.ReadManifest(ctx, f.file, cmd.InOrStdin(), namespace, name)
	if err != nil {
		return err
	}
	if f.children {
		return showChildren(out, manifest)
	}
	lines := &dev.Lines{}
	running, err := dev.Start(ctx, dev.Options{
		Manifest: manifest, Forward: forward, Echo: f.echo, RedisURL: f.redis, Listen: f.listen, Version: version, Log: lines,
	})
	if err != nil {
		return err
	}
	return errors.Join(f.attend(ctx, out, running, lines), running.Close())
}

// addresses parses --forward, and checks the combination of flags.
func (f *devFlags) addresses() (map[string]string, error) {
	switch {
	case f.play && !f.echo:
		return nil, errors.New("--play shows what the built-in target received: add --echo")
	case f.playOnce && !f.play:
		return nil, errors.New("--once ends the command after --play: add --play")
	case f.echo && len(f.forward) > 0:
		return nil, errors.New("--echo and --forward both set the destination: use only one of them")
	}
	if f.redis != "" {
		if err := contract.CheckRedisURL(f.redis); err != nil {
			return nil, fmt.Errorf("--redis-url %w", err)
		}
	}
	forward := map[string]string{}
	for _, text := range f.forward {
		target, address, named := strings.Cut(text, "=")
		if !named || strings.Contains(target, "/") {
			target, address = "", text
		}
		if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("--forward %q is not a URL, such as http://localhost:3000/hook, or TARGET=URL", text)
		}
		if _, twice := forward[target]; twice {
			return nil, fmt.Errorf("--forward %q: there is another one for the same targets", text)
		}
		forward[target] = address
	}
	return forward, nil
}

func showChildren(out io.Writer, manifest *dev.Manifest) error {
	children, err := dev.Children(manifest)
	if err != nil {
		return err
	}
	for _, child := range children {
		if child.Object == nil {
			continue
		}
		text, err := yaml.Marshal(child.Object)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "---\n%s", text)
	}
	return nil
}

// attend shows events until the command is interrupted or the receiver ends.
func (f *devFlags) attend(ctx context.Context, out io.Writer, running *dev.Running, lines *dev.Lines) error {
	if f.play {
		rows, err := running.Play(ctx)
		showRows(out, rows)
		if err != nil || f.playOnce {
			return err
		}
	}
	file, err := dev.StateFile()
	if err != nil {
		return err
	}
	remove, err := running.Announce(file)
	if err != nil {
		return fmt.Errorf("write %s, by which --dev finds this webhook: %w", file, err)
	}
	defer remove()
	address, closed, err := serveConsole(ctx, local{running}, running.Webhook.Name)
	if err != nil {
		return err
	}
	introduce(out, running, address)
	lines.Show(out)
	select {
	case <-ctx.Done():
		return nil
	case err := <-running.Ended():
		return err
	case err := <-closed:
		return err
	}
}

// showRows shows each request with its answer and the target's requests, in columns.
func showRows(out io.Writer, rows []dev.Row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tHEYMARKET SENDS\tIS ANSWERED\tAS\tAND THE TARGET RECEIVES")
	for _, row := range rows {
		mark, became, received := "ok", string(row.Result), "nothing"
		if row.Wrong() != nil {
			mark = "NO"
		}
		if row.Result == "" {
			became = "rejected"
		}
		for i, got := range row.Received {
			if i == 0 {
				received = ""
			}
			received += fmt.Sprintf("%s %s%s", got.Headers["Webhook-Id"], fixture.Type([]byte(got.Body)), said(got.Body))
		}
		fmt.Fprintf(w, "%s\t%s\t%d %7.1f ms\t%s\t%s\n", mark, row.Says, row.Status, float64(row.Took.Microseconds())/1000, became, received)
	}
	_ = w.Flush()
}

// said returns the text of a message, for people.
func said(body string) string {
	var e struct {
		Data struct {
			Text string `json:"text"`
		} `json:"event_data"`
	}
	if json.Unmarshal([]byte(body), &e) != nil || e.Data.Text == "" {
		return ""
	}
	return fmt.Sprintf(" “%s”", e.Data.Text)
}

// introduce prints the addresses of the running webhook.
func introduce(out io.Writer, r *dev.Running, console string) {
	name := r.Webhook.Name
	fmt.Fprintf(out, "\n%s is running. Ctrl-C ends it.\n\n", name)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "URL\t%s\n", r.URL)
	for _, field := range r.MadeTokens {
		if field == "spec.token.secretKeyRef" {
			fmt.Fprintf(w, "Token\t%s (made up: the manifest holds no Secret for %s)\n", r.Token, field)
		}
	}
	fmt.Fprintf(w, "Console\t%s (opens once)\n", console)
	fmt.Fprintf(w, "Administration\thttp://%s/v1/targets\n", r.Admin)
	if r.EchoURL != "" {
		fmt.Fprintf(w, "Received\t%s\n", r.EchoURL)
	}
	if r.InMemory {
		fmt.Fprintln(w, "Redis\tin memory: every event is lost when this command ends")
	}
	fmt.Fprintf(w, "In another terminal\tkubectl heymarket send %s --dev\n", name)
	_ = w.Flush()
	fmt.Fprintln(out)
}
