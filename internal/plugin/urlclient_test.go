package plugin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// anotherAuthority writes the certificate of an authority that has signed nothing.
func anotherAuthority(t *testing.T) (file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestURLClient(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "example.com" || r.TLS.ServerName != "example.com" {
			w.WriteHeader(http.StatusMisdirectedRequest)
		}
	}))
	t.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := urlClient(address, file)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get("https://example.com/hook")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("answered %d: the server was asked for another host", resp.StatusCode)
	}
	host, port, _ := strings.Cut(address, ":")
	if client, err = urlClient(host, file); err != nil {
		t.Fatal(err)
	}
	if resp, err = client.Get("https://example.com:" + port + "/hook"); err != nil {
		t.Errorf("the port of the URL is not kept: %v", err)
	} else {
		_ = resp.Body.Close()
	}
	if client, err = urlClient(address, anotherAuthority(t)); err != nil {
		t.Fatal(err)
	}
	if resp, err := client.Get("https://example.com/hook"); err == nil {
		_ = resp.Body.Close()
		t.Error("a certificate of an authority that is not in --ca-file is trusted")
	}
	if client, err = urlClient(address, ""); err != nil {
		t.Fatal(err)
	}
	if c := client.Transport.(*http.Transport).TLSClientConfig; c != nil && (c.InsecureSkipVerify || c.RootCAs != nil) {
		t.Error("without --ca-file, others than the system's authorities are trusted")
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][2]string{{"hooks.example.com", ""}, {"203.0.113.7:", ""}, {"203.0.113.7:port", ""}, {"", "/does/not/exist"}, {"", empty}} {
		if _, err := urlClient(wrong[0], wrong[1]); err == nil || !strings.Contains(err.Error(), "--") {
			t.Errorf("--resolve %q --ca-file %q: %v", wrong[0], wrong[1], err)
		}
	}
}
