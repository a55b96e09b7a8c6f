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

// Dropped is a backlog that was dropped because its target had been removed for longer than the grace period.
type Dropped struct {
	Target string
	Events int64
}

// KeepTargets records the named targets as current, and drops the queues of targets that have been removed for longer than
// grace. A target that is added again before that continues with its backlog. Dead letters, including those of a dropped
// target, are kept for keep. While the clock of Redis differs from this process's by more than MaxClockSkew, nothing is
// dropped.
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
