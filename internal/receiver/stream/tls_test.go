package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

// signer makes certificates, by an authority and one between it and them.
type signer struct {
	t    *testing.T
	pool *x509.CertPool
	root *x509.Certificate
	// between has signed the servers' certificates.
	between *x509.Certificate
	key     *ecdsa.PrivateKey
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := signer{t: t, key: key, pool: x509.NewCertPool()}
	authority := func(serial int64) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	s.root = s.sign(authority(1), nil)
	s.between = s.sign(authority(2), s.root)
	s.pool.AddCert(s.root)
	return s
}

// sign returns a certificate for an hour unless it names its end.
func (s signer) sign(c, by *x509.Certificate) *x509.Certificate {
	s.t.Helper()
	c.NotBefore = time.Now().Add(-2 * time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	c.Subject.SerialNumber = c.SerialNumber.String()
	if by == nil {
		by = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &s.key.PublicKey, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return signed
}

// A node is trusted by its own name or by the URL's, and by no other.
func TestDialTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newSigner(t), newSigner(t)
	const named = "redis.example.com"
	own := []net.IP{net.IPv4(127, 0, 0, 1)}
	for name, tc := range map[string]struct {
		by          signer
		certificate x509.Certificate
		trusted     bool
	}{
		"its own address":            {ours, x509.Certificate{IPAddresses: own}, true},
		"the host of the URL":        {ours, x509.Certificate{DNSNames: []string{named}}, true},
		"all hosts beside it":        {ours, x509.Certificate{DNSNames: []string{"*.example.com"}}, true},
		"another host":               {ours, x509.Certificate{DNSNames: []string{"redis.example.org"}}, false},
		"another address":            {ours, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 2)}}, false},
		"no host":                    {ours, x509.Certificate{}, false},
		"another authority":          {theirs, x509.Certificate{DNSNames: []string{named}, IPAddresses: own}, false},
		"an hour ago":                {ours, x509.Certificate{DNSNames: []string{named}, NotAfter: time.Now().Add(-time.Hour)}, false},
		"clients, and not a server":  {ours, x509.Certificate{DNSNames: []string{named}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, false},
		"a server, as it says there": {ours, x509.Certificate{DNSNames: []string{named}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.certificate.SerialNumber = big.NewInt(3)
			leaf := tc.by.sign(&tc.certificate, tc.by.between)
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{
				{Certificate: [][]byte{leaf.Raw, tc.by.between.Raw}, PrivateKey: tc.by.key},
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			asked := make(chan string, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				_ = c.(*tls.Conn).HandshakeContext(t.Context())
				asked <- c.(*tls.Conn).ConnectionState().ServerName
			}()
			c, err := DialTLS(t.Context(), l.Addr().String(), &net.Dialer{}, &tls.Config{ServerName: named, RootCAs: ours.pool})
			if (err == nil) != tc.trusted {
				t.Errorf("trusted: %v (%v), want %v", err == nil, err, tc.trusted)
			}
			if err != nil {
				return
			}
			defer c.Close()
			if got := <-asked; got != named {
				t.Errorf("asked for %q, want the host of the URL", got)
			}
		})
	}
}
