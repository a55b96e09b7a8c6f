package stream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/address"
)

const hello = "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:5\r\n$4\r\nmode\r\n" +
	"$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"

// hostileServer answers like Redis, and one command in its own way. It returns its address.
func hostileServer(t *testing.T, command, answer string) string {
	t.Helper()
	return oddServer(t, func(name string) string {
		if name == command {
			return answer
		}
		return ""
	})
}

// oddServer answers like Redis, and in its own way to commands for which answer returns a text. It returns its address.
func oddServer(t *testing.T, answer func(command string) string) string {
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
			go serveOdd(c, answer)
		}
	}()
	return l.Addr().String()
}

func serveOdd(c net.Conn, answer func(command string) string) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		said, name := "+OK\r\n", strings.ToUpper(words[0])
		switch own := answer(name); {
		case own != "":
			said = own
		case name == "HELLO":
			said = hello
		case name == "PING":
			said = "+PONG\r\n"
		case name == "CLUSTER":
			said = "-ERR This instance has cluster support disabled\r\n"
		case strings.HasPrefix(name, "EVAL"):
			said = "*2\r\n$1\r\n0\r\n:0\r\n"
		}
		if _, err := io.WriteString(c, said); err != nil {
			return
		}
	}
}

func readCommand(in *bufio.Reader) ([]string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	words := make([]string, n)
	for i := range words {
		if line, err = in.ReadString('\n'); err != nil {
			return nil, err
		}
		size, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:size])
	}
	return words, nil
}

// Each of these ends or fills the process of a client that trusts what it reads.
var hostileAnswers = map[string]string{
	"an array of the largest length":   "*9223372036854775807\r\n",
	"a string of the largest length":   "$9223372036854775807\r\n",
	"a map of the largest length":      "%9223372036854775807\r\n",
	"a map whose double overflows":     "%4611686018427387904\r\n",
	"a set of the largest length":      "~9223372036854775807\r\n",
	"a length that overflows":          "*99999999999999999999999\r\n",
	"a negative array":                 "*-5\r\n",
	"a negative string":                "$-5\r\n",
	"a negative map":                   "%-1\r\n",
	"arrays in arrays":                 strings.Repeat("*1\r\n", 1<<20),
	"many small arrays":                "*65536\r\n" + strings.Repeat("*65536\r\n", 100),
	"a line without an end":            "+" + strings.Repeat("x", 1<<20),
	"a string of a gibibyte":           "$1073741824\r\n" + strings.Repeat("x", 1<<20),
	"a streamed string":                "$?\r\n;4\r\nabcd\r\n",
	"a streamed array":                 "*?\r\n" + strings.Repeat(":1\r\n", 1<<20),
	"attributes without an end":        strings.Repeat("|1\r\n+a\r\n+b\r\n", 1<<20),
	"an answer to no command":          ":1\r\n:2\r\n",
	"a subscription that there is not": ">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
	"a message to no subscription":     ">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n",
	"a transaction":                    "+QUEUED\r\n",
	"moved to nowhere":                 "-MOVED\r\n",
	"ask nobody":                       "-ASK 1\r\n",
	"redirected to nowhere":            "-REDIRECT\r\n",
	"another protocol":                 "HTTP/1.1 400 Bad Request\r\n\r\n",
	"an unknown type":                  "?1\r\n",
	"a long null":                      "_xxxx\r\n",
	"a blob error of a gibibyte":       "!1073741824\r\n",
}

func TestHostileAnswersEndTheConnectionAlone(t *testing.T) {
	t.Parallel()
	for name, answer := range hostileAnswers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, command := range []string{"HELLO", "PING", "CLUSTER"} {
				s := New("staging", "support", "a")
				err := s.Connect(t.Context(), "redis://"+hostileServer(t, command, answer)+"?addr=127.0.0.1:1", nil)
				if err == nil && command != "CLUSTER" && name != "a transaction" {
					t.Errorf("%s: connected", command)
				}
				s.Close()
			}
			s := New("staging", "support", "a")
			if err := s.Connect(t.Context(), "redis://"+hostileServer(t, "EVALSHA", answer), nil); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.RemoveKeys(t.Context()); Problem(err) != contract.RedisMalformed && Problem(err) != contract.RedisUnreachable {
				t.Errorf("EVALSHA: %v", err)
			}
			if held := s.held.Load(); held != 0 {
				t.Errorf("%d bytes are held by nothing", held)
			}
		})
	}
}

// Every valid answer of Redis passes, in pieces of any size, and is described by its kind, its elements and its first text.
func TestScannerTakesWhatRedisSends(t *testing.T) {
	t.Parallel()
	answers := []struct{ text, as string }{
		{"+OK\r\n", "+0 OK"},
		{"+\r\n", "+0 "},
		{":-12\r\n", ":0 "},
		{"$-1\r\n", "$0 "},
		{"*-1\r\n", "*0 "},
		{"$0\r\n\r\n", "$0 "},
		{"$4\r\na\r\nb\r\n", "$0 a\r\nb"},
		{"_\r\n", "_0 "},
		{"#t\r\n", "#0 "},
		{",1.5\r\n", ",0 1.5"},
		{"(123\r\n", "(0 123"},
		{"=7\r\ntxt:abc\r\n", "=0 txt:abc"},
		{"-ERR no\r\n", "-0 ERR no"},
		{"-MOVED 1 127.0.0.1:6379\r\n", "-0 MOVED 1 127.0.0.1:6379"},
		{"*0\r\n", "*0 "},
		{"%0\r\n", "%0 "},
		{hello, "%14 server"},
		{"*2\r\n*2\r\n:1\r\n*0\r\n%1\r\n+a\r\n~1\r\n:1\r\n", "*2 a"},
		{">2\r\n+a\r\n+b\r\n", ">2 a"},
		{"*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*2 a"},
		{"$40\r\n" + strings.Repeat("a", maxFirst) + "bbbbbbbb\r\n", "$0 " + strings.Repeat("a", maxFirst)},
	}
	var text string
	var want []string
	for _, a := range answers {
		text, want = text+a.text, append(want, a.as)
	}
	for size := 1; size <= len(text); size++ {
		var held atomic.Int64
		s := scanner{held: &held}
		var got []string
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			if err := s.scan(rest[:n], func(m message) error {
				got = append(got, fmt.Sprintf("%c%d %s", m.kind, m.elements, m.first))
				return nil
			}); err != nil {
				t.Fatalf("in pieces of %d: %v", size, err)
			}
			rest = rest[n:]
		}
		if !slices.Equal(got, want) || held.Load() != 0 {
			t.Fatalf("in pieces of %d: %q, %d bytes held; want %q and none", size, got, held.Load(), want)
		}
	}
}

// What is exactly at a bound passes, and what is beyond it does not, in pieces neither.
func TestTheBoundsOfAnAnswer(t *testing.T) {
	t.Parallel()
	line := "+" + strings.Repeat("x", maxRespLine-3) + "\r\n"
	for name, tc := range map[string]struct {
		text     string
		accepted bool
	}{
		"a line":                     {line, true},
		"a longer line":              {"+x" + line[1:], false},
		"elements":                   {fmt.Sprintf("*%d\r\n", maxRespElements), true},
		"more elements":              {fmt.Sprintf("*%d\r\n", maxRespElements+1), false},
		"pairs":                      {fmt.Sprintf("%%%d\r\n", maxRespElements/2), true},
		"more pairs":                 {fmt.Sprintf("%%%d\r\n", maxRespElements/2+1), false},
		"pairs that overflow":        {"%9223372036854775809\r\n", false}, // twice that is 2
		"levels":                     {strings.Repeat("*1\r\n", maxRespDepth), true},
		"more levels":                {strings.Repeat("*1\r\n", maxRespDepth+1), false},
		"a text":                     {fmt.Sprintf("$%d\r\n", maxRespBytes), true},
		"a longer text":              {fmt.Sprintf("$%d\r\n", maxRespBytes+1), false},
		"texts":                      {fmt.Sprintf("*2\r\n$1\r\na\r\n$%d\r\n", maxRespBytes-2*elementBytes-1), true},
		"longer texts":               {fmt.Sprintf("*2\r\n$1\r\na\r\n$%d\r\n", maxRespBytes-2*elementBytes), false},
		"lists":                      {fmt.Sprintf("*2\r\n*1\r\n:1\r\n*%d\r\n", maxRespElements-3), true},
		"longer lists":               {fmt.Sprintf("*2\r\n*1\r\n:1\r\n*%d\r\n", maxRespElements-2), false},
		"a null text in a list":      {"*2\r\n$-1\r\n*-1\r\n", true},
		"a negative verbatim text":   {"=-1\r\n", false},
		"a negative set":             {"~-1\r\n", false},
		"a push in a list":           {"*1\r\n>1\r\n", false},
		"no line":                    {"\n", false},
		"an empty line":              {"\r\n", false},
		"a line that ends otherwise": {"+\n", false},
		"a longer one":               {"+OK\n", false},
		"a longer boolean":           {"#tt\r\n", false},
		"an empty boolean":           {"#\r\n", false},
		"a redirection":              {"-REDIRECT 127.0.0.1:1\r\n", true},
		"one to nowhere":             {"-ASK 1\r\n", false},
		"an error like one":          {"-ERR MOVED\r\n", true},
	} {
		for _, size := range []int{len(tc.text), maxRespLine/2 + 1, maxRespLine / 4} {
			s := scanner{held: new(atomic.Int64)}
			var err error
			for rest := []byte(tc.text); len(rest) > 0 && err == nil; {
				n := min(size, len(rest))
				err = s.scan(rest[:n], func(message) error { return nil })
				rest = rest[n:]
			}
			if tc.accepted != (err == nil) || err != nil && !errors.Is(err, errMalformed) {
				t.Errorf("%s in pieces of %d: %v", name, size, err)
			}
		}
	}
}

// Answers are matched with commands, confirmations with subscriptions, and what belongs to neither ends the connection.
func TestAnswersAreMatchedWithCommands(t *testing.T) {
	t.Parallel()
	push := func(kind string) string { return fmt.Sprintf(">3\r\n$%d\r\n%s\r\n$1\r\nx\r\n:1\r\n", len(kind), kind) }
	array := func(kind string) string { return "*" + push(kind)[1:] } // as RESP2 sends it
	for name, tc := range map[string]struct {
		commands []string
		answers  []string // all of them are accepted
		then     string   // and this is not
	}{
		"a command":                          {[]string{"GET x"}, []string{":1\r\n"}, ":1\r\n"},
		"two commands":                       {[]string{"GET x", "GET x"}, []string{":1\r\n", ":1\r\n"}, ":1\r\n"},
		"two errors":                         {[]string{"GET x", "GET x"}, []string{"-ERR no\r\n", "-ERR no\r\n"}, "+OK\r\n"},
		"a transaction":                      {[]string{"GET x"}, nil, "+QUEUED\r\n"},
		"a list that is no message":          {[]string{"LRANGE x"}, []string{array("message")}, array("message")},
		"a subscription":                     {[]string{"SUBSCRIBE a", "PING"}, []string{push("subscribe"), push("message"), "+PONG\r\n"}, ":1\r\n"},
		"a subscription by RESP2":            {[]string{"SUBSCRIBE a", "PING"}, []string{array("subscribe"), array("message"), "+PONG\r\n"}, ":1\r\n"},
		"a list on a subscribed connection":  {[]string{"SUBSCRIBE a", "LRANGE x"}, []string{push("subscribe"), array("other")}, ":1\r\n"},
		"two channels":                       {[]string{"SUBSCRIBE a b"}, []string{push("subscribe"), push("subscribe")}, push("subscribe")},
		"two channels, and a command":        {[]string{"SUBSCRIBE a b", "PING"}, []string{push("subscribe"), push("subscribe"), "+PONG\r\n"}, push("subscribe")},
		"a message to no subscription":       {[]string{"GET x"}, nil, push("message")},
		"a confirmation of no subscription":  {[]string{"GET x"}, nil, push("subscribe")},
		"a confirmation before its turn":     {[]string{"GET x", "SUBSCRIBE a"}, nil, push("subscribe")},
		"the end of a subscription":          {[]string{"UNSUBSCRIBE", "PING"}, []string{push("unsubscribe"), "+PONG\r\n"}, ":1\r\n"},
		"no right to end it":                 {[]string{"UNSUBSCRIBE", "PING", "GET x"}, []string{"-NOPERM no\r\n", "+PONG\r\n", ":1\r\n"}, ":1\r\n"},
		"no right to end it nor to ask":      {[]string{"UNSUBSCRIBE", "PING", "GET x"}, []string{"-NOPERM no\r\n", "-NOPERM no\r\n", ":1\r\n"}, ":1\r\n"},
		"no right to end it, and no PONG":    {[]string{"UNSUBSCRIBE", "PING"}, []string{"-NOPERM no\r\n"}, ":1\r\n"},
		"a subscription is confirmed, ended": {[]string{"SUBSCRIBE a b"}, []string{push("subscribe"), push("unsubscribe")}, push("subscribe")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := guard(nil, new(atomic.Int64), func() {})
			for _, c := range tc.commands {
				words := strings.Fields(c)
				text := fmt.Sprintf("*%d\r\n", len(words))
				for _, w := range words {
					text += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
				}
				if err := g.out.scan([]byte(text), g.asked); err != nil {
					t.Fatal(err)
				}
			}
			for _, text := range tc.answers {
				if err := g.in.scan([]byte(text), g.answered); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
			}
			if err := g.in.scan([]byte(tc.then), g.answered); !errors.Is(err, errMalformed) {
				t.Errorf("%q is accepted afterwards: %v", tc.then, err)
			}
		})
	}

	// Redis refuses a connection by an error that answers no command.
	g := guard(nil, new(atomic.Int64), func() {})
	if err := g.in.scan([]byte("-ERR max number of clients reached\r\n"), g.answered); err == nil || errors.Is(err, errMalformed) || !strings.Contains(err.Error(), "max number of clients") {
		t.Errorf("a connection is refused: %v", err)
	}
}

// lateConn is a connection that still has something to read when it is closed.
type lateConn struct{ net.Conn }

func (lateConn) Read(p []byte) (int, error) { return copy(p, "*2\r\n+a\r\n"), nil }
func (lateConn) Close() error               { return nil }

// What is read while a connection is closed holds no memory afterwards.
func TestNothingIsReadAfterTheEnd(t *testing.T) {
	t.Parallel()
	held := new(atomic.Int64)
	g := guard(lateConn{}, held, func() {})
	_ = g.Close()
	if n, err := g.Read(make([]byte, 64)); n != 0 || !errors.Is(err, net.ErrClosed) || held.Load() != 0 {
		t.Errorf("Read = %d, %v after Close, and %d bytes are held", n, err, held.Load())
	}
}

// A policy applies to the host of the URL and to the nodes that Redis announces.
func TestRestrictedConnections(t *testing.T) {
	t.Parallel()
	local := hostileServer(t, "", "")
	s := New("staging", "support", "a")
	s.Restrict(&address.Policy{})
	for _, url := range []string{"redis://" + local, "redis://240.0.0.1:80", "redis://[::1]:1", "redis://127.0.0.1:1?master_set=main", "rediss://localhost:1"} {
		if err := s.Connect(t.Context(), url, nil); Problem(err) != contract.RedisBlocked {
			t.Errorf("%s: %v, want %s", url, err, contract.RedisBlocked)
		}
	}
	// Loopback is allowed here, so that the server can be reached. The nodes that it names are at reserved addresses, which lead
	// nowhere without a policy either.
	s.Restrict(&address.Policy{AllowLoopback: true})
	for _, node := range []string{"240.0.0.1", "255.255.255.254"} {
		slots := fmt.Sprintf("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$%d\r\n%s\r\n:80\r\n$1\r\nx\r\n", len(node), node)
		server := hostileServer(t, "CLUSTER", slots)
		err := s.Connect(t.Context(), "redis://"+server+"?addr="+server, nil)
		if err == nil {
			_, err = s.RemoveKeys(t.Context()) // where the keys are
		}
		if Problem(err) != contract.RedisBlocked {
			t.Errorf("a node at %s: %v, want %s", node, err, contract.RedisBlocked)
		}
	}
}

func TestControlCharactersReachNoServer(t *testing.T) {
	t.Parallel()
	s := New("staging", "support", "a")
	err := s.Connect(t.Context(), "redis://:x%0D%0ASET%20a%20b@"+hostileServer(t, "", ""), nil)
	if Problem(err) != contract.RedisBadSettings {
		t.Errorf("%v, want %s", err, contract.RedisBadSettings)
	}
}
