package receiver

import (
	"context"
	"fmt"

	"heymarket.dev/operator/internal/receiver/config"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/filter"
	"heymarket.dev/operator/internal/receiver/ingest"
)

// expressions are a configuration's filters and its deduplication key, compiled.
type expressions struct {
	filters map[string]*filter.Program // target → its filter; targets without one are missing
	key     *filter.Program            // nil: the profiles
}

// compileExpressions returns nil if c has no expression. Its errors name the field, and the line and column in it.
func compileExpressions(c config.Config) (*expressions, error) {
	x := &expressions{filters: map[string]*filter.Program{}}
	for _, t := range c.Targets {
		if t.Filter == "" {
			continue
		}
		p, err := filter.Compile(t.Filter, filter.Wanted)
		if err != nil {
			return nil, fmt.Errorf("the filter of target %q: %w", t.Name, err)
		}
		x.filters[t.Name] = p
	}
	if key := c.Deduplication.Key; key != "" {
		p, err := filter.Compile(key, filter.Key)
		if err != nil {
			return nil, fmt.Errorf("deduplication.key: %w", err)
		}
		x.key = p
	}
	if x.key == nil && len(x.filters) == 0 {
		return nil, nil //nolint:nilnil // no expression is no mistake
	}
	return x, nil
}

// Read implements ingest.Expressions.
func (x *expressions) Read(eventType string, body []byte) ingest.Subject {
	return &subject{x, filter.Event{Type: eventType, Body: body}}
}

// subject is one event prepared for ingest.
type subject struct {
	*expressions
	event filter.Event
}

// Key implements ingest.Subject.
func (s *subject) Key(ctx context.Context) (string, error) {
	if s.key == nil {
		return "", nil
	}
	return s.key.Key(ctx, &s.event)
}

// Wants implements ingest.Subject.
func (s *subject) Wants(ctx context.Context, target, id string) (bool, error) {
	p := s.filters[target]
	if p == nil {
		return true, nil
	}
	s.event.ID = id
	return p.Wants(ctx, &s.event)
}

// check returns a function that checks, before sending, whether the target's filter can be evaluated at all. The
// filter's result is ignored: whether the target gets the event was decided when it was accepted, and an event replayed
// from the dead letters is one that a person wants to be sent. It is nil for a target without a filter.
func (x *expressions) check(target string) func(context.Context, event.Event) error {
	if x == nil || x.filters[target] == nil {
		return nil
	}
	p := x.filters[target]
	return func(ctx context.Context, e event.Event) error {
		if _, err := p.Wants(ctx, &filter.Event{Type: e.Type, ID: e.ID, Body: e.Body}); err != nil {
			return fmt.Errorf("filter failed: %w", err)
		}
		return nil
	}
}
