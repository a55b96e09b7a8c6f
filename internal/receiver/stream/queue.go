package stream

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/receiver/event"
)

var (
	//go:embed take.lua
	takeSource string
	//go:embed done.lua
	doneSource string
	//go:embed later.lua
	laterSource string
	//go:embed dead.lua
	deadSource string
	//go:embed group.lua
	groupSource string
	//go:embed tidy.lua
	tidySource string

	// Only the scripts that change nothing when they run a second time may be sent again by the client itself.
	takeScript  = rueidis.NewLuaScript(takeSource)
	doneScript  = rueidis.NewLuaScriptRetryable(doneSource)
	laterScript = rueidis.NewLuaScriptRetryable(laterSource)
	deadScript  = rueidis.NewLuaScriptRetryable(deadSource)
	groupScript = rueidis.NewLuaScriptRetryable(groupSource)
	tidyScript  = rueidis.NewLuaScriptRetryable(tidySource)
)

// Retention bounds the dead letters of one target.
type Retention struct {
	// Count is how many are kept; Redis trims whole nodes, so a few more may stay.
	Count int64
	// Age is how long they are kept.
	Age time.Duration
}

// DefaultRetention is 10,000 dead letters for 14 days.
var DefaultRetention = Retention{Count: 10_000, Age: 14 * 24 * time.Hour}

// Queue is what one target has to get in one lane.
type Queue struct {
	store                *Store
	queue, retries, dead string
	retention            Retention
}

// Queue returns the queue of a target and lane.
func (s *Store) Queue(target string, lane event.Lane, retention Retention) *Queue {
	return &Queue{
		store: s, retention: retention,
		queue: s.queueKey(target, lane), retries: s.retriesKey(target, lane), dead: s.deadKey(target),
	}
}

// Take leases up to limit events. With a positive lease it also takes over what consumers hold that have been silent
// for that long; it must be longer than the longest attempt. It also returns the time until the queue's next retry is
// due, negative when it has none.
func (q *Queue) Take(ctx context.Context, limit int, lease time.Duration) ([]event.Lease, time.Duration, error) {
	args := []string{group, q.store.consumer, strconv.Itoa(limit), strconv.FormatInt(lease.Milliseconds(), 10)}
	reply, err := q.exec(ctx, takeScript, []string{q.queue, q.retries}, args)
	if isNoGroup(err) {
		if _, err := q.exec(ctx, groupScript, []string{q.queue, q.retries}, []string{group}); err != nil {
			return nil, 0, fmt.Errorf("make consumer group: %w", err)
		}
		reply, err = q.exec(ctx, takeScript, []string{q.queue, q.retries}, args)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("take events: %w", err)
	}
	return decodeTaken(reply)
}

// Done settles a delivered event. It reports false where it had been settled before.
func (q *Queue) Done(ctx context.Context, l event.Lease) (bool, error) {
	return q.settle(ctx, "settle delivered event", doneScript, []string{q.queue}, []string{group, l.Entry})
}

// Later settles a failed attempt: the event comes back after delay, as attempt number attempt. It reports false where
// the lease had passed to another consumer.
func (q *Queue) Later(ctx context.Context, l event.Lease, attempt int, delay time.Duration) (bool, error) {
	return q.settle(ctx, "settle failed attempt", laterScript, []string{q.queue, q.retries}, []string{
		group, q.store.consumer, l.Entry, strconv.Itoa(attempt), strconv.FormatInt(delay.Milliseconds(), 10),
	})
}

// Dead settles an event that is given up, for the reason told. It reports false where the lease had passed to another
// consumer.
func (q *Queue) Dead(ctx context.Context, l event.Lease, o event.Outcome, reason string) (bool, error) {
	return q.settle(ctx, "settle dead event", deadScript, []string{q.queue, q.dead}, []string{
		group, q.store.consumer, l.Entry, strconv.Itoa(l.Attempt), strconv.Itoa(o.Status), reason, o.Excerpt,
		strconv.FormatInt(q.retention.Count, 10), strconv.FormatInt(q.retention.Age.Milliseconds(), 10),
	})
}

// Tidy forgets consumers that have been silent for longer than silent and hold nothing.
func (q *Queue) Tidy(ctx context.Context, silent time.Duration) error {
	_, err := q.exec(ctx, tidyScript, []string{q.queue}, []string{group, strconv.FormatInt(silent.Milliseconds(), 10)})
	if err != nil && !isNoGroup(err) {
		return fmt.Errorf("tidy consumers: %w", err)
	}
	return nil
}

func (q *Queue) settle(ctx context.Context, doing string, script *rueidis.Lua, keys, args []string) (bool, error) {
	reply, err := q.exec(ctx, script, keys, args)
	if err != nil {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	n, err := reply.AsInt64()
	if err != nil {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	return n == 1, nil
}

func (q *Queue) exec(ctx context.Context, script *rueidis.Lua, keys, args []string) (reply rueidis.RedisMessage, err error) {
	err = q.store.call(ctx, func(ctx context.Context, c rueidis.Client) (err error) {
		reply, err = script.Exec(ctx, c, keys, args).ToMessage()
		return err
	})
	return reply, err
}

func isNoGroup(err error) bool {
	redisError, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && strings.Contains(redisError.Error(), "NOGROUP")
}

var errReply = errors.New("take events: Redis answered in a shape that this version does not know")

// decodeTaken reads the reply of take.lua.
func decodeTaken(reply rueidis.RedisMessage) ([]event.Lease, time.Duration, error) {
	items, err := reply.ToArray()
	if err != nil || len(items) == 0 {
		return nil, 0, errReply
	}
	nextDue, err := items[0].AsInt64()
	if err != nil {
		return nil, 0, errReply
	}
	leases := make([]event.Lease, 0, len(items)-1)
	for i := range items[1:] {
		lease, err := decodeLease(&items[i+1])
		if err != nil {
			return nil, 0, err
		}
		leases = append(leases, lease)
	}
	return leases, time.Duration(nextDue) * time.Millisecond, nil
}

func decodeLease(item *rueidis.RedisMessage) (event.Lease, error) {
	parts, err := item.ToArray()
	if err != nil || len(parts) != 3 {
		return event.Lease{}, errReply
	}
	entry, err := parts[0].ToString()
	if err != nil {
		return event.Lease{}, errReply
	}
	attempt, err := parts[1].AsInt64()
	if err != nil {
		return event.Lease{}, errReply
	}
	fields, err := parts[2].AsStrMap()
	if err != nil {
		return event.Lease{}, errReply
	}
	// An entry without a time is none of ours. It reads as very old, so it is tried once and then shows in the dead letters.
	at, _ := strconv.ParseInt(fields["at"], 10, 64)
	return event.Lease{
		Entry: entry, Attempt: int(attempt),
		Event: event.Event{ID: fields["id"], Type: fields["type"], AcceptedAt: time.UnixMilli(at), Body: []byte(fields["body"])},
	}, nil
}
