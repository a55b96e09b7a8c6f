package stream

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

//go:embed expire_targets.lua
var targetsSource string

var targetsScript = newScript(attemptSource + bytesSource + targetsSource)

// Dropped is a backlog that was dropped because its target has been removed for longer than the grace period.
type Dropped struct {
	Target string
	Events int64
}

// KeepTargets notes that the named targets are wanted, and drops the queues of those that have not been for longer than
// grace. A target that is named again before that goes on where it was. Dead letters, also of a dropped target, stay for keep.
// While the clock of Redis differs from this process' by more than MaxClockSkew, nothing is dropped.
func (s *Store) KeepTargets(ctx context.Context, names []string, grace, keep time.Duration) ([]Dropped, error) {
	args := append([]string{
		s.prefix, strconv.FormatInt(grace.Milliseconds(), 10), strconv.FormatInt(keep.Milliseconds(), 10),
		strconv.FormatInt(time.Now().UnixMilli(), 10),
	}, names...)
	var out []Dropped
	err := s.call(ctx, func(ctx context.Context, c rueidis.Client) error {
		reply, err := targetsScript.Exec(ctx, c, []string{s.prefix + "targets", s.bytesKey}, args).ToArray()
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(reply); i += 2 {
			name, err := reply[i].ToString()
			if err != nil {
				return err
			}
			events, err := reply[i+1].AsInt64()
			if err != nil {
				return err
			}
			out = append(out, Dropped{name, events})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("record current targets: %w", err)
	}
	return out, nil
}
