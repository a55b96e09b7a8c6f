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

// Owner returns the index of the node, among those of StartCluster, that serves a key.
func Owner(nodes []*Server, key string) int {
	for i, n := range nodes {
		if said, err := n.Do("EXISTS", key); err == nil && !strings.Contains(said, "MOVED") {
			return i
		}
	}
	nodes[0].t.Fatalf("no node serves %s", key)
	return -1
}

// BeginMove starts to move the slot of a key from one node to another, and moves only that key: from then on clients get
// ASK and TRYAGAIN.
func BeginMove(nodes []*Server, key string, from, to int) {
	slot := nodes[from].MustDo("CLUSTER", "KEYSLOT", key)
	nodes[to].MustDo("CLUSTER", "SETSLOT", slot, "IMPORTING", nodes[from].MustDo("CLUSTER", "MYID"))
	nodes[from].MustDo("CLUSTER", "SETSLOT", slot, "MIGRATING", nodes[to].MustDo("CLUSTER", "MYID"))
	nodes[from].migrate(nodes[to], key)
}

// EndMove moves the rest of the slot: from then on the old node answers MOVED.
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

// Speak runs one command whose arguments may be any bytes, which redis-cli does not support. It returns the strings in
// the answer.
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
