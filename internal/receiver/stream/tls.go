package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
)

// DialTLS connects to one of several nodes. Its certificate must be valid for the node's host or for c.ServerName, the host
// of the URL: nodes have either their own certificates or a shared one, which need not contain the addresses that they
// announce.
func DialTLS(ctx context.Context, node string, dialer *net.Dialer, c *tls.Config) (net.Conn, error) {
	host, _, err := net.SplitHostPort(node)
	if err != nil {
		return nil, fmt.Errorf("read the address of a node: %w", err)
	}
	either := c.Clone()
	either.InsecureSkipVerify = true // for the check below, of two names
	either.VerifyConnection = func(s tls.ConnectionState) error {
		err := verify(s.PeerCertificates, c.RootCAs, c.ServerName)
		if err != nil && verify(s.PeerCertificates, c.RootCAs, host) == nil {
			return nil
		}
		return err
	}
	return (&tls.Dialer{NetDialer: dialer, Config: either}).DialContext(ctx, "tcp", node)
}

// verify performs the check of crypto/tls for one name. Nil roots means the system's.
func verify(chain []*x509.Certificate, roots *x509.CertPool, host string) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host}); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
	}
	return nil
}
