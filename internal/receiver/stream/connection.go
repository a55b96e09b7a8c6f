package stream

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// call runs f with the current connection and a bounded context, and wraps its error in ErrUnavailable.
func (s *Store) call(ctx context.Context, f func(context.Context, rueidis.Client) error) error {
	c := s.client.Load()
	if c == nil {
		return errNotConnected
	}
	ctx, cancel := s.deadlines.bound(ctx)
	defer cancel()
	if err := f(ctx, c.Client); err != nil {
		s.doubt(err)
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// exec is call for a single script, the path of every event.
func (s *Store) exec(ctx context.Context, script *rueidis.Lua, keys, args []string) (rueidis.RedisMessage, error) {
	c := s.client.Load()
	if c == nil {
		return rueidis.RedisMessage{}, errNotConnected
	}
	ctx, cancel := s.deadlines.bound(ctx)
	defer cancel()
	reply, err := script.Exec(ctx, c.Client, keys, args).ToMessage()
	if err != nil {
		s.doubt(err)
		return reply, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return reply, nil
}

// doubt signals Doubted if another connection may give a better answer.
func (s *Store) doubt(err error) {
	if !Problem(err).WrongNode() {
		return
	}
	select {
	case s.doubted <- struct{}{}:
	default:
	}
}

var errNotConnected = fmt.Errorf("%w: not connected yet", ErrUnavailable)

// deadlines bounds calls whose context never ends. A timer per call would cost more than the call, so all calls that
// start within deadlineStep share one.
type deadlines struct{ current atomic.Pointer[deadline] }

type deadline struct {
	ctx   context.Context
	until time.Time // when the next one is due
}

const deadlineStep = 500 * time.Millisecond

// bound returns ctx bounded by callTimeout, or by up to deadlineStep more.
func (d *deadlines) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Done() != nil {
		return context.WithTimeout(ctx, callTimeout)
	}
	now := time.Now()
	c := d.current.Load()
	if c == nil || now.After(c.until) {
		shared, end := context.WithTimeout(context.Background(), callTimeout+deadlineStep)
		time.AfterFunc(callTimeout+deadlineStep, end)
		c = &deadline{shared, now.Add(deadlineStep)}
		d.current.Store(c)
	}
	return c.ctx, func() {}
}
