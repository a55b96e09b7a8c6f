package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"heymarket.dev/operator/internal/contract"
)

// Validate returns all errors in c, one sentence each, or nil.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("receiver configuration: "+format, args...))
	}
	if c.Version < 1 {
		wrong("version is %d, and the first one is 1", c.Version)
	}
	if c.Webhook.Namespace == "" || c.Webhook.Name == "" {
		wrong("webhook.namespace and webhook.name must be set")
	}
	if strings.ContainsAny(c.Webhook.Namespace+c.Webhook.Name, "{}/") {
		wrong("webhook.namespace and webhook.name must not hold '{', '}' or '/'")
	}
	if len(c.Paths) == 0 {
		wrong("paths must name at least one URL path")
	}
	for i, p := range c.Paths {
		if !strings.HasPrefix(p, "/") {
			wrong("paths[%d] must begin with '/'", i)
		}
	}
	if len(c.TokenFiles) == 0 {
		wrong("tokenFiles must name at least one file")
	}
	for i, f := range c.TokenFiles {
		if f == "" {
			wrong("tokenFiles[%d] must name a file", i)
		}
	}
	if c.RedisURLFile == "" {
		wrong("redisURLFile must name a file")
	}
	if len(c.Targets) == 0 || len(c.Targets) > MaxTargets {
		wrong("targets must hold 1 to %d entries, not %d", MaxTargets, len(c.Targets))
	}
	if c.Deduplication.Window < 0 || c.Deduplication.RetryHorizon < 0 || c.MaxBodyBytes < 0 || c.MaxBacklog < 0 || c.Retention.DeadLetters < 0 || c.Retention.DeadLetterLimit < 0 {
		wrong("deduplication.window, deduplication.retryHorizon, maxBodyBytes, maxBacklog and retention must not be negative")
	}
	if max(c.Deduplication.Window, c.Deduplication.RetryHorizon, c.Retention.DeadLetters) > maxDuration {
		wrong("deduplication.window, deduplication.retryHorizon and retention.deadLetters must be at most %s", maxDuration)
	}
	if w := c.Deduplication.Window.Std(); w > 0 && w < time.Millisecond {
		wrong("deduplication.window is %s, and the shortest is 1ms", w) // Redis expires in milliseconds, and rejects 0
	}
	if !slices.Contains([]string{"", "debug", "info", "warn", "error"}, c.LogLevel) {
		wrong("logLevel %q is not one of debug, info, warn, error", c.LogLevel)
	}
	for i, p := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			wrong("trustedProxies[%d] %q is not a network such as 10.0.0.0/8", i, p)
		}
	}
	for i, n := range c.Addresses.AllowNetworks {
		if _, err := netip.ParsePrefix(n); err != nil {
			wrong("addresses.allowNetworks[%d] %q is not a network such as 10.96.0.0/12", i, n)
		}
	}
	if len(c.Addresses.AllowNetworks) > 0 && !c.Addresses.DenyPrivate {
		wrong("addresses.allowNetworks has no effect without denyPrivate; set both, or neither")
	}
	var names []string
	for i, t := range c.Targets {
		for _, err := range t.validate() {
			wrong("targets[%d] %q: %w", i, t.Name, err)
		}
		if slices.Contains(names, t.Name) {
			wrong("targets[%d] %q: the name stands twice", i, t.Name)
		}
		names = append(names, t.Name)
	}
	return errors.Join(errs...)
}

func (t Target) validate() []error {
	var errs []error
	if t.Name == "" || strings.ContainsAny(t.Name, "{}: ") {
		errs = append(errs, errors.New("name must be set and hold no '{', '}', ':' or space"))
	}
	if err := CheckURL(t.URL); err != nil {
		errs = append(errs, fmt.Errorf("url %w", err))
	}
	if t.Format != "" && !slices.Contains(contract.Formats(), t.Format) {
		errs = append(errs, fmt.Errorf("format %q is not one of %s", t.Format, list(contract.Formats())))
	}
	if t.Order != "" && !slices.Contains(contract.Orders(), t.Order) {
		errs = append(errs, fmt.Errorf("order %q is not one of %s", t.Order, list(contract.Orders())))
	}
	errs = append(errs, checkHeaders(t.Headers)...)
	if t.Timeout < 0 || t.MaxInFlight < 0 || t.RatePerSecond < 0 || t.Retry.MaxAttempts < 0 ||
		t.Retry.MinBackoff < 0 || t.Retry.MaxBackoff < 0 || t.Retry.MaxAge < 0 {
		errs = append(errs, errors.New("timeout, maxInFlight, ratePerSecond and retry must not be negative"))
	}
	if t.Timeout > maxTimeout {
		errs = append(errs, fmt.Errorf("timeout must be at most %s", maxTimeout))
	}
	if max(t.Retry.MinBackoff, t.Retry.MaxBackoff, t.Retry.MaxAge) > maxDuration {
		errs = append(errs, fmt.Errorf("retry.minBackoff, maxBackoff and maxAge must be at most %s", maxDuration))
	}
	if len(t.Retry.Statuses) > MaxRetryStatuses {
		errs = append(errs, fmt.Errorf("retry.statuses must hold at most %d entries", MaxRetryStatuses))
	}
	for _, s := range t.Retry.Statuses {
		if s < 300 || s > 499 || s == 410 {
			errs = append(errs, fmt.Errorf("retry.statuses holds %d; write statuses from 300 to 499 except 410, which stops the target", s))
		}
	}
	if r := t.Retry.withDefaults(); r.MinBackoff > r.MaxBackoff {
		errs = append(errs, fmt.Errorf("retry.minBackoff %s is longer than retry.maxBackoff %s", r.MinBackoff, r.MaxBackoff))
	}
	return errs
}

// CheckURL checks that u can be a target: absolute, http or https, with a host, without user information or fragment.
func CheckURL(u string) error {
	p, err := url.Parse(u)
	switch {
	case strings.ContainsFunc(u, unicode.IsControl):
		return errors.New("must not hold a line break or another control character")
	case err != nil:
		return errors.New("is not a URL") // url.Error would quote the whole URL, including any secret in it
	case p.Scheme != "http" && p.Scheme != "https":
		return errors.New("must begin with http:// or https://")
	case p.Hostname() == "":
		return errors.New("must name a host")
	case p.Port() != "" && !isPort(p.Port()):
		return errors.New("must have a port from 1 to 65535")
	case p.User != nil:
		return errors.New("must not carry a user name or password; use a header instead")
	case contract.HasControl(p.Path+p.Host) || contract.HasControl(unescaped(p.RawQuery)):
		return errors.New("must not hold a line break or another control character, percent-encoded or not")
	case p.Fragment != "":
		return errors.New("must not have a fragment")
	}
	return nil
}

// unescaped returns text decoded, or text itself if its encoding is invalid.
func unescaped(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return text
}

// list joins names with commas.
func list[T ~string](names []T) string {
	var out []string
	for _, n := range names {
		out = append(out, string(n))
	}
	return strings.Join(out, ", ")
}
