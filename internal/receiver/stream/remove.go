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

// removeStep is how many keys one script examines, about a millisecond of work, which bounds how long other clients wait.
const removeStep = "1000"

// RemoveKeys removes every key of the webhook and returns how many there were. No receiver of the webhook may still be
// running: it would recreate some of them. Its cost grows with the number of all keys in that Redis. After an error, call it
// again.
func (s *Store) RemoveKeys(ctx context.Context) (int64, error) {
	removed, cursor := int64(0), "0"
	for {
		err := s.call(ctx, func(ctx context.Context, c rueidis.Client) error {
			// Names in Kubernetes contain no pattern characters, and "{" is not one.
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
