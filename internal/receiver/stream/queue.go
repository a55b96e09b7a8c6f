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

	"heymarket.dev/operator/internal/receiver/delivery"
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
	//go:embed extend.lua
	extendSource string
	//go:embed tidy.lua
	tidySource string
	//go:embed entry.lua
	entrySource string
	//go:embed promote.lua
	promoteSource string

	takeScript   = newScript(entrySource + bytesSource + promoteSource + takeSource)
	doneScript   = newScript(attemptSource + bytesSource + entrySource + promoteSource + doneSource)
	laterScript  = newScript(attemptSource + laterSource)
	deadScript   = newScript(attemptSource + bytesSource + entrySource + promoteSource + deadSource)
	groupScript  = newScript(groupSource)
	tidyScript   = newScript(tidySource)
	extendScript = newScript(extendSource)
)

// noRoomInterval is how long an event that is given up waits for another attempt while the dead letters are at their limit.
const noRoomInterval = 10 * time.Minute

// QueueOptions configure a Queue.
type QueueOptions struct {
	// DeadLetterLimit is how many dead letters the target may have. They are never evicted: at the limit, events that are given
	// up stay in the queue.
	DeadLetterLimit int64
	// Ordered leases the events of one conversation one at a time, in the order in which they were appended.
	Ordered bool
}

// Queue holds the pending events of one target in one lane.
type Queue struct {
	store   *Store
	options QueueOptions
	// keys are the keys of the scripts: the queue, its retries, its heads, its parked events, the account and the dead letters of
	// its target, the notes of take.lua, the bytes of the webhook. Each script gets the ones that it uses.
	keys       []string
	deliveries deliveries
}

// Queue returns the queue of a target and lane.
func (s *Store) Queue(target string, lane delivery.Lane, o QueueOptions) *Queue {
	keys := append(s.laneKeys(target, lane), s.accountKey(target), s.deadKey(target), s.prefix+"c:"+target+":"+string(lane), s.bytesKey)
	return &Queue{store: s, options: o, keys: keys}
}

// Take leases up to limit events, with up to about bytes of bodies: the last one may exceed it. With a positive lease it also
// takes over events of consumers that have been silent for that long; it must be longer than the longest attempt. It also returns
// the time until the queue's next retry is due, negative if there is none.
func (q *Queue) Take(ctx context.Context, limit int, bytes int64, lease time.Duration) ([]delivery.Lease, time.Duration, error) {
	ordered := "0"
	if q.options.Ordered {
		ordered = "1"
	}
	args := []string{
		group, q.store.consumer, strconv.Itoa(limit), strconv.FormatInt(lease.Milliseconds(), 10), ordered, strconv.FormatInt(bytes, 10),
	}
	keys := q.keys
	reply, err := q.store.exec(ctx, takeScript, keys, args)
	if isNoGroup(err) {
		if err := q.makeGroup(ctx); err != nil {
			return nil, 0, err
		}
		reply, err = q.store.exec(ctx, takeScript, keys, args)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("take events: %w", err)
	}
	leases, nextDue, err := decodeTaken(reply)
	if err != nil {
		return nil, 0, fmt.Errorf("take events: %w", err)
	}
	return leases, nextDue, nil
}

// makeGroup creates the consumer group of the queue, and with it the queue.
func (q *Queue) makeGroup(ctx context.Context) error {
	if _, err := q.store.exec(ctx, groupScript, q.keys[:4], []string{group}); err != nil {
		return fmt.Errorf("make consumer group: %w", err)
	}
	return nil
}

// Later settles a failed attempt: the event becomes due again after delay, as attempt number attempt. It returns false if the
// lease had passed to another consumer.
func (q *Queue) Later(ctx context.Context, l delivery.Lease, attempt int, delay time.Duration) (bool, error) {
	return q.settle(ctx, "settle failed attempt", laterScript, q.keys[:4], []string{
		group, q.store.consumer, l.Entry, strconv.Itoa(attempt), strconv.FormatInt(delay.Milliseconds(), 10),
	})
}

// Dead settles an event by making it a dead letter with the given reason. It returns false if the lease had passed to another
// consumer, and if the dead letters are at their limit: then another attempt is due after noRoomInterval.
func (q *Queue) Dead(ctx context.Context, l delivery.Lease, o delivery.Outcome, reason string) (bool, error) {
	return q.settle(ctx, "settle dead event", deadScript, append(q.keys[:6:6], q.store.bytesKey), []string{
		group, q.store.consumer, l.Entry, l.Conversation, strconv.Itoa(l.Attempt), strconv.Itoa(o.Status), validText(reason), validText(o.Excerpt),
		strconv.FormatInt(q.options.DeadLetterLimit, 10), strconv.FormatInt(noRoomInterval.Milliseconds(), 10),
		strconv.FormatInt(time.Now().UnixMilli(), 10),
	})
}

// Extend renews a lease for a long attempt. It returns false if the event has been settled or leased for another attempt,
// including one of this consumer: an expired lease is not restored.
func (q *Queue) Extend(ctx context.Context, l delivery.Lease) (bool, error) {
	return q.settle(ctx, "extend lease", extendScript, q.keys[:1], []string{group, q.store.consumer, l.Entry, strconv.Itoa(l.Attempt)})
}

// Tidy removes consumers that have been silent for longer than silent and hold no events.
func (q *Queue) Tidy(ctx context.Context, silent time.Duration) error {
	_, err := q.store.exec(ctx, tidyScript, q.keys[:1], []string{group, strconv.FormatInt(silent.Milliseconds(), 10)})
	if err != nil && !isNoGroup(err) {
		return fmt.Errorf("tidy consumers: %w", err)
	}
	return nil
}

func (q *Queue) settle(ctx context.Context, doing string, script *rueidis.Lua, keys, args []string) (bool, error) {
	reply, err := q.store.exec(ctx, script, keys, args)
	if err != nil {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	n, err := reply.AsInt64()
	if err != nil {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	return n == 1, nil
}

func isNoGroup(err error) bool {
	redisError, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && strings.Contains(redisError.Error(), "NOGROUP")
}

// bytesOf returns the size of an entry as bytes.lua counts it.
func bytesOf(fields map[string]string) (bytes int) {
	for name, value := range fields {
		bytes += len(name) + len(value)
	}
	return bytes
}

var errReply = errors.New("the answer of Redis has a shape that this version does not know")

// decodeTaken reads the reply of take.lua.
func decodeTaken(reply rueidis.RedisMessage) ([]delivery.Lease, time.Duration, error) {
	items, err := reply.ToArray()
	if err != nil || len(items) == 0 {
		return nil, 0, errReply
	}
	nextDue, err := items[0].AsInt64()
	if err != nil {
		return nil, 0, errReply
	}
	leases := make([]delivery.Lease, 0, len(items)-1)
	for i := range items[1:] {
		lease, err := decodeLease(&items[i+1])
		if err != nil {
			return nil, 0, err
		}
		leases = append(leases, lease)
	}
	return leases, time.Duration(nextDue) * time.Millisecond, nil
}

func decodeLease(item *rueidis.RedisMessage) (delivery.Lease, error) {
	parts, err := item.ToArray()
	if err != nil || len(parts) != 3 {
		return delivery.Lease{}, errReply
	}
	entry, err := parts[0].ToString()
	if err != nil {
		return delivery.Lease{}, errReply
	}
	attempt, err := parts[1].AsInt64()
	if err != nil {
		return delivery.Lease{}, errReply
	}
	fields, err := parts[2].AsStrMap()
	if err != nil {
		return delivery.Lease{}, errReply
	}
	return delivery.Lease{Entry: entry, Attempt: int(attempt), Bytes: bytesOf(fields), Event: decodeEvent(fields)}, nil
}
