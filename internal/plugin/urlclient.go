package plugin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
)

// urlClient returns a client for public URLs: it connects to the address resolve, an IP or IP:port, instead of the one in DNS,
// and trusts the certificates in caFile instead of the system's. Both may be empty.
func urlClient(resolve, caFile string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if resolve != "" {
		_, ipErr := netip.ParseAddr(resolve)
		_, portErr := netip.ParseAddrPort(resolve)
		if ipErr != nil && portErr != nil {
			return nil, fmt.Errorf("--resolve %q is not an IP address such as 203.0.113.7, or one with a port such as 203.0.113.7:8443", resolve)
		}
		transport.Proxy = nil // a proxy would resolve the host itself
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			to := resolve
			if ipErr == nil {
				_, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				to = net.JoinHostPort(resolve, port)
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}
	}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca-file %s holds no certificate in PEM form", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Timeout: requestLimit, CheckRedirect: noRedirect, Transport: transport}, nil
}
