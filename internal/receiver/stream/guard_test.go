package stream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
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
			go serveHostile(c, command, answer)
		}
	}()
	return l.Addr().String()
}

func serveHostile(c net.Conn, command, answer string) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		said := "+OK\r\n"
		switch name := strings.ToUpper(words[0]); {
		case name == command:
			said = answer
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

// Every valid answer of Redis passes, in pieces of any size.
func TestScannerTakesWhatRedisSends(t *testing.T) {
	t.Parallel()
	messages := []string{
		"+OK\r\n", ":-12\r\n", "$-1\r\n", "*-1\r\n", "$0\r\n\r\n", "$4\r\na\r\nb\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123\r\n",
		"=7\r\ntxt:abc\r\n", "-ERR no\r\n", "-MOVED 1 127.0.0.1:6379\r\n", "*0\r\n", "%0\r\n", hello,
		"*2\r\n*2\r\n:1\r\n*0\r\n%1\r\n+a\r\n~1\r\n:1\r\n", ">2\r\n+a\r\n:1\r\n",
	}
	text := strings.Join(messages, "")
	for size := 1; size <= len(text); size++ {
		var held atomic.Int64
		s := scanner{held: &held}
		complete := 0
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			if err := s.scan(rest[:n], func(message) error { complete++; return nil }); err != nil {
				t.Fatalf("in pieces of %d: %v", size, err)
			}
			rest = rest[n:]
		}
		if complete != len(messages) || held.Load() != 0 {
			t.Fatalf("in pieces of %d: %d messages, %d bytes held; want %d and none", size, complete, held.Load(), len(messages))
		}
	}
}

func TestSubscriptionsPassTheGuard(t *testing.T) {
	t.Parallel()
	g := guard(nil, new(atomic.Int64), func() {})
	command := func(words ...string) {
		t.Helper()
		text := fmt.Sprintf("*%d\r\n", len(words))
		for _, w := range words {
			text += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
		}
		if err := g.out.scan([]byte(text), g.asked); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(text string) error { return g.in.scan([]byte(text), g.answered) }
	confirm := func(kind string) string { return fmt.Sprintf(">3\r\n$%d\r\n%s\r\n$1\r\nx\r\n:1\r\n", len(kind), kind) }
	command("UNSUBSCRIBE")
	command("PING")
	command("SUBSCRIBE", "+a", "+b")
	command("PING")
	for _, text := range []string{confirm("unsubscribe"), "+PONG\r\n", confirm("subscribe"), confirm("subscribe"), confirm("message"), "+PONG\r\n"} {
		if err := answer(text); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
	if err := answer(confirm("subscribe")); !errors.Is(err, errMalformed) {
		t.Errorf("a third confirmation: %v", err)
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
