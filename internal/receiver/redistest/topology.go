package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/testenv"
)

// StartCluster runs a Redis Cluster of three primaries until the test ends, and returns them and the URL of all.
func StartCluster(t testing.TB) (nodes []*Server, url string) {
	t.Helper()
	return startCluster(t, nil)
}

// StartTLSCluster is StartCluster, with the URL at which it speaks TLS and the PEM of the authority that signed the
// certificate of all nodes, which is for localhost. The nodes announce each other's addresses, as they do by default.
func StartTLSCluster(t testing.TB) (nodes []*Server, url string, ca []byte) {
	t.Helper()
	c := newCertificate(t)
	nodes, url = startCluster(t, c)
	return nodes, url, c.ca
}

func startCluster(t testing.TB, c *certificate) (nodes []*Server, url string) {
	t.Helper()
	create := []string{"--cluster", "create"}
	var spoken []string
	for range 3 {
		// The nodes communicate on a port chosen here: the default, their port + 10000, may be in use.
		bus := strconv.Itoa(portOf(t, testenv.FreeAddress(t)))
		options := []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", bus} // short, for the test
		secure := testenv.FreeAddress(t)
		s := Start(t, append(options, c.options(t, secure)...)...)
		nodes = append(nodes, s)
		create = append(create, s.addr+"@"+bus)
		spoken = append(spoken, c.spoken(t, s.addr, secure))
	}
	create = append(create, "--cluster-replicas", "0", "--cluster-yes")
	if out, err := exec.CommandContext(t.Context(), "redis-cli", create...).CombinedOutput(); err != nil {
		t.Fatalf("make a cluster: %v\n%s", err, out)
	}
	for _, s := range nodes {
		s.await("cluster_state:ok", "CLUSTER", "INFO")
	}
	return nodes, c.scheme() + spoken[0] + "?addr=" + spoken[1] + "&addr=" + spoken[2]
}

// StartSentinel runs a primary, its replica and a Sentinel that watches them until the test ends, and returns the first two
// and a URL that always leads to the primary. lines are further lines for the Sentinel's configuration.
func StartSentinel(t testing.TB, lines ...string) (primary, replica *Server, url string) {
	t.Helper()
	return startSentinel(t, nil, lines)
}

// StartTLSSentinel is StartSentinel, with a URL by which both Sentinel and primary are reached by TLS, and the PEM of the
// authority that signed the certificate of all three, which is for localhost.
func StartTLSSentinel(t testing.TB) (primary, replica *Server, url string, ca []byte) {
	t.Helper()
	c := newCertificate(t)
	primary, replica, url = startSentinel(t, c, nil)
	return primary, replica, url, c.ca
}

func startSentinel(t testing.TB, c *certificate, lines []string) (primary, replica *Server, url string) {
	t.Helper()
	secure := testenv.FreeAddress(t)
	primary = Start(t, c.options(t, secure)...)
	at := primary.addr
	if c != nil {
		at = secure
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	replica = Start(t, append(c.options(t, testenv.FreeAddress(t)), "--replicaof", host+" "+port)...)
	replica.await("master_link_status:up", "INFO", "replication")

	sentinel := &Server{t: t, addr: testenv.FreeAddress(t), dir: t.TempDir()}
	conf := filepath.Join(sentinel.dir, "sentinel.conf")
	lines = append([]string{
		"sentinel monitor main " + host + " " + port + " 1",
		"sentinel down-after-milliseconds main 500",
		"sentinel failover-timeout main 3000",
	}, lines...)
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secure = testenv.FreeAddress(t)
	sentinel.program = append([]string{conf, "--sentinel"}, c.options(t, secure)...)
	sentinel.Run()
	t.Cleanup(sentinel.Kill)
	sentinel.await("slaves=1", "INFO", "sentinel")
	return primary, replica, c.scheme() + c.spoken(t, sentinel.addr, secure) + "?master_set=main"
}

// StartTLS runs a Redis until the test ends, and returns it, the URL at which it speaks TLS, and the PEM of the authority
// that signed its certificate.
func StartTLS(t testing.TB) (s *Server, url string, ca []byte) {
	t.Helper()
	c := newCertificate(t)
	secure := testenv.FreeAddress(t)
	s = Start(t, c.options(t, secure)...)
	return s, c.scheme() + c.spoken(t, s.addr, secure), c.ca
}

// certificate is a server's certificate, for localhost. A nil one stands for servers without TLS.
type certificate struct {
	certFile, keyFile string
	// ca is PEM, the same as in certFile: it is self-signed.
	ca []byte
}

func newCertificate(t testing.TB) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redistest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &certificate{
		certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"),
		ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}
	for file, content := range map[string][]byte{c.certFile: c.ca, c.keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// options returns the options for TLS at an address, in addition to the plain address, and to other servers.
func (c *certificate) options(t testing.TB, address string) []string {
	t.Helper()
	if c == nil {
		return nil
	}
	return []string{
		"--tls-port", strconv.Itoa(portOf(t, address)), "--tls-cert-file", c.certFile, "--tls-key-file", c.keyFile, "--tls-ca-cert-file", c.certFile,
		"--tls-auth-clients", "no", "--tls-replication", "yes", "--tls-cluster", "yes",
	}
}

func (c *certificate) scheme() string {
	if c == nil {
		return "redis://"
	}
	return "rediss://"
}

// spoken returns the host and port of a URL: the name in the certificate with the TLS port, or the plain address.
func (c *certificate) spoken(t testing.TB, plain, secure string) string {
	t.Helper()
	if c == nil {
		return plain
	}
	return net.JoinHostPort("localhost", strconv.Itoa(portOf(t, secure)))
}

func portOf(t testing.TB, address string) int {
	t.Helper()
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return int(at.Port())
}

// await repeats a command until the answer contains text.
func (s *Server) await(text string, command ...string) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := s.Do(command...)
		if strings.Contains(out, text) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%v does not say %q: %s %v", command, text, out, err)
		}
	}
}
