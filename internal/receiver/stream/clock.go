package stream

import (
	"context"
	_ "embed"
	"fmt"
	"time"
)

//go:embed clock.lua
var clockSource string

var clockScript = newScript(clockSource)

// MaxClockSkew is by how much the clocks of Redis and a receiver may differ. Beyond it nothing is dropped for its age, see
// KeepTargets. The scripts have the same number.
const MaxClockSkew = time.Minute

// ClockSkew returns by how much the clock of Redis is ahead of this process' (negative: behind), to within half the time
// that Redis takes to answer.
func (s *Store) ClockSkew(ctx context.Context) (time.Duration, error) {
	asked := time.Now()
	reply, err := s.exec(ctx, clockScript, []string{s.prefix}, nil)
	if err != nil {
		return 0, fmt.Errorf("read the clock of Redis: %w", err)
	}
	ms, err := reply.AsInt64()
	if err != nil {
		return 0, fmt.Errorf("read the clock of Redis: %w", errReply)
	}
	between := asked.Add(time.Since(asked) / 2)
	return time.UnixMilli(ms).Sub(between.Round(0)), nil
}
