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

// Account holds the counters of one target, summed over all receivers of the webhook, and its current queue lengths. It starts
// with the first event stored for the target.
type Account struct {
	// Stored events were accepted for the target; Replayed events were put back from its dead letters.
	Stored, Replayed int64
	// Delivered events were accepted by the target, Dead events were given up, and Dropped events lost their target for longer
	// than the grace period, see KeepTargets.
	Delivered, Dead, Dropped int64
	// Discarded dead letters were removed by a person or expired.
	Discarded int64
	// Malformed entries and members in the target's keys were not written by a receiver; they were set aside.
	Malformed int64
	// Bytes is the size of the target's pending events and dead letters.
	Bytes int64
	// Pending events are accepted and neither delivered nor given up; they are queued, in flight, or waiting for a retry.
	Pending int64
	// DeadLetters were given up and are kept for inspection.
	DeadLetters int64
	// Oldest is how long the oldest pending event of each lane has been queued, by the clock of Redis. A lane without events is
	// missing.
	Oldest map[delivery.Lane]time.Duration
	// OldestDeadLetter is the age of the oldest dead letter; 0 if there are none.
	OldestDeadLetter time.Duration
	// NextRetry is the time until the next retry is due, 0 if it is overdue; nil if no event waits for a retry.
	NextRetry *time.Duration
}

// Unaccounted returns how many events are missing from the queues; negative: how many are in excess. It is 0 unless something
// other than a receiver changed the keys, or Redis lost a confirmed write.
func (a Account) Unaccounted() int64 {
	return a.Stored + a.Replayed - a.Delivered - a.Dead - a.Dropped - a.Pending
}

// Accounts returns the account of each named target, in the same order, all read atomically.
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

// accountKeys are the account of a target and the keys that it must match.
func (s *Store) accountKeys(target string) []string {
	keys := []string{s.accountKey(target), s.deadKey(target)}
	for _, lane := range delivery.Lanes() {
		keys = append(keys, s.laneKeys(target, lane)[:2]...) // the queue and its retries
	}
	return keys
}

func (s *Store) accountKey(target string) string { return s.prefix + "account:" + target }
