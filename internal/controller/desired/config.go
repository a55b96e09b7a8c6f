package desired

import (
	"fmt"
	"strings"

	"k8s.io/utils/ptr"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
)

// receiverConfig translates the spec. It sets no defaults: the API server has set them, and the receiver uses the same
// values for missing ones.
func receiverConfig(in Input) (config.Config, error) {
	spec := in.Webhook.Spec
	window, err := spec.Deduplication.Window.Std()
	if err != nil {
		return config.Config{}, fmt.Errorf("deduplication.window: %w", err)
	}
	horizon, err := spec.Deduplication.RetryHorizon.Std()
	if err != nil {
		return config.Config{}, fmt.Errorf("deduplication.retryHorizon: %w", err)
	}
	if horizon == config.DefaultRetryHorizon {
		horizon = 0 // the default is omitted, for receivers of the previous release
	}
	deadLetters, err := spec.Retention.DeadLetters.Std()
	if err != nil {
		return config.Config{}, fmt.Errorf("retention.deadLetters: %w", err)
	}
	c := config.Config{
		Webhook:        config.Webhook{Namespace: in.Webhook.Namespace, Name: in.Webhook.Name},
		Paths:          paths(in),
		TokenFiles:     []string{currentToken(in.Webhook).file()},
		RedisURLFile:   configMount + "/" + KeyRedisURL,
		WebhookID:      spec.WebhookID,
		EventTypes:     eventTypes(spec.EventTypes),
		Deduplication:  config.Deduplication{Window: config.Duration(window), RetryHorizon: config.Duration(horizon), Key: spec.Deduplication.Key},
		Retention:      config.Retention{DeadLetters: config.Duration(deadLetters), DeadLetterLimit: ptr.Deref(spec.Retention.DeadLetterLimit, 0)},
		Paused:         spec.Paused,
		LogLevel:       string(spec.Receiver.LogLevel),
		Addresses:      config.Addresses{DenyPrivate: in.TargetAddresses.Public, AllowNetworks: in.TargetAddresses.AndNetworks},
		TrustedProxies: in.TrustedProxies,

		MaxBacklogBytes: in.MaxBacklogBytes,
	}
	if p := spec.Token.PreviousSecretKeyRef; p != nil {
		c.TokenFiles = append(c.TokenFiles, previousToken(*p).file())
	}
	c.RestrictRedis = spec.Redis != nil
	switch {
	case spec.Redis != nil:
		c.MaxBacklogBytes = -1 // no other webhook shares it
		c.RedisURLFile = redisURL(*spec.Redis).file()
		if ca := spec.Redis.CASecretKeyRef; ca != nil {
			c.RedisCAFile = certificates("spec.redis.caSecretKeyRef", *ca).file()
		}
	case in.SharedRedis.CA != nil:
		c.RedisCAFile = configMount + "/" + KeyRedisCA
	}
	for _, t := range spec.Targets {
		ct, err := target(in.Webhook.Namespace, t)
		if err != nil {
			return config.Config{}, fmt.Errorf("targets[%s]: %w", t.Name, err)
		}
		c.Targets = append(c.Targets, ct)
	}
	return c, nil
}

func target(namespace string, t v1alpha1.Target) (config.Target, error) {
	out := config.Target{
		Name:        t.Name,
		URL:         targetURL(namespace, t),
		EventTypes:  eventTypes(t.EventTypes),
		Filter:      t.Filter,
		Format:      contract.Format(t.Format),
		Order:       contract.Order(t.Order),
		Headers:     headers(t),
		MaxInFlight: int(ptr.Deref(t.MaxInFlight, 0)),
		Retry:       config.Retry{MaxAttempts: int(ptr.Deref(t.Retry.MaxAttempts, 0)), Statuses: statuses(t.Retry.Statuses)},

		RatePerSecond: int(ptr.Deref(t.RatePerSecond, 0)),
	}
	for _, r := range signingKeys(t) {
		out.SigningKeyFiles = append(out.SigningKeyFiles, r.file())
	}
	if t.TLS != nil {
		out.TLS.ServerName = t.TLS.ServerName
		if t.TLS.CASecretKeyRef != nil {
			out.TLS.CAFile = targetCA(t).file()
		}
	}
	for _, d := range []struct {
		field string
		from  v1alpha1.Duration
		to    *config.Duration
	}{
		{"timeout", t.Timeout, &out.Timeout},
		{"retry.minBackoff", t.Retry.MinBackoff, &out.Retry.MinBackoff},
		{"retry.maxBackoff", t.Retry.MaxBackoff, &out.Retry.MaxBackoff},
		{"retry.maxAge", t.Retry.MaxAge, &out.Retry.MaxAge},
	} {
		v, err := d.from.Std()
		if err != nil {
			return config.Target{}, fmt.Errorf("%s: %w", d.field, err)
		}
		*d.to = config.Duration(v)
	}
	return out, nil
}

// statuses preserves the difference between nil, which means the default, and empty, which means none.
func statuses(in []int32) []int {
	if in == nil {
		return nil
	}
	out := make([]int, len(in))
	for i, s := range in {
		out[i] = int(s)
	}
	return out
}

func headers(t v1alpha1.Target) []config.Header {
	var out []config.Header
	for _, h := range t.Headers {
		ch := config.Header{Name: h.Name, Value: ptr.Deref(h.Value, "")}
		if h.SecretKeyRef != nil {
			ch.ValueFile = headerValue(t, h).file()
		}
		out = append(out, ch)
	}
	return out
}

// targetURL returns a Service's URL without the cluster's domain, which the operator does not know; the resolver's
// search list adds it.
func targetURL(namespace string, t v1alpha1.Target) string {
	if t.Service == nil {
		if t.URL == nil {
			return ""
		}
		return *t.URL
	}
	scheme, path := strings.ToLower(t.Service.Scheme), t.Service.Path
	if scheme == "" {
		scheme = "http"
	}
	if path == "" {
		path = "/"
	}
	return fmt.Sprintf("%s://%s.%s.svc:%d%s", scheme, t.Service.Name, namespace, t.Service.Port, path)
}

func eventTypes(in []v1alpha1.EventType) []string {
	var out []string
	for _, t := range in {
		out = append(out, string(t))
	}
	return out
}
