package source

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/controller/desired"
)

func TestRedisFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenRedisFiles(file, ""); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("no file: %v, want an error that names it", err)
	}
	for content, want := range map[string]string{
		"":                            "is empty",
		"localhost:6379":              "must begin with redis://",
		"http://secret@redis":         "must begin with redis://",
		"redis://":                    "names no host",
		"redis://:secret@[::1":        "cannot be read",
		"redis://:secret@h:port/\x7f": "cannot be read",
	} {
		write(content + "\n")
		_, err := OpenRedisFiles(file, "")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q and no part of the URL", content, err, want)
		}
	}
	write("redis://:secret@one:6379/0\n")
	f, err := OpenRedisFiles(file, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := f.Redis().URL, "redis://:secret@one:6379/0"; got != want || f.Redis().CA != nil {
		t.Errorf("URL = %s, want %s", got, want)
	}
	if changed, err := f.refresh(); changed || err != nil {
		t.Errorf("refresh of the same: %v, %v", changed, err)
	}
	write("")
	if changed, err := f.refresh(); changed || err == nil || f.Redis().URL == "" {
		t.Errorf("a bad file was taken over: %v, %v", changed, err)
	}
	write("rediss://two")
	if changed, err := f.refresh(); !changed || err != nil || f.Redis().URL != "rediss://two" {
		t.Errorf("a good file was not taken over: %v, %v", changed, err)
	}
}

// URL and certificates are reloaded together or not at all.
func TestRedisFilesWithCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, ca := filepath.Join(dir, "url"), filepath.Join(dir, "ca.crt")
	write := func(file, s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(url, "rediss://:secret@one:6379/0")
	if _, err := OpenRedisFiles(url, ca); err == nil || !strings.Contains(err.Error(), "--redis-ca-file: ") || !strings.Contains(err.Error(), ca) {
		t.Errorf("no file: %v, want an error that names it", err)
	}
	write(ca, "-----BEGIN NOTHING-----")
	if _, err := OpenRedisFiles(url, ca); err == nil || !strings.Contains(err.Error(), "--redis-ca-file: "+ca+" cannot be used: there is no certificate in PEM form") {
		t.Errorf("no PEM: %v", err)
	}
	first, second := certificate(t), certificate(t)
	second += second
	write(ca, first)
	write(url, "REDIS://:secret@one:6379/0")
	if _, err := OpenRedisFiles(url, ca); err == nil || !strings.Contains(err.Error(), "--redis-url-file: "+url+" begins with redis://, so that --redis-ca-file has no effect") || strings.Contains(err.Error(), "secret") {
		t.Errorf("certificates without TLS: %v", err)
	}
	write(url, "rediss://:secret@one:6379/0")
	f, err := OpenRedisFiles(url, ca)
	if err != nil {
		t.Fatal(err)
	}
	has := func(url, ca string) {
		t.Helper()
		if want := (desired.SharedRedis{URL: url, CA: []byte(ca)}); !f.Redis().Equal(want) {
			t.Errorf("in use is %q, want %q", f.Redis(), want)
		}
	}
	has("rediss://:secret@one:6379/0", first)
	if changed, err := f.refresh(); changed || err != nil {
		t.Errorf("refresh of the same: %v, %v", changed, err)
	}
	write(ca, second)
	if changed, err := f.refresh(); !changed || err != nil {
		t.Errorf("other certificates were not taken over: %v, %v", changed, err)
	}
	has("rediss://:secret@one:6379/0", second)
	write(ca, "")
	write(url, "rediss://two")
	if changed, err := f.refresh(); changed || err == nil {
		t.Errorf("half of it was taken over: %v, %v", changed, err)
	}
	has("rediss://:secret@one:6379/0", second)
	write(ca, first)
	if changed, err := f.refresh(); !changed || err != nil {
		t.Errorf("what is good again was not taken over: %v, %v", changed, err)
	}
	has("rediss://two", first)
}

func certificate(t *testing.T) string {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}
