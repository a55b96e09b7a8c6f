package redisusers

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// Whatever the operator's own Redis answers, a check ends with an error: it neither hangs, nor panics, nor allocates an announced
// length.
func TestNoAnswerHoldsTheOperator(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"long array":      "*9223372036854775807\r\n",
		"large array":     "*8000000\r\n",
		"long text":       "$9223372036854775807\r\n",
		"large text":      "$8388609\r\n",
		"negative length": "*-2\r\n",
		"no number":       "*x\r\n",
		"nested":          strings.Repeat("*1\r\n", 1000),
		"many empty ones": "*100000\r\n" + strings.Repeat("*0\r\n", 200000),
		"line":            "+" + strings.Repeat("x", 1<<20) + "\r\n",
		"RESP 3":          "%1\r\n+a\r\n+b\r\n",
		"no line":         "\n\n",
		"silence":         "",
		"half":            "$100\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			users := New(Options{
				Server: func() Server { return Server{URL: "redis://" + answering(t, answer)} },
				Webhooks: func(context.Context) (map[string][]string, error) {
					return map[string][]string{"staging": {"support"}}, nil
				},
				HandedOut: func(context.Context, string, []string) []string {
					return nil
				},
				Log: logr.Discard(),
			})
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if err := users.look(ctx); err == nil {
				t.Error("a look succeeds")
			}
			if url, err := users.URL("staging"); err == nil {
				t.Errorf("receivers are handed %s", url)
			}
		})
	}
}

// answering listens as a server that answers every connection with the same and leaves it open.
func answering(t *testing.T, answer string) string {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			_, _ = c.Write([]byte(answer))
		}
	}()
	return l.Addr().String()
}
