package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
)

func smallest() Config {
	return Config{
		Version: 1, Webhook: Webhook{Namespace: "staging", Name: "support"},
		Paths: []string{"/staging/support/segment"}, TokenFiles: []string{"/etc/heymarket/token/token"},
		RedisURLFile: "/etc/heymarket/config/redis-url",
		Targets:      []Target{{Name: "crm", URL: "http://crm.staging.svc:8080/heymarket"}},
	}
}

func largest() Config {
	id := int64(9007199254740993)
	c := smallest()
	c.Version = 3 // that of targets[].retry.statuses
	c.Paths = append(c.Paths, "/staging/support/older")
	c.TokenFiles = append(c.TokenFiles, "/etc/heymarket/token/previous")
	c.WebhookID = &id
	c.EventTypes = []string{"message_recieved", "chat_closed"}
	c.Deduplication.Window = Duration(time.Hour)
	c.Addresses = Addresses{AllowLoopback: true, DenyPrivate: true, AllowNetworks: []string{"10.96.0.0/12", "fd00:10::/112"}}
	c.MaxBodyBytes, c.MaxBacklog = 4096, 99
	c.Deduplication.Key = `event.type + string(event.event_data.id)`
	c.Retention = Retention{Duration(time.Hour), 7}
	c.Paused, c.LogLevel, c.TrustedProxies = true, "debug", []string{"10.0.0.0/8", "fd00::/8"}
	c.Targets = nil
	for i := range MaxTargets {
		c.Targets = append(c.Targets, Target{
			Name: fmt.Sprintf("target-%d", i), URL: fmt.Sprintf("https://t%d.example:8443/a?b=c&d=%%20", i),
			RatePerSecond: 5, Filter: `event.type == "chat_closed"`, Format: contract.FormatCloudEvents, Order: contract.OrderConversation,
			SigningKeyFiles: []string{"/etc/heymarket/signing/a", "/etc/heymarket/signing/b"},
			Headers:         []Header{{Name: "X-Team", Value: "crm"}, {Name: "Authorization", ValueFile: "/etc/heymarket/headers/a"}},
			TLS:             TLS{CAFile: "/etc/heymarket/ca/ca.crt", ServerName: "crm.internal"},
			EventTypes:      []string{"chat_closed"}, Timeout: Duration(1500 * time.Millisecond), MaxInFlight: i + 1,
			Retry: Retry{MaxAttempts: 3, MinBackoff: Duration(time.Millisecond), MaxBackoff: Duration(time.Minute), MaxAge: Duration(36 * time.Hour), Statuses: []int{404, 422}},
		})
	}
	return c
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	zero := int64(0)
	anyIDZero := smallest()
	anyIDZero.WebhookID = &zero
	for name, c := range map[string]Config{"smallest": smallest(), "largest": largest(), "webhookID 0": anyIDZero} {
		encoded, err := Encode(c)
		if err != nil {
			t.Fatalf("%s: Encode: %v", name, err)
		}
		got, err := Decode(encoded)
		if err != nil {
			t.Fatalf("%s: Decode: %v\n%s", name, err, encoded)
		}
		if diff := cmp.Diff(c.withDefaults(), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		again, err := Encode(c)
		if err != nil || string(again) != string(encoded) {
			t.Errorf("%s: a second Encode differs: %v", name, err)
		}
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	const want = `{
  "version": 1,
  "webhook": {
    "namespace": "staging",
    "name": "support"
  },
  "paths": [
    "/staging/support/segment"
  ],
  "tokenFiles": [
    "/etc/heymarket/token/token"
  ],
  "redisURLFile": "/etc/heymarket/config/redis-url",
  "targets": [
    {
      "name": "crm",
      "url": "http://crm.staging.svc:8080/heymarket",
      "timeout": "2.5s"
    }
  ],
  "deduplication": {
    "window": "96h0m0s"
  }
}
`
	c := smallest()
	c.Version = 0 // Encode writes its own
	c.Targets[0].Timeout = Duration(2500 * time.Millisecond)
	c.Deduplication.Window = Duration(DefaultDeduplicationWindow)
	got, err := Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("Encode (-want +got):\n%s", diff)
	}
	c.Targets = nil
	if b, err := Encode(c); err == nil {
		t.Errorf("Encode of what no receiver takes returns %s", b)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	encoded, err := Encode(smallest())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	want := smallest()
	want.Deduplication.Window = Duration(96 * time.Hour)
	want.MaxBodyBytes, want.MaxBacklog = 1<<20, 1_000_000
	want.Retention = Retention{Duration(14 * 24 * time.Hour), 10_000}
	want.Targets[0].Format, want.Targets[0].Order = contract.FormatHeymarket, contract.OrderNone
	want.Targets[0].Timeout, want.Targets[0].MaxInFlight = Duration(10*time.Second), 32
	want.Targets[0].Retry = Retry{16, Duration(time.Second), Duration(10 * time.Minute), Duration(24 * time.Hour), nil}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	given := smallest()
	_ = given.withDefaults()
	if given.Targets[0].Timeout != 0 {
		t.Error("withDefaults changes the targets of the Config that it was called on")
	}
}

func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	good, err := Encode(largest())
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(old, repl string) string {
		s := strings.Replace(string(good), old, repl, 1)
		if s == string(good) {
			t.Fatalf("the fixture holds no %q", old)
		}
		return s
	}
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":                      {"", "receiver configuration"},
		"null":                         {"null", "version is 0"},
		"half":                         {string(good[:len(good)/2]), "receiver configuration"},
		"trailing data":                {string(good) + "{}", "receiver configuration"},
		"an unknown member":            {replaced(`"version"`, `"colour": "red", "version"`), "colour"},
		"an unknown member of targets": {replaced(`"timeout"`, `"timeOut": "1s", "timeout"`), "timeOut"},
		"a member in other case":       {replaced(`"redisURLFile"`, `"redisUrlFile"`), "redisUrlFile"},
		"a member twice":               {replaced(`"version": 3`, `"version": 3, "version": 3`), "version"},
		"a wrong type":                 {replaced(`"version": 3`, `"version": "1"`), "version"},
		"a number for a duration":      {replaced(`"1.5s"`, `15`), "timeout"},
		"a duration without unit":      {replaced(`"1.5s"`, `"15"`), `"15" is not a duration such as 10s or 96h`},
		"an empty duration":            {replaced(`"1.5s"`, `""`), "is not a duration"},
		"invalid UTF-8":                {replaced("support", "sup\xff"), "UTF-8"},
		"an older version":             {replaced(`"version": 3`, `"version": 0`), "version is 0"},
	} {
		if _, err := Decode([]byte(tc.in)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: Decode: %v, want an error with %q", name, err, tc.want)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string // "" for a good one
	}{
		{"smallest", func(*Config) {}, ""},
		{"a name with dots", func(c *Config) { c.Webhook.Name = "a.b-c" }, ""},
		{"https and a query", func(c *Config) { c.Targets[0].URL = "https://h/p?q=1" }, ""},
		{"an IPv6 host", func(c *Config) { c.Targets[0].URL = "http://[fd00::1]:80/" }, ""},
		{"upper-case scheme", func(c *Config) { c.Targets[0].URL = "HTTP://h" }, ""},
		{"one backoff for all", func(c *Config) {
			c.Targets[0].Retry = Retry{MinBackoff: Duration(time.Second), MaxBackoff: Duration(time.Second)}
		}, ""},
		{"no version", func(c *Config) { c.Version = 0 }, "version is 0, and the first one is 1"},
		{"a newer version", func(c *Config) { c.Version = 7 }, ""},
		{"no namespace", func(c *Config) { c.Webhook.Namespace = "" }, "webhook.namespace and webhook.name must be set"},
		{"no name", func(c *Config) { c.Webhook.Name = "" }, "webhook.namespace and webhook.name must be set"},
		{"a brace", func(c *Config) { c.Webhook.Name = "a}" }, "webhook.namespace and webhook.name must not hold '{', '}' or '/'"},
		{"a slash", func(c *Config) { c.Webhook.Namespace = "a/b" }, "webhook.namespace and webhook.name must not hold '{', '}' or '/'"},
		{"no path", func(c *Config) { c.Paths = nil }, "paths must name at least one URL path"},
		{"a relative path", func(c *Config) { c.Paths = []string{"/a", "b"} }, "paths[1] must begin with '/'"},
		{"an empty path", func(c *Config) { c.Paths = []string{""} }, "paths[0] must begin with '/'"},
		{"no token file", func(c *Config) { c.TokenFiles = nil }, "tokenFiles must name at least one file"},
		{"a token file without name", func(c *Config) { c.TokenFiles = []string{"a", ""} }, "tokenFiles[1] must name a file"},
		{"no Redis", func(c *Config) { c.RedisURLFile = "" }, "redisURLFile must name a file"},
		{"no target", func(c *Config) { c.Targets = nil }, "targets must hold 1 to 16 entries, not 0"},
		{"17 targets", func(c *Config) {
			c.Targets = nil
			for i := range 17 {
				c.Targets = append(c.Targets, Target{Name: fmt.Sprint("t", i), URL: "http://h"})
			}
		}, "targets must hold 1 to 16 entries, not 17"},
		{"a negative window", func(c *Config) { c.Deduplication.Window = -1 }, "deduplication.window, deduplication.retryHorizon, maxBodyBytes, maxBacklog and retention must not be negative"},
		{"a negative body bound", func(c *Config) { c.MaxBodyBytes = -1 }, "deduplication.window, deduplication.retryHorizon, maxBodyBytes, maxBacklog and retention must not be negative"},
		{"a negative backlog", func(c *Config) { c.MaxBacklog = -1 }, "deduplication.window, deduplication.retryHorizon, maxBodyBytes, maxBacklog and retention must not be negative"},
		{"a window that Redis cannot keep", func(c *Config) { c.Deduplication.Window = Duration(time.Millisecond - 1) }, "deduplication.window is 999.999µs, and the shortest is 1ms"},
		{"the shortest window", func(c *Config) { c.Deduplication.Window = Duration(time.Millisecond) }, ""},
		{"a negative retention", func(c *Config) { c.Retention.DeadLetters = -1 }, "deduplication.window, deduplication.retryHorizon, maxBodyBytes, maxBacklog and retention must not be negative"},
		{"a negative limit of dead letters", func(c *Config) { c.Retention.DeadLetterLimit = -1 }, "deduplication.window, deduplication.retryHorizon, maxBodyBytes, maxBacklog and retention must not be negative"},
		{"a log level", func(c *Config) { c.LogLevel = "loud" }, `logLevel "loud" is not one of debug, info, warn, error`},
		{"a network that is none", func(c *Config) {
			c.Addresses = Addresses{DenyPrivate: true, AllowNetworks: []string{"10.0.0.0/8", "10.0.0.1"}}
		}, `addresses.allowNetworks[1] "10.0.0.1" is not a network such as 10.96.0.0/12`},
		{"a network that is allowed anyway", func(c *Config) { c.Addresses.AllowNetworks = []string{"10.0.0.0/8"} }, "addresses.allowNetworks has no effect without denyPrivate; set both, or neither"},
		{"a proxy that is no network", func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/8", "10.0.0.1"} }, `trustedProxies[1] "10.0.0.1" is not a network such as 10.0.0.0/8`},
		{"a format", func(c *Config) { c.Targets[0].Format = "XML" }, `targets[0] "crm": format "XML" is not one of Heymarket, CloudEvents, CloudEventsStructured`},
		{"an order", func(c *Config) { c.Targets[0].Order = "FIFO" }, `targets[0] "crm": order "FIFO" is not one of None, Conversation`},
		{"a header without name", func(c *Config) { c.Targets[0].Headers = []Header{{Value: "x"}} }, `targets[0] "crm": header "" must have a name and exactly one of value and valueFile`},
		{"a header without value", func(c *Config) { c.Targets[0].Headers = []Header{{Name: "X"}} }, `targets[0] "crm": header "X" must have a name and exactly one of value and valueFile`},
		{"a header with two values", func(c *Config) { c.Targets[0].Headers = []Header{{Name: "X", Value: "x", ValueFile: "y"}} }, `targets[0] "crm": header "X" must have a name and exactly one of value and valueFile`},
		{"a negative rate", func(c *Config) { c.Targets[0].RatePerSecond = -1 }, `targets[0] "crm": timeout, maxInFlight, ratePerSecond and retry must not be negative`},
		{"a name twice", func(c *Config) { c.Targets = append(c.Targets, c.Targets[0]) }, `targets[1] "crm": the name stands twice`},
		{"no target name", func(c *Config) { c.Targets[0].Name = "" }, `targets[0] "": name must be set and hold no '{', '}', ':' or space`},
		{"a colon in a target's name", func(c *Config) { c.Targets[0].Name = "a:b" }, `targets[0] "a:b": name must be set and hold no '{', '}', ':' or space`},
		{"a space in a target's name", func(c *Config) { c.Targets[0].Name = "a b" }, `targets[0] "a b": name must be set and hold no '{', '}', ':' or space`},
		{"a negative timeout", func(c *Config) { c.Targets[0].Timeout = -1 }, `targets[0] "crm": timeout, maxInFlight, ratePerSecond and retry must not be negative`},
		{"a negative maxInFlight", func(c *Config) { c.Targets[0].MaxInFlight = -1 }, `targets[0] "crm": timeout, maxInFlight, ratePerSecond and retry must not be negative`},
		{"negative attempts", func(c *Config) { c.Targets[0].Retry.MaxAttempts = -1 }, `targets[0] "crm": timeout, maxInFlight, ratePerSecond and retry must not be negative`},
		{"a negative minBackoff", func(c *Config) { c.Targets[0].Retry.MinBackoff = -1 }, `targets[0] "crm": timeout, maxInFlight, ratePerSecond and retry must not be negative`},
		{"a negative maxBackoff", func(c *Config) { c.Targets[0].Retry.MaxBackoff = -1 }, `targets[0] "crm": timeout, maxInFlight, ratePerSecond and retry must not be negative`},
		{"a good status to retry", func(c *Config) { c.Targets[0].Retry.Statuses = []int{404, 200} }, `targets[0] "crm": retry.statuses holds 200; write statuses from 300 to 499 except 410, which stops the target`},
		{"410 to retry", func(c *Config) { c.Targets[0].Retry.Statuses = []int{410} }, `targets[0] "crm": retry.statuses holds 410; write statuses from 300 to 499 except 410, which stops the target`},
		{"too many statuses", func(c *Config) { c.Targets[0].Retry.Statuses = slices.Repeat([]int{404}, MaxRetryStatuses+1) }, `targets[0] "crm": retry.statuses must hold at most 32 entries`},
		{"a negative maxAge", func(c *Config) { c.Targets[0].Retry.MaxAge = -1 }, `targets[0] "crm": timeout, maxInFlight, ratePerSecond and retry must not be negative`},
		{"backoffs the wrong way round", func(c *Config) {
			c.Targets[0].Retry = Retry{MinBackoff: Duration(2 * time.Second), MaxBackoff: Duration(time.Second)}
		}, `targets[0] "crm": retry.minBackoff 2s is longer than retry.maxBackoff 1s`},
		{"a minBackoff above the default of maxBackoff", func(c *Config) {
			c.Targets[0].Retry.MinBackoff = Duration(time.Hour)
		}, `targets[0] "crm": retry.minBackoff 1h0m0s is longer than retry.maxBackoff 10m0s`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := smallest()
			tc.change(&c)
			var got string
			if err := c.Validate(); err != nil {
				got = strings.TrimPrefix(err.Error(), "receiver configuration: ")
			}
			for line := range strings.SplitSeq(got, "\n") {
				if line == tc.want || line == "receiver configuration: "+tc.want {
					return
				}
			}
			t.Errorf("Validate: %q, want %q", got, tc.want)
		})
	}
}

// What a bound allows is taken to the last value, and the next one is refused.
func TestBounds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		set  func(c *Config, n int64)
		last int64
		next int64 // beyond the bound
		want string
	}{
		"timeout": {func(c *Config, n int64) { c.Targets[0].Timeout = Duration(n) }, int64(maxTimeout), int64(maxTimeout) + 1, "timeout must be at most"},
		"minBackoff": {func(c *Config, n int64) {
			c.Targets[0].Retry.MinBackoff, c.Targets[0].Retry.MaxBackoff = Duration(n), Duration(n)
		}, int64(maxDuration), int64(maxDuration) + 1, "must be at most"},
		"maxAge":       {func(c *Config, n int64) { c.Targets[0].Retry.MaxAge = Duration(n) }, int64(maxDuration), int64(maxDuration) + 1, "must be at most"},
		"window":       {func(c *Config, n int64) { c.Deduplication.Window = Duration(n) }, int64(maxDuration), int64(maxDuration) + 1, "must be at most"},
		"retryHorizon": {func(c *Config, n int64) { c.Deduplication.RetryHorizon = Duration(n) }, int64(maxDuration), int64(maxDuration) + 1, "must be at most"},
		"dead letters": {func(c *Config, n int64) { c.Retention.DeadLetters = Duration(n) }, int64(maxDuration), int64(maxDuration) + 1, "must be at most"},
		"statuses":     {func(c *Config, n int64) { c.Targets[0].Retry.Statuses = slices.Repeat([]int{404}, int(n)) }, MaxRetryStatuses, MaxRetryStatuses + 1, "at most 32 entries"},
		"first status": {func(c *Config, n int64) { c.Targets[0].Retry.Statuses = []int{int(n)} }, 300, 299, "holds 299"},
		"last status":  {func(c *Config, n int64) { c.Targets[0].Retry.Statuses = []int{int(n)} }, 499, 500, "holds 500"},
		"targets": {func(c *Config, n int64) {
			c.Targets = nil
			for i := range n {
				c.Targets = append(c.Targets, Target{Name: fmt.Sprint("t", i), URL: "http://h"})
			}
		}, MaxTargets, MaxTargets + 1, "targets must hold"},
		"headers": {func(c *Config, n int64) {
			for i := range n {
				c.Targets[0].Headers = append(c.Targets[0].Headers, Header{Name: fmt.Sprint("X-", i), Value: "x"})
			}
		}, MaxHeaders, MaxHeaders + 1, "more than 32 headers"},
	} {
		c := smallest()
		tc.set(&c, tc.last)
		checkSentence(t, name+", the last value", c.Validate(), "")
		c = smallest()
		tc.set(&c, tc.next)
		checkSentence(t, name+", the next value", c.Validate(), tc.want)
	}
	for _, name := range []string{"0", "9", "A", "Z", "a", "z", "~"} {
		checkSentence(t, "a header's name", CheckHeaderName(name), "")
	}
	var hidden Confidential
	segment, longest := strings.Repeat("s", minEmbedded), strings.Repeat("t", MaxHeaderBytes)
	hidden.AddPath("/a/b/" + segment)
	hidden.AddToken([]byte(longest))
	for value, refused := range map[string]bool{segment: true, "in " + segment + " it": true, segment[1:]: false, longest: true} {
		if err := hidden.Check([]byte(value)); (err != nil) != refused {
			t.Errorf("a value of %d bytes: %v, want it refused: %t", len(value), err, refused)
		}
	}
	if _, err := ParseSigningKey([]byte(base64.StdEncoding.EncodeToString(make([]byte, minSigningKeyBytes)))); err != nil {
		t.Errorf("the shortest signing key: %v", err)
	}
	if _, err := ParseSigningKey([]byte(base64.StdEncoding.EncodeToString(make([]byte, minSigningKeyBytes-1)))); err == nil {
		t.Error("a signing key that is too short is taken")
	}
}

func TestValidateSaysEverything(t *testing.T) {
	t.Parallel()
	err := Config{Targets: []Target{{URL: "ftp://x"}, {Timeout: -1}}}.Validate()
	if err == nil {
		t.Fatal("Validate found nothing")
	}
	const mistakes = 11 // version, webhook, paths, tokenFiles, redisURLFile, targets[0] name, url, targets[1] name, url, timeout, twice
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != mistakes {
		t.Errorf("Validate says %d sentences, want %d:\n%s", len(lines), mistakes, err)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "receiver configuration: ") {
			t.Errorf("a sentence does not say where it comes from: %q", line)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for u, want := range map[string]string{
		"http://h":                   "",
		"https://h:443/p?x=y":        "",
		"http://10.0.0.1:8080":       "",
		"http://h:":                  "",
		"http://h:65535":             "",
		"":                           "must begin with http:// or https://",
		"h/p":                        "must begin with http:// or https://",
		"//h/p":                      "must begin with http:// or https://",
		"ftp://h":                    "must begin with http:// or https://",
		"javascript:alert(1)":        "must begin with http:// or https://",
		"http:":                      "must name a host",
		"http:h":                     "must name a host",
		"http:///p":                  "must name a host",
		"http://:80/p":               "must name a host",
		"http://user@h":              "must not carry a user name or password; use a header instead",
		"http://user:s3cret@h":       "must not carry a user name or password; use a header instead",
		"http://h/p#f":               "must not have a fragment",
		"http://h:65536":             "must have a port from 1 to 65535",
		"http://h:0":                 "must have a port from 1 to 65535",
		"http://h:80a":               "is not a URL",
		"http://h/%zz":               "is not a URL",
		"http://h\n":                 "must not hold a line break or another control character",
		"http://[::1":                "is not a URL",
		"http://h/%0a":               "must not hold a line break or another control character, percent-encoded or not",
		"http://h/?q=%0d%0a":         "must not hold a line break or another control character, percent-encoded or not",
		"http://h/?q=a+b%20%zz":      "",
		"http://s3cret:pass word@h/": "is not a URL",
	} {
		var got string
		if err := CheckURL(u); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("CheckURL(%q) = %q, want %q", u, got, want)
		}
		if strings.Contains(got, "s3cret") {
			t.Errorf("CheckURL repeats what a URL may hide: %q", got)
		}
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("{}\n"))
	if got, want := Digest([]byte("{}\n")), "sha256:"+hex.EncodeToString(sum[:]); got != want {
		t.Errorf("Digest = %q, want %q", got, want)
	}
	a, b := smallest(), smallest()
	b.Targets[0].Timeout = 1
	encodedA, _ := Encode(a)
	encodedB, _ := Encode(b)
	if Digest(encodedA) == Digest(encodedB) {
		t.Error("two configurations have one digest")
	}
}

func TestTerminationGrace(t *testing.T) {
	t.Parallel()
	c := smallest()
	if got, want := c.TerminationGrace(), 43*time.Second; got != want { // 5 + 15 + 10 + 13
		t.Errorf("TerminationGrace with the default timeout = %s, want %s", got, want)
	}
	c.Targets = append(c.Targets, Target{Name: "slow", Timeout: Duration(2 * time.Minute)}, Target{Name: "fast", Timeout: 1})
	if got, want := c.LongestAttempt(), 2*time.Minute; got != want {
		t.Errorf("LongestAttempt = %s, want %s", got, want)
	}
	if got, want := c.TerminationGrace(), 153*time.Second; got != want {
		t.Errorf("TerminationGrace = %s, want %s", got, want)
	}
	if got := (Config{}).TerminationGrace(); got != 33*time.Second {
		t.Errorf("TerminationGrace without targets = %s", got)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		`"10s"`: 10 * time.Second, `"96h"`: 96 * time.Hour, `"1h30m"`: 90 * time.Minute, `"0"`: 0, `"-1s"`: -time.Second, `" 5ms "`: 5 * time.Millisecond,
	} {
		var d Duration
		if err := json.Unmarshal([]byte(in), &d); err != nil || d.Std() != want {
			t.Errorf("%s reads as %s, %v; want %s", in, d, err, want)
		}
	}
	for _, in := range []string{`"1d"`, `"s"`, `"1"`, `"ten seconds"`, `""`} {
		var d Duration
		if err := json.Unmarshal([]byte(in), &d); err == nil {
			t.Errorf("%s reads as %s", in, d)
		}
	}
}

// FuzzRoundTrip checks that Decode inverts Encode, and that Decode never accepts a configuration that Validate rejects.
func FuzzRoundTrip(f *testing.F) {
	f.Add("staging", "support", "/p", "token", "redis", "crm", "http://crm/x", "chat_closed", int64(1), int64(time.Second), int64(time.Minute), 3, true)
	f.Add("n", "", "p", "", "", "a:b", "ftp://x", "", int64(-1), int64(math.MaxInt64), int64(math.MinInt64), -1, false)
	f.Add("é", "\xff", "/\x00", "<", "\u2028", "\"", "http://[::1]:80/?&<>", "\\", int64(math.MaxInt64), int64(1), int64(1), math.MaxInt, true)
	f.Fuzz(func(t *testing.T, namespace, name, path, tokenFile, redisFile, target, url, eventType string, id, a, b int64, n int, flag bool) {
		c := Config{
			Version: 1, Webhook: Webhook{namespace, name}, Paths: []string{path}, TokenFiles: []string{tokenFile},
			RedisURLFile: redisFile, EventTypes: []string{eventType}, MaxBodyBytes: a, MaxBacklog: b,
			Deduplication: Deduplication{Window: Duration(a), RetryHorizon: Duration(b), Key: name}, Retention: Retention{Duration(b), a}, Paused: flag, Addresses: Addresses{AllowLoopback: flag, DenyPrivate: !flag},
			Targets: []Target{{
				Name: target, URL: url, EventTypes: []string{eventType, eventType}, Timeout: Duration(b), MaxInFlight: n,
				RatePerSecond: n, Filter: name, SigningKeyFiles: []string{path}, Headers: []Header{{Name: path, Value: eventType}},
				TLS:   TLS{CAFile: redisFile, ServerName: target},
				Retry: Retry{n, Duration(min(a, b)), Duration(max(a, b)), Duration(a), []int{404}},
			}},
		}
		if flag {
			c.WebhookID = &id
		}
		encoded, err := Encode(c)
		if err != nil {
			return
		}
		got, err := Decode(encoded)
		if err != nil {
			t.Fatalf("Decode refuses what Encode wrote: %v\n%s", err, encoded)
		}
		if diff := cmp.Diff(c.withDefaults(), got); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		again, err := Encode(got)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if third, err := Decode(again); err != nil || cmp.Diff(got, third) != "" {
			t.Fatalf("the second round trip differs: %v", err)
		}
	})
}

// FuzzDecode checks that no bytes make Decode panic or return an invalid configuration.
func FuzzDecode(f *testing.F) {
	for _, c := range []Config{smallest(), largest()} {
		encoded, err := Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Add([]byte(`{"version":1,"targets":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("Decode took what is not valid: %v", err)
		}
		if !json.Valid(b) {
			t.Fatal("Decode took what is not JSON")
		}
		if c.TerminationGrace() <= 0 {
			t.Fatalf("a termination grace of %s", c.TerminationGrace())
		}
	})
}

// Statuses that are not set are left out, so that a receiver of the previous release reads the rest; an empty list is written.
func TestRetryStatuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		statuses, want []int
		written        string
	}{
		{nil, DefaultRetryStatuses(), ""},
		{[]int{}, []int{}, `"statuses": []`},
		{[]int{404}, []int{404}, `"statuses": [`},
	} {
		c := smallest()
		c.Targets[0].Retry.Statuses = tc.statuses
		b, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		if tc.written == "" && bytes.Contains(b, []byte("statuses")) || !bytes.Contains(b, []byte(tc.written)) {
			t.Errorf("%v is written as %s", tc.statuses, b)
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got.Targets[0].Retry.RetryStatuses()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tc.statuses, diff)
		}
	}
}
