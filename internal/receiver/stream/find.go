package stream

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

var (
	//go:embed find.lua
	findSource string
	findScript = newScript(lettersSource + findSource)
)

// errFound ends a walk early.
var errFound = errors.New("found")

// FindEvent searches the queues and dead letters of targets for an event, and returns its ID, type and body; found is false if
// there is none with this ID. It reads all of them, in pages, so it is meant for interactive use.
func (s *Store) FindEvent(ctx context.Context, targets []string, id string) (e event.Event, found bool, err error) {
	for _, target := range targets {
		for _, key := range []string{s.queueKey(target, delivery.Consent), s.queueKey(target, delivery.General), s.deadKey(target)} {
			err := s.eachPage(ctx, letterPages{script: findScript, keys: []string{key}, args: []string{id}}, func(parts []rueidis.RedisMessage) (int, error) {
				if len(parts) < 2 {
					return 0, nil
				}
				eventType, err1 := parts[0].ToString()
				body, err2 := parts[1].ToString()
				if err1 != nil || err2 != nil {
					return 0, errReply
				}
				e, found = event.Event{ID: id, Type: validText(eventType), Body: []byte(body)}, true
				return 0, errFound
			})
			if err != nil && !found {
				return event.Event{}, false, fmt.Errorf("find event: %w", err)
			}
			if found {
				return e, true, nil
			}
		}
	}
	return event.Event{}, false, nil
}
