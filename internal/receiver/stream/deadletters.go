package stream

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/receiver/event"
)

var (
	//go:embed replay.lua
	replaySource string
	//go:embed discard.lua
	discardSource string

	replayScript  = rueidis.NewLuaScript(replaySource)
	discardScript = rueidis.NewLuaScript(discardSource)
)

// DeadLetters returns up to limit dead letters of a target that match, the oldest first, from the one behind the entry
// after (empty: from the first).
func (s *Store) DeadLetters(ctx context.Context, target, after string, limit int, match func(event.DeadLetter) bool) ([]event.DeadLetter, error) {
	const page = 100
	found := []event.DeadLetter{}
	start := "-"
	if after != "" {
		start = "(" + after
	}
	for {
		var entries []rueidis.XRangeEntry
		err := s.call(ctx, func(ctx context.Context, c rueidis.Client) (err error) {
			entries, err = c.Do(ctx, c.B().Xrange().Key(s.deadKey(target)).Start(start).End("+").Count(page).Build()).AsXRange()
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read dead letters: %w", err)
		}
		for _, e := range entries {
			if letter := decodeDeadLetter(e); match(letter) {
				if found = append(found, letter); len(found) == limit {
					return found, nil
				}
			}
			start = "(" + e.ID
		}
		if len(entries) < page {
			return found, nil
		}
	}
}

func decodeDeadLetter(e rueidis.XRangeEntry) event.DeadLetter {
	attempts, _ := strconv.Atoi(e.FieldValues[fieldAttempts])
	status, _ := strconv.Atoi(e.FieldValues[fieldStatus])
	letter := event.DeadLetter{
		Event: decodeEvent(e.FieldValues), Entry: e.ID, Attempts: attempts, Status: status,
		Reason: e.FieldValues[fieldReason], Excerpt: e.FieldValues[fieldExcerpt],
	}
	var ms int64
	if _, err := fmt.Sscanf(e.ID, "%d-", &ms); err == nil {
		letter.DiedAt = time.UnixMilli(ms)
	}
	return letter
}

// Replay puts dead letters back into the queues of their target, as new and under their old ids. It returns how many it
// has put back; those that were gone already do not count.
func (s *Store) Replay(ctx context.Context, target string, letters []event.DeadLetter) (int, error) {
	replayed := 0
	for _, l := range letters {
		keys := []string{s.deadKey(target), s.queueKey(target, event.LaneOf(l.Type)), s.accountKey(target)}
		n, err := s.count(ctx, replayScript, keys, []string{l.Entry})
		replayed += n
		if err != nil {
			return replayed, fmt.Errorf("replay dead letter %s: %w", l.Entry, err)
		}
	}
	return replayed, nil
}

// Discard removes dead letters for good and returns how many there were.
func (s *Store) Discard(ctx context.Context, target string, letters []event.DeadLetter) (int, error) {
	if len(letters) == 0 {
		return 0, nil
	}
	entries := make([]string, len(letters))
	for i, l := range letters {
		entries[i] = l.Entry
	}
	discarded, err := s.count(ctx, discardScript, []string{s.deadKey(target), s.accountKey(target)}, entries)
	if err != nil {
		return 0, fmt.Errorf("discard dead letters: %w", err)
	}
	return discarded, nil
}

// count runs a script that says how many dead letters it has dealt with.
func (s *Store) count(ctx context.Context, script *rueidis.Lua, keys, args []string) (int, error) {
	reply, err := s.exec(ctx, script, keys, args)
	if err != nil {
		return 0, err
	}
	n, err := reply.AsInt64()
	return int(n), err
}
