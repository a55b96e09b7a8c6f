package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"heymarket.dev/operator/test/support/quickstart"
)

// screen is where the demo speaks: in a few colours to a terminal, in plain text to anything else.
type screen struct {
	out    *os.File
	colour bool
}

const (
	green = "\033[32m"
	red   = "\033[31m"
	grey  = "\033[90m"
	bold  = "\033[1m"
	reset = "\033[0m"
)

func newScreen(out *os.File) *screen {
	info, err := out.Stat()
	return &screen{out: out, colour: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""}
}

func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return colour + text + reset
}

func (s *screen) printf(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

// patience is how long a step may take before it prints that it is still running.
const patience = 10 * time.Second

// step performs one step and prints its name, result and duration in one line. No progress is added for a step that prints its own.
func (s *screen) step(title string, talks bool, do func() (string, error)) error {
	began := time.Now()
	over := make(chan struct{})
	var still sync.WaitGroup
	if !talks {
		still.Go(func() {
			tick := time.NewTicker(patience)
			defer tick.Stop()
			for {
				select {
				case <-over:
					return
				case <-tick.C:
					s.printf("    %s %6.0f s  %s\n", pad(title, 34), time.Since(began).Seconds(), s.paint(grey, "under way"))
				}
			}
		})
	}
	detail, err := do()
	close(over)
	still.Wait()
	mark := s.paint(green, "ok")
	if err != nil {
		mark, detail = s.paint(red, "--"), ""
	}
	s.printf("%s  %s %6.1f s  %s\n", mark, pad(title, 34), time.Since(began).Seconds(), s.paint(grey, detail))
	return err
}

// table shows each thing that Heymarket did beside the answer and what the target received of it.
func (s *screen) table(rows []quickstart.Row) {
	if len(rows) == 0 {
		return
	}
	const says, answer = 28, 16
	s.printf("\n    %s %s %s\n", s.paint(bold, pad("Heymarket sends", says)), s.paint(bold, pad("is answered", answer)), s.paint(bold, "and the target receives"))
	s.printf("    %s\n", s.paint(grey, strings.Repeat("─", says+answer+60)))
	for _, row := range rows {
		mark := s.paint(green, "ok")
		if row.Wrong() != nil {
			mark = s.paint(red, "--")
		}
		got := s.paint(grey, "nothing")
		if len(row.Received) > 0 {
			kind, _, text, err := row.Received[0].Event()
			if text != "" {
				text = " “" + text + "”"
			}
			got = fmt.Sprintf("%s %s%s", row.Received[0].EventID(), kind, text)
			if err != nil {
				got = err.Error()
			}
		}
		status := fmt.Sprintf("%d %9s", row.Answer.Status, row.Answer.Took.Round(100*time.Microsecond))
		s.printf("%s  %s %s %s\n", mark, pad(row.Says, says), pad(status, answer), got)
	}
	s.printf("\n")
}

// farewell prints how to continue by hand.
func (s *screen) farewell(standing quickstart.Standing, h *quickstart.Heymarket) {
	s.printf(`Everything stands. To go on by hand:

  export KUBECONFIG=%[1]s
  alias kubectl=%[2]s

  kubectl get hmw -A
  kubectl -n %[3]s describe hmw %[4]s
  kubectl -n %[3]s logs deployment/%[4]s-receiver --follow

  URL=$(kubectl -n %[3]s get secret %[4]s-url -o jsonpath='{.data.url}' | base64 -d)
  TOKEN=$(kubectl -n %[3]s get secret %[5]s -o jsonpath='{.data.%[6]s}' | base64 -d)
  curl -i --cacert %[7]s --resolve %[8]s:443:%[9]s "$URL" --json '{"type":"message_recieved","id":4711,"token":"'$TOKEN'","event_data":{"id":'$RANDOM',"text":"Hello"}}'
  kubectl get --raw /api/v1/namespaces/%[3]s/services/%[10]s:8080/proxy/received

  make demo-down    takes it all away
`, standing.Kubeconfig, standing.Kubectl, quickstart.Namespace, quickstart.WebhookName, quickstart.TokenSecret, quickstart.TokenKey,
		standing.CA, h.Host(), h.Address, quickstart.TargetName)
}

// pad fills a text up to a width in characters.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}
