package desired

import (
	"fmt"
	"strings"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/config"
)

// receiverConfig translates the spec. It fills in no defaults: the API server has done so, and what it left out the
// receiver fills in with the same values.
func receiverConfig(in Input) (config.Config, error) {
	spec := in.Webhook.Spec
	window, err := spec.Deduplication.Window.Std()
	if err != nil {
		return config.Config{}, fmt.Errorf("deduplication.window: %w", err)
	}
	c := config.Config{
		Webhook:       config.Webhook{Namespace: in.Webhook.Namespace, Name: in.Webhook.Name},
		Paths:         []string{pathPrefix(in) + in.Segment},
		TokenFiles:    []string{tokenMount + "/" + tokenFile},
		RedisURLFile:  configMount + "/" + KeyRedisURL,
		WebhookID:     spec.WebhookID,
		EventTypes:    eventTypes(spec.EventTypes),
		Deduplication: config.Deduplication{Window: config.Duration(window)},
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
		MaxInFlight: deref[int32, int](t.MaxInFlight),
		Retry:       config.Retry{MaxAttempts: deref[int32, int](t.Retry.MaxAttempts)},
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

// targetURL names a Service without the cluster's domain, which the operator does not know; the resolver's search list
// completes it.
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

func deref[F, T int32 | int](p *F) T {
	if p == nil {
		return 0
	}
	return T(*p)
}
