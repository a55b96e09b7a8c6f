package receiver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"

	"heymarket.dev/operator/internal/receiver/address"
	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/target"
)

// files are the contents of the mounted files at one moment.
type files struct {
	config config.Config
	// digest identifies the configuration's bytes, see config.Digest.
	digest string
	// ignored are members of the configuration that this build does not know, see config.Ignored.
	ignored []string
	// contents are the contents of the files that the configuration names, by file name, without trailing newlines.
	contents map[string][]byte
	tokens   [][]byte
	redisURL string
	// redisCA is PEM, or nil for the system's authorities.
	redisCA []byte
}

// mention is a file that a configuration names, and its purpose.
type mention struct {
	name, what string
	kind       config.SecretKind
}

// mentions returns all files that c names.
func mentions(c config.Config) []mention {
	var all []mention
	for _, name := range c.TokenFiles {
		all = append(all, mention{name, "the token", config.SecretText})
	}
	all = append(all, redisMentions(c)...)
	for _, t := range c.Targets {
		all = append(all, mentionsOf(t)...)
	}
	return all
}

// redisMentions returns the files for the connection to Redis.
func redisMentions(c config.Config) []mention {
	all := []mention{{c.RedisURLFile, "the Redis URL", config.SecretText}}
	if c.RedisCAFile != "" {
		all = append(all, mention{c.RedisCAFile, "the certificate authority of Redis", config.SecretCertificates})
	}
	return all
}

// mentionsOf returns the files that a target names.
func mentionsOf(t config.Target) []mention {
	var all []mention
	for _, name := range t.SigningKeyFiles {
		all = append(all, mention{name, fmt.Sprintf("the signing key of target %q", t.Name), config.SecretSigningKey})
	}
	for _, h := range t.Headers {
		if h.ValueFile != "" {
			all = append(all, mention{h.ValueFile, fmt.Sprintf("the header %q of target %q", h.Name, t.Name), config.SecretText})
		}
	}
	if t.TLS.CAFile != "" {
		all = append(all, mention{t.TLS.CAFile, fmt.Sprintf("the certificate authority of target %q", t.Name), config.SecretCertificates})
	}
	return all
}

// readFiles reads the configuration and the files that it names. Its errors name the file and the remedy; they
// never quote the contents of a file.
func readFiles(configFile string) (files, error) {
	f, err := readConfig(configFile)
	if err != nil {
		return files{}, err
	}
	if err := f.read(mentions(f.config)); err != nil {
		return files{}, err
	}
	for _, name := range f.config.TokenFiles {
		f.tokens = append(f.tokens, f.contents[name])
	}
	return f, nil
}

// readConfig reads the configuration alone.
func readConfig(configFile string) (files, error) {
	raw, err := os.ReadFile(configFile)
	if err != nil {
		return files{}, fmt.Errorf("the configuration cannot be read: %w; name it with --config", err)
	}
	c, err := config.Decode(raw)
	if err != nil {
		return files{}, fmt.Errorf("%s: %w", configFile, err)
	}
	return files{config: c, digest: config.Digest(raw), ignored: config.Ignored(raw), contents: map[string][]byte{}}, nil
}

// read reads files that the configuration names.
func (f *files) read(named []mention) (err error) {
	for _, m := range named {
		if f.contents[m.name], err = readSecret(m.name); err != nil {
			return fmt.Errorf("%s cannot be read: %w", m.what, err)
		}
	}
	f.redisURL = string(f.contents[f.config.RedisURLFile])
	f.redisCA = f.contents[f.config.RedisCAFile]
	return nil
}

// readSecret returns a file's content without trailing newlines: editors and `echo` add one, and it is never
// intended.
func readSecret(name string) ([]byte, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	value := bytes.TrimRight(raw, "\r\n")
	if len(value) == 0 {
		return nil, fmt.Errorf("%s: %w", name, errEmpty)
	}
	return value, nil
}

var errEmpty = errors.New("the file is empty; put the value into the Secret behind it")

func (f files) equal(g files) bool {
	return f.digest == g.digest && maps.EqualFunc(f.contents, g.contents, bytes.Equal)
}

// suspicions returns one sentence for each file that seems to hold more than its value, see config.Suspicion.
func (f files) suspicions() []string {
	var all []string
	for _, m := range mentions(f.config) {
		if s := config.Suspicion(f.contents[m.name], m.kind); s != "" {
			all = append(all, fmt.Sprintf("%s %s", m.what, s))
		}
	}
	return all
}

// fingerprint changes with the contents of a target's files. It is a digest, so that it contains no secret.
func (f files) fingerprint(t config.Target) string {
	sum := sha256.New()
	for _, m := range mentionsOf(t) {
		content := sha256.Sum256(f.contents[m.name])
		sum.Write(content[:])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// networks parses networks that config.Validate has accepted.
func networks(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// addresses returns the policy on where events may be sent.
func (f files) addresses() address.Policy {
	a := f.config.Addresses
	return address.Policy{AllowLoopback: a.AllowLoopback, DenyPrivate: a.DenyPrivate, AllowNetworks: networks(a.AllowNetworks)}
}

// target returns the options for sending to a target. Its errors name the faulty file.
func (f files) target(t config.Target) (target.Options, error) {
	w := f.config.Webhook
	o := target.Options{
		URL: t.URL, Timeout: t.Timeout.Std(), MaxInFlight: t.MaxInFlight,
		Addresses:  f.addresses(),
		Format:     t.Format,
		Source:     target.Source(w.Namespace, w.Name),
		Headers:    http.Header{},
		ServerName: t.TLS.ServerName,
	}
	confidential := f.confidential()
	for _, m := range mentionsOf(t) {
		if err := confidential.Check(f.contents[m.name]); err != nil {
			return target.Options{}, fmt.Errorf("%s: %s %w", m.what, m.name, err)
		}
	}
	for _, name := range t.SigningKeyFiles {
		key, err := config.ParseSigningKey(f.contents[name])
		if err != nil {
			return target.Options{}, fmt.Errorf("target %q: %s: %w", t.Name, name, err)
		}
		o.SigningKeys = append(o.SigningKeys, key)
	}
	for _, h := range t.Headers {
		value := h.Value
		if h.ValueFile != "" {
			value = string(f.contents[h.ValueFile])
			if err := config.CheckHeaderValue(value); err != nil {
				return target.Options{}, fmt.Errorf("target %q: %s: header %q %w", t.Name, h.ValueFile, h.Name, err)
			}
		}
		if err := confidential.Check([]byte(value)); err != nil {
			return target.Options{}, fmt.Errorf("target %q: header %q %w", t.Name, h.Name, err)
		}
		o.Headers.Set(h.Name, value)
	}
	if name := t.TLS.CAFile; name != "" {
		pool, err := config.ParseCertificates(f.contents[name])
		if err != nil {
			return target.Options{}, fmt.Errorf("target %q: %s: %w", t.Name, name, err)
		}
		o.RootCAs = pool
	}
	return o, nil
}

// confidential returns the values that must not be sent to a target.
func (f files) confidential() config.Confidential {
	var c config.Confidential
	for _, token := range f.tokens {
		c.AddToken(token)
	}
	c.AddRedisURL(f.redisURL)
	for _, p := range f.config.Paths {
		c.AddPath(p)
	}
	return c
}

// trustedProxies returns the networks of the trusted proxies.
func (f files) trustedProxies() []netip.Prefix {
	networks := make([]netip.Prefix, 0, len(f.config.TrustedProxies))
	for _, p := range f.config.TrustedProxies {
		if network, err := netip.ParsePrefix(p); err == nil { // always, after config.Validate
			networks = append(networks, network.Masked())
		}
	}
	return slices.Clip(networks)
}
