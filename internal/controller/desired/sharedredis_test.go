package desired

import (
	"bytes"
	"encoding/pem"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/config"
)

// authority is a certificate in PEM form.
func authority(t *testing.T) []byte {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// Receivers get only the certificates in a file; its other content stays with the operator.
func TestRedisCertificates(t *testing.T) {
	t.Parallel()
	one := authority(t)
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
	both := bytes.Repeat(one, 2)
	for name, tc := range map[string]struct{ text, want []byte }{
		"one":             {one, one},
		"several":         {both, both},
		"with a key":      {append(bytes.Clone(key), one...), one},
		"with words":      {append([]byte("# Our root.\r\n"), both...), both},
		"with attributes": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"friendlyName": "root"}, Bytes: mustDecode(t, one)}), one},
	} {
		got, err := RedisCertificates(tc.text)
		if diff := cmp.Diff(string(tc.want), string(got)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		if _, err := config.ParseCertificates(got); err != nil {
			t.Errorf("%s: a receiver says: %v", name, err)
		}
	}
	for name, tc := range map[string]struct {
		text []byte
		want string
	}{
		"nothing": {nil, "no certificate in PEM form"},
		"DER":     {mustDecode(t, one), "openssl x509 -inform der"},
		"a key":   {key, "no certificate in PEM form"},
		"too many": {
			bytes.Repeat(one, maxCertificates/len(one)+1),
			"keep those of the authority that signed the certificate of Redis",
		},
	} {
		if _, err := RedisCertificates(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// Two settings are equal if nothing would change for a receiver.
func TestSharedRedisIsEqual(t *testing.T) {
	t.Parallel()
	one := SharedRedis{URL: "rediss://a", CA: []byte("x")}
	for name, tc := range map[string]struct {
		other SharedRedis
		want  bool
	}{
		"the same":      {SharedRedis{URL: "rediss://a", CA: []byte("x")}, true},
		"another URL":   {SharedRedis{URL: "rediss://b", CA: []byte("x")}, false},
		"another CA":    {SharedRedis{URL: "rediss://a", CA: []byte("y")}, false},
		"no CA":         {SharedRedis{URL: "rediss://a"}, false},
		"nothing alike": {SharedRedis{}, false},
	} {
		if got := one.Equal(tc.other); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// Certificates have an effect with rediss:// alone, and the error names their source.
func TestCertificatesNeedTLS(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ url, ca, want string }{
		{"redis://redis:6379", "", ""},
		{"rediss://redis:6379", "", ""},
		{"rediss://redis:6379", "--redis-ca-file", ""},
		{"redis://redis:6379", "--redis-ca-file", "so that --redis-ca-file has no effect"},
		{"REDIS://redis:6379", "--redis-ca-file", "so that --redis-ca-file has no effect"},
		{"http://redis:6379", "", "redis://"},
	} {
		err := CheckRedisURL(tc.url, tc.ca)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s with %q: %v, want %q", tc.url, tc.ca, err, tc.want)
		}
	}
}

func mustDecode(t *testing.T, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}
