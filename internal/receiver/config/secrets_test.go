package config

import (
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestSuspicion(t *testing.T) {
	t.Parallel()
	const token = "hunter2-Kf93Tz-hunter2"
	const key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("not looked at")}))
	wide := func(mark, text string) string {
		out := []byte(mark)
		for _, u := range utf16.Encode([]rune(text)) {
			out = append(out, byte(u), byte(u>>8))
		}
		return string(out)
	}
	encoded := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	for _, tc := range []struct {
		name, value string
		kind        SecretKind
		want        string
	}{
		{"a token", token, SecretText, ""},
		{"a token and a newline", token + "\n", SecretText, ""},
		{"a token and a newline of Windows", token + "\r\n", SecretText, ""},
		{"hexadecimal digits", "0123456789abcdef0123456789abcdef", SecretText, ""},
		{"a header with a blank inside", "Bearer " + token, SecretText, ""},
		{"a header that is base64 behind a word", "Basic " + encoded("user:password"), SecretText, ""},
		{"a URL", "rediss://user:p%20w@redis.example.com:6379/0", SecretText, ""},
		{"other letters", "größe-" + token, SecretText, ""},
		{"a signing key", key, SecretSigningKey, ""},
		{"a signing key of readable bytes", encoded("a-passphrase-of-more-than-24-bytes"), SecretSigningKey, ""},
		{"certificates", certificate + certificate, SecretCertificates, ""},
		{"certificates of Windows", strings.ReplaceAll(certificate, "\n", "\r\n"), SecretCertificates, ""},
		{"certificates behind a comment", "# our own\n" + certificate + "  \n", SecretCertificates, ""},

		{"a byte order mark", "\ufeff" + token, SecretText, "byte order mark"},
		{"a byte order mark before a key", "\ufeff" + key, SecretSigningKey, "byte order mark"},
		{"a byte order mark before certificates", "\ufeff" + certificate, SecretCertificates, "byte order mark"},
		{"UTF-16", wide("\xff\xfe", token), SecretText, "UTF-16"},
		{"UTF-16 without a mark", wide("", token), SecretText, "UTF-16"},
		{"UTF-16 and a newline", wide("\xff\xfe", token+"\r\n"), SecretText, "UTF-16"},
		{"certificates in UTF-16", wide("\xff\xfe", certificate), SecretCertificates, "UTF-16"},
		{"UTF-16 of the other byte order, without a mark", "\x00" + strings.Join(strings.Split("token", ""), "\x00"), SecretText, "UTF-16"},
		{"nothing in quotation marks", `""`, SecretText, "quotation marks"},
		{"Latin-1", "gr\xf6\xdfe", SecretText, "not valid UTF-8"},
		{"a trailing blank", token + " ", SecretText, "blank"},
		{"a trailing blank and a newline", token + " \n", SecretText, "blank"},
		{"a leading blank", " " + token, SecretText, "blank"},
		{"a trailing tab", token + "\t", SecretText, "blank"},
		{"a leading newline", "\n" + token, SecretText, "blank"},
		{"a no-break space", token + "\u00a0", SecretText, "blank"},
		{"a zero-width space", token + "\u200b", SecretText, "blank"},
		{"a soft hyphen inside", token + "\u00ad" + token, SecretText, "invisible"},
		{"an escape character inside", token + "\x1b[0m" + token, SecretText, "invisible"},
		{"a blank behind a key", key + " ", SecretSigningKey, "blank"},
		{"two lines", token + "\n" + token, SecretText, "more than one line"},
		{"two lines of Windows", token + "\r\n" + token + "\r\n", SecretText, "more than one line"},
		{"quotes", `"` + token + `"`, SecretText, "quotation marks"},
		{"single quotes", `'` + token + `'`, SecretText, "quotation marks"},
		{"quotes around a key", `"` + key + `"`, SecretSigningKey, "quotation marks"},
		{"base64", encoded(token), SecretText, "base64-encoded twice"},
		{"base64 of a line", encoded(token + "\n"), SecretText, "base64-encoded twice"},
		{"base64 of a URL, wrapped", encoded("redis://redis.example")[:12] + "\n" + encoded("redis://redis.example")[12:] + "\n", SecretText, "base64-encoded twice"},
		{"base64 of a key", encoded(key), SecretSigningKey, "base64-encoded twice"},
		{"base64 of certificates", encoded(certificate), SecretCertificates, "base64-encoded twice"},
	} {
		got := Suspicion([]byte(tc.value), tc.kind)
		if !strings.Contains(got, tc.want) || (got == "") != (tc.want == "") {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if strings.Contains(got, "hunter2") || strings.Contains(got, "\n") {
			t.Errorf("%s: the hint repeats the value: %q", tc.name, got)
		}
	}
}

func FuzzSuspicion(f *testing.F) {
	f.Add([]byte("\xff\xfea\x00"), 0)
	f.Add([]byte("d2hzZWNfTWZLUTlyOEdLWXFyVHdqVVBEOElMUFpJbzJMYUxhU3c="), 1)
	f.Fuzz(func(_ *testing.T, value []byte, kind int) { Suspicion(value, SecretKind(kind)) })
}
