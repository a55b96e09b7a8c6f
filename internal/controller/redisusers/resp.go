package redisusers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	dialTimeout = 3 * time.Second
	// exchangeTimeout bounds one exchange of commands and answers.
	exchangeTimeout = 5 * time.Second
	// answerLimit bounds the bytes of all answers to one exchange. The longest is the list of users: 64 bytes for each namespace.
	answerLimit = 8 << 20
	// itemCost is what an array item counts in addition to its bytes, so that many empty ones are bounded as well.
	itemCost = 64
	maxDepth = 4
)

// conn is a connection to one node. It uses RESP 2, waits for every answer, and reads at most answerLimit: a server cannot make
// the manager wait or allocate without bound, or panic. It is for one goroutine at a time.
type conn struct {
	net net.Conn
	in  *bufio.Reader
}

// reply is an answer: text, or items, or an error.
type reply struct {
	text  string
	items []reply
	err   error
}

// serverError is an error answer of Redis. It contains no part of the command except its name.
type serverError string

func (e serverError) Error() string { return string(e) }

// refusal reports whether the server does not allow its user to do this, or does not know the command.
func (e serverError) refusal() bool {
	text := strings.ToLower(string(e))
	return strings.HasPrefix(text, "noperm") || strings.Contains(text, "unknown command") || strings.Contains(text, "unknown subcommand") ||
		strings.Contains(text, "not allowed") || strings.Contains(text, "unsupported")
}

// do sends all commands at once and returns an answer for each. After an error the connection is unusable.
func (c *conn) do(ctx context.Context, commands ...[]string) ([]reply, error) {
	deadline := time.Now().Add(exchangeTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.net.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var out bytes.Buffer
	for _, args := range commands {
		fmt.Fprintf(&out, "*%d\r\n", len(args))
		for _, a := range args {
			fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	if _, err := c.net.Write(out.Bytes()); err != nil {
		return nil, fmt.Errorf("send to Redis: %w", err)
	}
	replies := make([]reply, len(commands))
	budget := answerLimit
	for i := range replies {
		var err error
		if replies[i], err = c.read(&budget, maxDepth); err != nil {
			return nil, fmt.Errorf("read the answer of Redis: %w", err)
		}
	}
	return replies, nil
}

// one is do for a single command. Its error may be a serverError, after which the connection is still usable.
func (c *conn) one(ctx context.Context, args ...string) (reply, error) {
	replies, err := c.do(ctx, args)
	if err != nil {
		return reply{}, err
	}
	return replies[0], replies[0].err
}

var (
	errLong  = fmt.Errorf("it is longer than %d bytes", answerLimit)
	errShape = errors.New("it is not RESP 2")
)

func (c *conn) read(budget *int, depth int) (reply, error) {
	line, err := c.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return reply{}, errLong
	case err != nil:
		return reply{}, err
	case len(line) < len("+\r\n"):
		return reply{}, errShape
	}
	kind, rest := line[0], string(bytes.TrimRight(line[1:], "\r\n"))
	if *budget -= len(line) + itemCost; *budget < 0 {
		return reply{}, errLong
	}
	switch kind {
	case '+', ':':
		return reply{text: rest}, nil
	case '-':
		// The rest may contain a password.
		rest, _, _ = strings.Cut(rest, ", with args")
		return reply{err: serverError(rest)}, nil
	case '$', '*':
	default:
		return reply{}, errShape
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	switch {
	case err != nil || n < -1:
		return reply{}, errShape
	case n == -1:
		return reply{}, nil
	case n > int64(*budget):
		return reply{}, errLong
	case kind == '$':
		return c.readText(int(n), budget)
	case depth == 0 || n*itemCost > int64(*budget):
		return reply{}, errLong
	}
	out := reply{items: make([]reply, n)}
	for i := range out.items {
		if out.items[i], err = c.read(budget, depth-1); err != nil {
			return reply{}, err
		}
	}
	return out, nil
}

func (c *conn) readText(n int, budget *int) (reply, error) {
	*budget -= n
	text := make([]byte, n+len("\r\n"))
	if _, err := io.ReadFull(c.in, text); err != nil {
		return reply{}, err
	}
	return reply{text: string(text[:n])}, nil
}

// texts returns the texts of an array.
func (r reply) texts() []string {
	out := make([]string, len(r.items))
	for i, item := range r.items {
		out[i] = item.text
	}
	return out
}

// pairs parses an array of names and values.
func (r reply) pairs() map[string]string {
	out := map[string]string{}
	for i := 0; i+1 < len(r.items); i += 2 {
		out[r.items[i].text] = r.items[i+1].text
	}
	return out
}
