package redisusers

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"heymarket.dev/operator/internal/receiver/stream"
)

// Server holds the connection settings of the operator's own Redis.
type Server struct {
	// URL is a Redis URL as receivers use it, see stream.Store.Connect, with the credential of an administrator.
	URL string
	// CA holds PEM certificates that are trusted for rediss:// instead of the system's; nil means the system's.
	CA []byte
	// Dialer opens every connection; nil means a default one.
	Dialer *net.Dialer
}

// nodeLimit bounds the number of nodes, whatever a Cluster or a Sentinel announces.
const nodeLimit = 256

// node is one Redis process. Each stores its own users: Redis does not replicate them.
type node struct {
	address string
	// sentinel reports that it is a Sentinel, which stores no events.
	sentinel bool
	// primary reports that it accepts writes.
	primary bool
}

// login is a user and a password. Without a password there is no login.
type login struct{ user, password string }

// server is a parsed Server.
type server struct {
	url       *url.URL
	addresses []string
	masterSet string
	tls       *tls.Config
	admin     login
	watcher   login // of Sentinels
	dialer    *net.Dialer
}

// errURL quotes no part of the URL, which contains a password.
var errURL = errors.New("the Redis URL cannot be read; write it as redis://user:password@host:6379/0, or rediss:// for TLS")

func parse(s Server) (server, error) {
	u, err := url.Parse(strings.TrimSpace(s.URL))
	if err != nil || u.Hostname() == "" {
		return server{}, errURL
	}
	q := u.Query()
	out := server{
		url: u, masterSet: q.Get("master_set"), watcher: login{q.Get("sentinel_username"), q.Get("sentinel_password")},
		dialer: cmp.Or(s.Dialer, &net.Dialer{}),
	}
	out.admin.user = u.User.Username()
	out.admin.password, _ = u.User.Password()
	for _, a := range append([]string{u.Host}, q["addr"]...) {
		part := url.URL{Host: a}
		out.addresses = append(out.addresses, net.JoinHostPort(cmp.Or(part.Hostname(), u.Hostname()), cmp.Or(part.Port(), "6379")))
	}
	if u.Scheme != "rediss" {
		return out, nil
	}
	out.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	if s.CA != nil {
		out.tls.RootCAs = x509.NewCertPool()
		if !out.tls.RootCAs.AppendCertsFromPEM(s.CA) {
			return server{}, errors.New("the certificate authority for Redis holds no PEM certificate")
		}
	}
	return out, nil
}

// as returns the URL for a user of this server, including its login at Sentinels if they require one.
func (s server) as(l login) string {
	u := *s.url
	u.User = url.UserPassword(l.user, l.password)
	q := u.Query()
	if s.watcher.password != "" {
		q.Set("sentinel_username", l.user)
		q.Set("sentinel_password", l.password)
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// database returns the database of the URL, "" for 0.
func (s server) database() string {
	db := cmp.Or(s.url.Query().Get("db"), strings.Trim(s.url.Path, "/"))
	if db == "0" {
		return ""
	}
	return db
}

// dial connects to a node and logs in as the administrator. Its error names the node and no password.
func (s server) dial(ctx context.Context, n node) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var raw net.Conn
	var err error
	if s.tls != nil {
		raw, err = stream.DialTLS(ctx, n.address, s.dialer, s.tls)
	} else {
		raw, err = s.dialer.DialContext(ctx, "tcp", n.address)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	c := &conn{net: raw, in: bufio.NewReaderSize(raw, 64<<10)}
	who := s.admin
	if n.sentinel {
		who = s.watcher
	}
	if who.password == "" {
		return c, nil
	}
	args := []string{"AUTH", cmp.Or(who.user, "default"), who.password}
	if _, err := c.one(ctx, args...); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("log in at Redis %s: %w", n.address, err)
	}
	return c, nil
}

// discover returns the current nodes. It queries the nodes in the URL, and those known before, in turn until one answers.
func (s server) discover(ctx context.Context, known []node) ([]node, error) {
	addresses := slices.Clone(s.addresses)
	for _, n := range known {
		if n.sentinel == (s.masterSet != "") && !slices.Contains(addresses, n.address) {
			addresses = append(addresses, n.address)
		}
	}
	var last error
	for _, a := range addresses {
		nodes, err := s.ask(ctx, node{address: a, sentinel: s.masterSet != ""})
		if err == nil {
			return nodes[:min(len(nodes), nodeLimit)], nil
		}
		last = err
	}
	return nil, last
}

func (s server) ask(ctx context.Context, n node) ([]node, error) {
	c, err := s.dial(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.net.Close() }()
	if n.sentinel {
		return s.askSentinel(ctx, c)
	}
	answer, err := c.one(ctx, "CLUSTER", "NODES")
	if _, refused := errors.AsType[serverError](err); refused {
		return []node{{address: n.address, primary: true}}, nil // not a Cluster
	}
	if err != nil {
		return nil, err
	}
	nodes := clusterNodes(answer.text, n.address)
	if len(nodes) == 0 {
		return nil, fmt.Errorf("Redis %s names no node of its Cluster", n.address) //nolint:staticcheck // a name
	}
	return nodes, nil
}

// clusterNodes parses the answer to CLUSTER NODES. Nodes known to have failed are omitted; they rejoin without the operator.
// asked is the address of the node that answered, which may not know its own.
func clusterNodes(text, asked string) []node {
	var out []node
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		flags := strings.Split(fields[2], ",")
		if slices.Contains(flags, "fail") || slices.Contains(flags, "noaddr") || slices.Contains(flags, "handshake") {
			continue
		}
		address, _, _ := strings.Cut(fields[1], ",") // ip:port@bus,hostname
		address, _, _ = strings.Cut(address, "@")
		if slices.Contains(flags, "myself") {
			address = asked
		}
		// An IPv6 address has no brackets.
		if i := strings.LastIndex(address, ":"); i > 0 {
			address = net.JoinHostPort(strings.Trim(address[:i], "[]"), address[i+1:])
		}
		out = append(out, node{address: address, primary: slices.Contains(flags, "master")})
	}
	return out
}

func (s server) askSentinel(ctx context.Context, c *conn) ([]node, error) {
	replies, err := c.do(ctx,
		[]string{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.masterSet},
		[]string{"SENTINEL", "REPLICAS", s.masterSet},
		[]string{"SENTINEL", "SENTINELS", s.masterSet})
	if err != nil {
		return nil, err
	}
	for _, r := range replies {
		if r.err != nil {
			return nil, fmt.Errorf("ask a Sentinel: %w", r.err)
		}
	}
	primary := replies[0].texts()
	if len(primary) != 2 {
		return nil, fmt.Errorf("no Sentinel knows a primary by the name %q: correct master_set in the Redis URL", s.masterSet)
	}
	out := []node{{address: net.JoinHostPort(primary[0], primary[1]), primary: true}}
	for _, r := range replies[1].items {
		about := r.pairs()
		if flags := about["flags"]; !strings.Contains(flags, "down") && !strings.Contains(flags, "disconnected") {
			out = append(out, node{address: net.JoinHostPort(about["ip"], about["port"])})
		}
	}
	if s.watcher.password == "" {
		return out, nil // Sentinels without a login need no users.
	}
	for _, a := range s.addresses {
		out = append(out, node{address: a, sentinel: true})
	}
	for _, r := range replies[2].items {
		about := r.pairs()
		other := node{address: net.JoinHostPort(about["ip"], about["port"]), sentinel: true}
		if !strings.Contains(about["flags"], "down") && !slices.Contains(out, other) {
			out = append(out, other)
		}
	}
	return out, nil
}
