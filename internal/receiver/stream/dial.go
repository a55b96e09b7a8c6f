package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"heymarket.dev/operator/internal/receiver/address"
)

// maxConnections bounds the connections of one Store. A receiver needs one and, in a cluster, one to each node from which it has
// read the topology.
const maxConnections = 64

var (
	errBlocked = errors.New("the address is blocked")
	errTooMany = fmt.Errorf("%w: it names more than %d nodes to connect to", errMalformed, maxConnections)
)

// dial opens every connection of the client library: to the host of the URL, and to the nodes that a Sentinel or a cluster
// announces.
func (s *Store) dial(ctx context.Context, node string, dialer *net.Dialer, c *tls.Config) (net.Conn, error) {
	if s.opened.Add(1) > maxConnections {
		s.opened.Add(-1)
		return nil, errTooMany
	}
	d := *dialer
	if p := s.addresses.Load(); p != nil {
		d.Control = control(*p)
	}
	conn, err := connect(ctx, node, &d, c)
	if err != nil {
		s.opened.Add(-1)
		return nil, err
	}
	return guard(conn, &s.held, func() { s.opened.Add(-1) }), nil
}

func connect(ctx context.Context, node string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
	switch {
	case c == nil:
		return d.DialContext(ctx, "tcp", node)
	case c.InsecureSkipVerify:
		return (&tls.Dialer{NetDialer: d, Config: c}).DialContext(ctx, "tcp", node)
	}
	return DialTLS(ctx, node, d, c)
}

// control checks each address after resolution and before the connection.
func control(p address.Policy) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("read the address of Redis: %w", err)
		}
		if kind := p.Refuses(ap.Addr()); kind != "" {
			return fmt.Errorf("%w: Redis resolves to a %s address", errBlocked, kind)
		}
		return nil
	}
}
