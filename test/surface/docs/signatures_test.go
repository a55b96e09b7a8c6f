package docs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"heymarket.dev/operator/internal/receiver/address"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/target"
)

// attempt is a target's request, and the key for verifying it.
type attempt struct {
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`

	name string
	good bool
}

// TestVerification runs the snippets of docs/signatures.md on requests that a receiver has signed, and on others.
func TestVerification(t *testing.T) {
	t.Parallel()
	root, all := pages(t)
	attempts := attempts(t)
	for _, language := range []struct {
		name, tool, needs string
		run               func(t *testing.T, dir, snippet string) *exec.Cmd
	}{
		{"go", "go", "Go", goProgram},
		{"typescript", "node", "Node.js 20 or later (Debian: apt-get install nodejs)", func(t *testing.T, dir, snippet string) *exec.Cmd { return typescriptProgram(t, root, dir, snippet) }},
		{"python", "python3", "Python 3.9 or later (Debian: apt-get install python3)", pythonProgram},
	} {
		t.Run(language.name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(language.tool); err != nil {
				sentence := "needs " + language.needs
				if os.Getenv("HEYMARKET_REQUIRE_ALL") == "1" {
					t.Fatal(sentence)
				}
				t.Skip(sentence)
			}
			dir := t.TempDir()
			cmd := language.run(t, dir, snippet(t, all, language.name))
			input, err := json.Marshal(attempts)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Dir, cmd.Stdin = dir, bytes.NewReader(input)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var want strings.Builder
			for _, a := range attempts {
				fmt.Fprintln(&want, a.good)
			}
			if diff := cmp.Diff(want.String(), string(out)); diff != "" {
				var names []string
				for _, a := range attempts {
					names = append(names, a.name)
				}
				t.Errorf("of %q the snippet believes (-should +does):\n%s", names, diff)
			}
		})
	}
}

// snippet is the one block in a language of the page on signatures.
func snippet(t *testing.T, all []Page, language string) string {
	t.Helper()
	for _, page := range all {
		for _, b := range page.Blocks {
			if page.Path == "docs/signatures.md" && b.Language == language {
				return b.Text
			}
		}
	}
	t.Fatalf("docs/signatures.md has nothing in %s", language)
	return ""
}

// attempts are signed by the receiver's own room for targets, but for the old one: that room signs only what it sends now.
func attempts(t *testing.T) []attempt {
	t.Helper()
	key, other := "whsec_"+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)), "whsec_"+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32))
	one, both := signed(t, key), signed(t, other, key)
	change := func(name string, a attempt, edit func(*attempt)) attempt {
		a.Headers, a.name, a.good = maps.Clone(a.Headers), name, false
		edit(&a)
		return a
	}
	signer, err := standardwebhooks.NewWebhook(key)
	if err != nil {
		t.Fatal(err)
	}
	stale := func(name string, at time.Time) attempt {
		return change(name, one, func(a *attempt) {
			signature, err := signer.Sign(a.Headers["Webhook-Id"], at, []byte(a.Body))
			if err != nil {
				t.Fatal(err)
			}
			a.Headers["Webhook-Timestamp"], a.Headers["Webhook-Signature"] = fmt.Sprint(at.Unix()), signature
		})
	}
	second := both
	second.name = "the second of two keys"
	first := change("the first of two keys", both, func(a *attempt) { a.Key = other })
	first.good = true
	return []attempt{
		one, second, first,
		change("another body", one, func(a *attempt) { a.Body += " " }),
		change("another id", one, func(a *attempt) { a.Headers["Webhook-Id"] = "evt_other" }),
		change("another key", one, func(a *attempt) { a.Key = other }),
		change("no timestamp", one, func(a *attempt) { a.Headers["Webhook-Timestamp"] = "now" }),
		change("no signature", one, func(a *attempt) { a.Headers["Webhook-Signature"] = "" }),
		stale("too old", time.Now().Add(-10*time.Minute)),
		stale("of the future", time.Now().Add(10*time.Minute)),
	}
}

// signed is an attempt as a target gets it from a receiver with these keys; its own key is the last of them.
func signed(t *testing.T, keys ...string) attempt {
	t.Helper()
	got := attempt{Key: keys[len(keys)-1], Headers: map[string]string{}, name: fmt.Sprintf("%d keys", len(keys)), good: true}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got.Body = string(body)
		for name := range r.Header {
			got.Headers[name] = r.Header.Get(name)
		}
	}))
	defer server.Close()
	var raw [][]byte
	for _, key := range keys {
		secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, secret)
	}
	to := target.New(target.Options{
		URL: server.URL, Timeout: 10 * time.Second, MaxInFlight: 1, Addresses: address.Policy{AllowLoopback: true}, SigningKeys: raw,
	})
	defer to.Close()
	outcome := to.Send(t.Context(), event.Event{ID: "evt_0123456789", Type: event.MessageReceived, Body: []byte(`{"type":"message_recieved","event_data":{"text":"Größe?"}}`)}, 1)
	if !outcome.Delivered() {
		t.Fatalf("not delivered: %+v", outcome)
	}
	return got
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The programs read attempts from standard input and print for each whether the snippet believes it.

func goProgram(t *testing.T, dir, snippet string) *exec.Cmd {
	t.Helper()
	write(t, dir, "go.mod", "module example.com/try\n\ngo 1.26\n")
	write(t, dir, "webhook/verify.go", snippet)
	write(t, dir, "main.go", `package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"example.com/try/webhook"
)

func main() {
	var attempts []struct {
		Key, Body string
		Headers   map[string]string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&attempts); err != nil {
		panic(err)
	}
	for _, a := range attempts {
		header := http.Header{}
		for name, value := range a.Headers {
			header.Set(name, value)
		}
		fmt.Println(webhook.Verify(a.Key, header, []byte(a.Body)) == nil)
	}
}
`)
	cmd := exec.CommandContext(t.Context(), "go", "run", ".")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	return cmd
}

// typescriptProgram has esbuild take the types out: Node.js does that itself only from version 22 on.
func typescriptProgram(t *testing.T, root, dir, snippet string) *exec.Cmd {
	t.Helper()
	strip := exec.CommandContext(t.Context(), "go", "tool", "-modfile=hack/tools/go.mod", "esbuild", "--loader=ts")
	strip.Dir, strip.Stdin, strip.Env = root, strings.NewReader(snippet), append(os.Environ(), "GOWORK=off")
	var complaint bytes.Buffer
	strip.Stderr = &complaint
	plain, err := strip.Output()
	if err != nil {
		t.Fatalf("esbuild: %v\n%s", err, &complaint)
	}
	write(t, dir, "verify.mjs", string(plain))
	write(t, dir, "main.mjs", `import { readFileSync } from "node:fs";
import { verify } from "./verify.mjs";

for (const a of JSON.parse(readFileSync(0, "utf8"))) {
  const headers = Object.fromEntries(Object.entries(a.headers).map(([name, value]) => [name.toLowerCase(), value]));
  let good = true;
  try {
    verify(a.key, headers, Buffer.from(a.body));
  } catch {
    good = false;
  }
  console.log(good);
}
`)
	return exec.CommandContext(t.Context(), "node", "main.mjs")
}

func pythonProgram(t *testing.T, dir, snippet string) *exec.Cmd {
	t.Helper()
	write(t, dir, "verify.py", snippet)
	write(t, dir, "main.py", `import json
import sys

from verify import verify

for a in json.load(sys.stdin):
    try:
        verify(a["key"], a["headers"], a["body"].encode())
        print("true")
    except ValueError:
        print("false")
`)
	return exec.CommandContext(t.Context(), "python3", "main.py")
}
