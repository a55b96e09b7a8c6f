package config

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCheckHeaderName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Authorization": "", "X-Team": "", "x_team": "", "Webhook-Group": "", "Cerebro": "", "Cookie": "",
		"":                  "not a header name",
		"X Team":            "not a header name",
		"X-Team:":           "not a header name",
		"X-Team\r\nHost":    "not a header name",
		"X-Tëam":            "not a header name",
		"host":              "the host is the one of the target's url",
		"Connection":        "belongs to one connection",
		"te":                "belongs to one connection",
		"transfer-encoding": "belongs to one connection",
		"content-length":    "belongs to one connection",
		"content-type":      "the receiver sets it itself",
		"USER-AGENT":        "the receiver sets it itself",
		"webhook-signature": "the receiver sets it itself",
		"traceparent":       "the receiver sets it itself",
		"ce-id":             "the receiver's own",
		"heymarket-attempt": "the receiver's own",
	} {
		checkSentence(t, "CheckHeaderName("+name+")", CheckHeaderName(name), want)
	}
}

func TestCheckHeaderValue(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"Bearer abc": "", "a\tb": "", "café": "", strings.Repeat("x", MaxHeaderBytes): "",
		"a\nb": "line break", "a\rb": "line break", "a\x00b": "control character", "a\x7fb": "control character",
		strings.Repeat("x", MaxHeaderBytes+1): "more than 4096 bytes",
	} {
		checkSentence(t, "CheckHeaderValue", CheckHeaderValue(value), want)
	}
}

func TestParseSigningKey(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xfb, 7}, 16)
	text := base64.StdEncoding.EncodeToString(raw)
	for given, want := range map[string]string{
		"whsec_" + text: "", text: "", " whsec_" + text + "\n": "",
		"whsec_": "shorter than 24 bytes",
		"":       "shorter than 24 bytes",
		"whsec_" + base64.StdEncoding.EncodeToString(raw[:23]): "shorter than 24 bytes",
		"hunter2!": "not whsec_ and base64",
	} {
		key, err := ParseSigningKey([]byte(given))
		checkSentence(t, "ParseSigningKey", err, want)
		if err == nil && !bytes.Equal(key, raw) {
			t.Errorf("ParseSigningKey(%q) = %x", given, key)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}

func TestParseCertificates(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	good := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	pool, err := ParseCertificates(append([]byte("# our own\n"), good...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Certificate().Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("the certificate is not in the pool: %v", err)
	}
	for _, text := range []string{"", "hunter2", string(server.Certificate().Raw), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("none")}))} {
		if _, err := ParseCertificates([]byte(text)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestHeadersOfATargetAreChecked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		headers []Header
		want    string
	}{
		{"good", []Header{{Name: "Authorization", ValueFile: "/f"}, {Name: "X-Team", Value: "crm"}}, ""},
		{"ours", []Header{{Name: "webhook-id", Value: "x"}}, `header "webhook-id" cannot be set`},
		{"host", []Header{{Name: "Host", Value: "x"}}, `header "Host" cannot be set`},
		{"a line break", []Header{{Name: "X-Team", Value: "x\r\nHost: y"}}, `header "X-Team" has a value with a line break`},
		{"twice", []Header{{Name: "X-Team", Value: "x"}, {Name: "x-team", Value: "y"}}, `header "x-team" stands twice`},
		{"too many", make([]Header, MaxHeaders+1), "more than 32 headers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := smallest()
			c.Targets[0].Headers = tt.headers
			checkSentence(t, "Validate", c.Validate(), tt.want)
		})
	}
}

func checkSentence(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s = %v; want nil", what, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s = %v; want it to say %q", what, err, want)
	}
}

// No URL or header value may contain a control character, including two-byte ones.
func TestControlCharacters(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"\x00", "\t", "\n", "\r", "\x1b", "\x7f", "\u0080", "\u0085", "\u009f"} {
		if err := CheckURL("http://crm/a" + c + "b"); err == nil {
			t.Errorf("a URL with %q was accepted", c)
		}
		if err := CheckURL("http://crm/?a=" + c); err == nil {
			t.Errorf("a URL with %q in its query was accepted", c)
		}
		if err := CheckHeaderValue("a" + c + "b"); (err == nil) != (c == "\t") {
			t.Errorf("a header value with %q: %v", c, err)
		}
	}
	if err := CheckURL("http://crm/ä?b=ö"); err != nil {
		t.Error(err)
	}
	if err := CheckHeaderValue("ä"); err != nil {
		t.Error(err)
	}
}
