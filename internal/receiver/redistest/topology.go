package redistest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// StartCluster runs a Redis Cluster of three primaries until the test ends, and returns them and the URL of all.
func StartCluster(t testing.TB) (nodes []*Server, url string) {
	t.Helper()
	args := []string{"--cluster", "create"}
	for range 3 {
		// Short, so that the bus port, which is the port + 10000, exists.
		s := start(t, lowAddress(t), "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		nodes = append(nodes, s)
		args = append(args, s.addr)
	}
	args = append(args, "--cluster-replicas", "0", "--cluster-yes")
	if out, err := exec.CommandContext(t.Context(), "redis-cli", args...).CombinedOutput(); err != nil {
		t.Fatalf("make a cluster: %v\n%s", err, out)
	}
	for _, s := range nodes {
		s.await("cluster_state:ok", "CLUSTER", "INFO")
	}
	return nodes, "redis://" + nodes[0].addr + "?addr=" + nodes[1].addr + "&addr=" + nodes[2].addr
}

// StartSentinel runs a primary, its replica and a Sentinel that watches them until the test ends, and returns the first
// two and the URL that leads to whichever is the primary.
func StartSentinel(t testing.TB) (primary, replica *Server, url string) {
	t.Helper()
	primary = Start(t)
	host, port, err := net.SplitHostPort(primary.addr)
	if err != nil {
		t.Fatal(err)
	}
	replica = Start(t, "--replicaof", host+" "+port)
	replica.await("master_link_status:up", "INFO", "replication")

	sentinel := &Server{t: t, addr: FreeAddress(t), dir: t.TempDir()}
	conf := filepath.Join(sentinel.dir, "sentinel.conf")
	lines := []string{
		"sentinel monitor main " + host + " " + port + " 1",
		"sentinel down-after-milliseconds main 500",
		"sentinel failover-timeout main 3000",
		"",
	}
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel.program = []string{conf, "--sentinel"}
	sentinel.Run()
	t.Cleanup(sentinel.Kill)
	sentinel.await("slaves=1", "INFO", "sentinel")
	return primary, replica, "redis://" + sentinel.addr + "?master_set=main"
}

// StartTLS runs a Redis until the test ends, and returns it, the URL at which it speaks TLS, and the PEM of the authority
// that signed its certificate.
func StartTLS(t testing.TB) (s *Server, url string, ca []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redistest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
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
	files := map[string][]byte{
		"ca.pem":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	s = Start(t, "--tls-port", port, "--tls-cert-file", filepath.Join(dir, "ca.pem"), "--tls-key-file", filepath.Join(dir, "key.pem"),
		"--tls-ca-cert-file", filepath.Join(dir, "ca.pem"), "--tls-auth-clients", "no")
	return s, "rediss://" + address, files["ca.pem"]
}

// await asks until the answer holds text.
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

// lowAddress is a free address whose port leaves room for another one that is higher by 10000.
func lowAddress(t testing.TB) string {
	t.Helper()
	for {
		address := FreeAddress(t)
		_, port, _ := strings.Cut(address, ":")
		if len(port) == 5 && bytes.Compare([]byte(port), []byte("55000")) < 0 {
			return address
		}
	}
}
