package stream

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/redis/rueidis"
)

//go:embed remove.lua
var removeSource string

var removeScript = newScript(removeSource)

// removeStep is how many keys one script examines, about a millisecond of work, so that no other client waits longer.
const removeStep = "1000"

// RemoveKeys removes every key of the webhook and returns how many there were. No receiver of the webhook may run any more: it
// would create some of them again. Its work grows with all keys of that Redis. After an error the same call is right.
func (s *Store) RemoveKeys(ctx context.Context) (int64, error) {
	removed, cursor := int64(0), "0"
	for {
		err := s.call(ctx, func(ctx context.Context, c rueidis.Client) error {
			// The characters of a pattern do not occur in names of Kubernetes, and "{" is none of them.
			reply, err := removeScript.Exec(ctx, c, []string{s.prefix}, []string{cursor, s.prefix + "*", removeStep}).ToArray()
			if err != nil {
				return err
			}
			if len(reply) != 2 {
				return errors.New("redis answered in a shape that this version does not know")
			}
			if cursor, err = reply[0].ToString(); err != nil {
				return err
			}
			n, err := reply[1].AsInt64()
			removed += n
			return err
		})
		if err != nil {
			return removed, fmt.Errorf("remove keys: %w", err)
		}
		if cursor == "0" {
			return removed, nil
		}
	}
}
