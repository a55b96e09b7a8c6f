package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// Owner is the index of the node that serves a key, of those of StartCluster.
func Owner(nodes []*Server, key string) int {
	for i, n := range nodes {
		if said, err := n.Do("EXISTS", key); err == nil && !strings.Contains(said, "MOVED") {
			return i
		}
	}
	nodes[0].t.Fatalf("no node serves %s", key)
	return -1
}

// BeginMove begins to move the slot of a key from one node to another, and moves that key alone: from then on clients are
// told ASK and TRYAGAIN.
func BeginMove(nodes []*Server, key string, from, to int) {
	slot := nodes[from].MustDo("CLUSTER", "KEYSLOT", key)
	nodes[to].MustDo("CLUSTER", "SETSLOT", slot, "IMPORTING", nodes[from].MustDo("CLUSTER", "MYID"))
	nodes[from].MustDo("CLUSTER", "SETSLOT", slot, "MIGRATING", nodes[to].MustDo("CLUSTER", "MYID"))
	nodes[from].migrate(nodes[to], key)
}

// EndMove moves what is left of the slot: from then on the old node says MOVED.
func EndMove(nodes []*Server, key string, from, to int) {
	slot := nodes[from].MustDo("CLUSTER", "KEYSLOT", key)
	for {
		keys := nodes[from].Speak("CLUSTER", "GETKEYSINSLOT", slot, "100")
		if len(keys) == 0 {
			break
		}
		nodes[from].migrate(nodes[to], keys...)
	}
	id := nodes[to].MustDo("CLUSTER", "MYID")
	nodes[to].MustDo("CLUSTER", "SETSLOT", slot, "NODE", id)
	nodes[from].MustDo("CLUSTER", "SETSLOT", slot, "NODE", id)
}

func (s *Server) migrate(to *Server, keys ...string) {
	s.t.Helper()
	host, port, err := net.SplitHostPort(to.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Speak(append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, keys...)...)
}

// Speak runs one command whose arguments may be any bytes, which redis-cli cannot be given. It returns the strings that
// Redis answers.
func (s *Server) Speak(args ...string) []string {
	s.t.Helper()
	answer, err := s.speak(args)
	if err != nil {
		s.t.Fatalf("%q: %v", args, err)
	}
	return answer
}

func (s *Server) speak(args []string) ([]string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(context.Background(), "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprintf(conn, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(conn, "$%d\r\n%s\r\n", len(a), a)
	}
	return readAnswer(bufio.NewReader(conn))
}

// readAnswer reads a status, an error, a string or an array of these.
func readAnswer(from *bufio.Reader) ([]string, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '+':
		return []string{rest}, nil
	case '-':
		return nil, errors.New(rest)
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		return nil, fmt.Errorf("answer %q: %w", line, err)
	}
	if kind == '$' {
		text := make([]byte, n+len("\r\n"))
		_, err := io.ReadFull(from, text)
		return []string{string(text[:n])}, err
	}
	var all []string
	for range n {
		some, err := readAnswer(from)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}
