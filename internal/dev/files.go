package dev

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/receiver/config"
)

// mounts is the mount path of the files in a receiver's Pod.
const mounts = "/etc/heymarket"

// build returns the children that the operator would apply, and the configuration in them. The given Redis replaces the webhook's
// own.
func build(m *Manifest, segment, redisURL string) (desired.Objects, config.Config, error) {
	webhook := m.Webhook.DeepCopy()
	webhook.Spec.Redis = nil
	objects, err := desired.Build(desired.Input{
		Webhook: webhook, Address: desired.Address{Segment: segment}, Host: webhook.Spec.Exposure.Host, HostRequested: webhook.Spec.Exposure.Host != "",
		SharedRedis: desired.SharedRedis{URL: redisURL}, Image: "heymarket.dev/operator:dev", FirstReplicas: true,
	})
	if err != nil {
		return objects, config.Config{}, fmt.Errorf("spec: %w", err)
	}
	c, err := config.Decode(objects.ConfigSecret.Data[desired.KeyConfig])
	return objects, c, err
}

// secrets returns the values that the webhook refers to, by reference. A token that is not in the manifest is generated and
// listed in made.
func (m *Manifest) secrets() (values map[string][]byte, made []string, err error) {
	values = map[string][]byte{}
	var problems []error
	for _, r := range desired.References(m.Webhook) {
		if r.Redis || strings.HasPrefix(r.Field, "spec.redis.") {
			continue
		}
		file := filepath.Join(r.Secret, r.Key)
		value, there := m.Secrets[r.Secret][r.Key]
		switch {
		case there:
			if err := r.Check(value); err != nil {
				problems = append(problems, fmt.Errorf("key %q of Secret %q of %s cannot be used: %w", r.Key, r.Secret, r.Field, err))
			}
		case r.Token:
			value = []byte(rand.Text())
			made = append(made, r.Field)
		default:
			problems = append(problems, fmt.Errorf("%s names key %q of Secret %q, which the manifest does not hold: add the Secret to it", r.Field, r.Key, r.Secret))
		}
		values[file] = value
	}
	return values, made, errors.Join(problems...)
}

// forwardTo replaces the addresses of targets: of all with that of "", or of named ones. The address of a Service in a cluster
// must be replaced, because it has no meaning here.
func forwardTo(targets []config.Target, forward map[string]string) error {
	left := map[string]bool{}
	for name := range forward {
		left[name] = name != ""
	}
	var problems []error
	for i, t := range targets {
		to, named := forward[t.Name]
		if !named {
			to = forward[""]
		}
		delete(left, t.Name)
		if to != "" {
			targets[i].URL = to
			continue
		}
		if u, err := url.Parse(t.URL); err == nil && ofCluster(u.Hostname()) {
			problems = append(problems, fmt.Errorf("target %s is the Service %s of a cluster: set --forward %s=URL to deliver elsewhere, or --echo for a built-in target", t.Name, u.Host, t.Name))
		}
	}
	for name, unknown := range left {
		if unknown {
			problems = append(problems, fmt.Errorf("--forward %s=…: the webhook has no target of that name", name))
		}
	}
	return errors.Join(problems...)
}

func ofCluster(host string) bool {
	return strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".svc.cluster.local") || !strings.ContainsAny(host, ".:") && host != "localhost"
}

// write writes the files that a Pod would mount to a directory, and returns the path of the configuration. This is the only place
// that lets a receiver deliver to this machine itself.
func write(dir string, c config.Config, redisURL string, secrets map[string][]byte) (string, error) {
	c.Addresses.AllowLoopback = true
	for _, file := range []*string{&c.RedisURLFile, &c.RedisCAFile} {
		*file = moved(dir, *file)
	}
	for i := range c.TokenFiles {
		c.TokenFiles[i] = moved(dir, c.TokenFiles[i])
	}
	for _, t := range c.Targets {
		for i := range t.SigningKeyFiles {
			t.SigningKeyFiles[i] = moved(dir, t.SigningKeyFiles[i])
		}
		for i := range t.Headers {
			t.Headers[i].ValueFile = moved(dir, t.Headers[i].ValueFile)
		}
	}
	for i := range c.Targets {
		c.Targets[i].TLS.CAFile = moved(dir, c.Targets[i].TLS.CAFile)
	}
	encoded, err := config.Encode(c)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "config", desired.KeyConfig)
	files := map[string][]byte{path: encoded, c.RedisURLFile: []byte(redisURL)}
	for name, value := range secrets {
		files[filepath.Join(dir, "secrets", name)] = value
	}
	for name, value := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return "", err
		}
		if before, err := os.ReadFile(name); err == nil && bytes.Equal(before, value) {
			continue
		}
		if err := os.WriteFile(name, value, 0o600); err != nil {
			return "", err
		}
	}
	return path, nil
}

func moved(dir, file string) string {
	if below, ok := strings.CutPrefix(file, mounts+"/"); ok {
		return filepath.Join(dir, filepath.FromSlash(below))
	}
	return file
}
