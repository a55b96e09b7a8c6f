package stream

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
)

//go:embed accounts.lua
var accountsSource string

var accountsScript = newScript(bytesSource + accountsSource)

// Account is what became of the events of one target, over all receivers of the webhook, and how many there are at the
// same moment. It begins with the first event that is stored for the target.
type Account struct {
	// Stored events were accepted for the target, and Replayed ones put back from its dead letters.
	Stored, Replayed int64
	// Delivered events were taken by the target, Dead ones given up, and Dropped ones lost their target for longer than the
	// grace period, see KeepTargets.
	Delivered, Dead, Dropped int64
	// Discarded are dead letters that a person removed, or that were older than is kept.
	Discarded int64
	// Malformed are entries and members in the target's keys that no receiver wrote; they were set aside.
	Malformed int64
	// Bytes are those of the target's pending events and dead letters.
	Bytes int64
	// Pending events are accepted and neither delivered nor given up; they wait, are under way, or will be retried.
	Pending int64
	// DeadLetters were given up and are kept for a person to look at.
	DeadLetters int64
	// Oldest is for how long the oldest pending event of each lane has been in its queue, by the clock of Redis. A lane without
	// events is missing.
	Oldest map[delivery.Lane]time.Duration
	// OldestDeadLetter is the age of the oldest dead letter; 0 without one.
	OldestDeadLetter time.Duration
	// NextRetry is the time until the next retry is due, 0 for one that is overdue; nil: no event waits for one.
	NextRetry *time.Duration
}

// Unaccounted is how many events have vanished from the queues without a trace; negative: how many appeared. It is 0
// unless something other than a receiver took part, or Redis lost what it had confirmed.
func (a Account) Unaccounted() int64 {
	return a.Stored + a.Replayed - a.Delivered - a.Dead - a.Dropped - a.Pending
}

// Accounts returns the account of each named target, in the same order, all read at one moment.
func (s *Store) Accounts(ctx context.Context, targets []string) ([]Account, error) {
	keys := []string{s.bytesKey}
	for _, t := range targets {
		keys = append(keys, s.accountKeys(t)...)
	}
	reply, err := s.exec(ctx, accountsScript, keys, nil)
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	counts, err := reply.AsIntSlice()
	const each = 14
	if err != nil || len(counts) != each*len(targets) {
		return nil, fmt.Errorf("read accounts: %w", errReply)
	}
	out := make([]Account, len(targets))
	for i := range out {
		c := counts[each*i:]
		out[i] = Account{
			Stored: c[0], Replayed: c[1], Delivered: c[2], Dead: c[3], Dropped: c[4], Discarded: c[5], Malformed: c[6], Bytes: c[7], Pending: c[8], DeadLetters: c[9],
			OldestDeadLetter: max(time.Duration(c[10])*time.Millisecond, 0),
		}
		for n, lane := range delivery.Lanes() {
			if age := c[11+n]; age >= 0 {
				if out[i].Oldest == nil {
					out[i].Oldest = map[delivery.Lane]time.Duration{}
				}
				out[i].Oldest[lane] = time.Duration(age) * time.Millisecond
			}
		}
		if due := c[13]; due >= 0 {
			out[i].NextRetry = new(time.Duration(due) * time.Millisecond)
		}
	}
	return out, nil
}

// accountKeys are the account of a target and all that it has to add up to.
func (s *Store) accountKeys(target string) []string {
	keys := []string{s.accountKey(target), s.deadKey(target)}
	for _, lane := range delivery.Lanes() {
		keys = append(keys, s.laneKeys(target, lane)[:2]...) // the queue and its retries
	}
	return keys
}

func (s *Store) accountKey(target string) string { return s.prefix + "account:" + target }
