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

// MaxClockSkew is how far the clocks of Redis and a receiver may differ. Beyond it nothing expires, see KeepTargets. The
// scripts use the same value.
const MaxClockSkew = time.Minute

// ClockSkew returns how far the clock of Redis is ahead of this process's (negative: behind), with an error of up to half
// the response time of Redis.
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
