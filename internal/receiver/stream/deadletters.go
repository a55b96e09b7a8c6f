package stream

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

var (
	//go:embed letters.lua
	lettersSource string
	//go:embed list.lua
	listSource string
	//go:embed count.lua
	countSource string
	//go:embed replay.lua
	replaySource string
	//go:embed discard.lua
	discardSource string

	listScript    = newScript(lettersSource + listSource)
	countScript   = newScript(lettersSource + countSource)
	replayScript  = newScript(attemptSource + bytesSource + boundSource + lettersSource + replaySource)
	discardScript = newScript(attemptSource + bytesSource + lettersSource + discardSource)
)

// ListDeadLetters returns up to limit dead letters of a target that match f, the oldest first, without their bodies, which
// stay in Redis.
func (s *Store) ListDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int) ([]delivery.DeadLetter, error) {
	found := []delivery.DeadLetter{}
	err := s.eachPage(ctx, letterPages{script: listScript, keys: []string{s.deadKey(target)}, filter: f, limit: limit},
		func(letters []rueidis.RedisMessage) (int, error) {
			for i := range letters {
				parts, err := letters[i].AsStrSlice()
				if err != nil || len(parts)%2 != 1 {
					return 0, errReply
				}
				fields := make(map[string]string, len(parts)/2)
				for j := 1; j < len(parts); j += 2 {
					fields[parts[j]] = parts[j+1]
				}
				found = append(found, decodeDeadLetter(rueidis.XRangeEntry{ID: parts[0], FieldValues: fields}))
			}
			return len(letters), nil
		})
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return found, nil
}

// DeadLetter returns one dead letter of a target with its body; found is false if there is none with that entry.
func (s *Store) DeadLetter(ctx context.Context, target, entry string) (letter delivery.DeadLetter, found bool, err error) {
	err = s.call(ctx, func(ctx context.Context, c rueidis.Client) error {
		entries, err := c.Do(ctx, c.B().Xrange().Key(s.deadKey(target)).Start(entry).End(entry).Count(1).Build()).AsXRange()
		if err == nil && len(entries) == 1 {
			letter, found = decodeDeadLetter(entries[0]), true
		}
		return err
	})
	if err != nil {
		return delivery.DeadLetter{}, false, fmt.Errorf("read dead letter: %w", err)
	}
	return letter, found, nil
}

// CountDeadLetters returns how many dead letters of a target match f.
func (s *Store) CountDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter) (int, error) {
	count, err := s.changeDeadLetters(ctx, letterPages{script: countScript, keys: []string{s.deadKey(target)}, filter: f}, nil)
	if err != nil {
		return 0, fmt.Errorf("count dead letters: %w", err)
	}
	return count.Taken, nil
}

// ReplayDeadLetters puts the oldest limit (0: all) of the dead letters that match f back into the queues of their target,
// with their original IDs. Dead letters added during the call are not included. It calls progress after each page, and
// returns the counts even with an error.
func (s *Store) ReplayDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error) {
	return s.replay(ctx, target, f, limit, "", 0, progress)
}

// ReplayEdited replays one dead letter with another body. It returns ErrQuota, and the letter stays, where the body is so much
// larger that the webhook would have more than bound bytes in Redis; 0: no bound.
func (s *Store) ReplayEdited(ctx context.Context, target, entry string, body []byte, bound int64) (delivery.DeadLetterCount, error) {
	return s.replay(ctx, target, delivery.DeadLetterFilter{Entry: entry}, 1, rueidis.BinaryString(body), bound, nil)
}

func (s *Store) replay(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, body string, bound int64, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error) {
	keys := []string{s.deadKey(target), s.accountKey(target), s.queueKey(target, delivery.Consent), s.queueKey(target, delivery.General), s.bytesKey}
	args := []string{body, strconv.FormatInt(bound, 10)}
	for _, t := range event.Types() {
		if delivery.LaneOf(t) == delivery.Consent {
			args = append(args, t)
		}
	}
	count, err := s.changeDeadLetters(ctx, letterPages{script: replayScript, keys: keys, args: args, filter: f, limit: limit}, progress)
	if err != nil {
		return count, fmt.Errorf("replay dead letters: %w", err)
	}
	return count, nil
}

// DiscardDeadLetters permanently removes the oldest limit (0: all) of the dead letters that match f. Otherwise it behaves
// like ReplayDeadLetters.
func (s *Store) DiscardDeadLetters(ctx context.Context, target string, f delivery.DeadLetterFilter, limit int, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error) {
	keys := []string{s.deadKey(target), s.accountKey(target), s.bytesKey}
	count, err := s.changeDeadLetters(ctx, letterPages{script: discardScript, keys: keys, filter: f, limit: limit}, progress)
	if err != nil {
		return count, fmt.Errorf("discard dead letters: %w", err)
	}
	return count, nil
}

// changeDeadLetters sums up the results of a script's pages: how many letters it processed and, if any, skipped. Letters that
// exceed a bound are ErrQuota.
func (s *Store) changeDeadLetters(ctx context.Context, pages letterPages, progress func(delivery.DeadLetterCount)) (delivery.DeadLetterCount, error) {
	var sum delivery.DeadLetterCount
	err := s.eachPage(ctx, pages, func(counts []rueidis.RedisMessage) (int, error) {
		page := make([]int, 3)
		for i := range min(len(counts), len(page)) {
			n, err := counts[i].AsInt64()
			if err != nil {
				return 0, errReply
			}
			page[i] = int(n)
		}
		if page[2] > 0 {
			return 0, ErrQuota
		}
		sum.Taken += page[0]
		sum.Skipped += page[1]
		if progress != nil {
			progress(sum)
		}
		return page[0] + page[1], nil
	})
	return sum, err
}

// letterPages is an iteration over dead letters by one of the scripts that are built on letters.lua.
type letterPages struct {
	script     *rueidis.Lua
	keys, args []string // args beyond those of letters.lua
	filter     delivery.DeadLetterFilter
	limit      int // 0: none
}

// mostOfAPage is how many letters a script uses per call unless a lower limit applies; letters.lua examines no more.
const mostOfAPage = 1000

// eachPage runs the script page by page. use reads the script's result beyond the position at which to continue, and returns
// how many letters count towards the limit.
func (s *Store) eachPage(ctx context.Context, p letterPages, use func([]rueidis.RedisMessage) (int, error)) error {
	from, to, status, until := "-", "", "", ""
	switch since := p.filter.Since; {
	case p.filter.Entry != "":
		from, to = p.filter.Entry, p.filter.Entry
	case !since.IsZero() && since.After(diedAt(p.filter.After)):
		from = strconv.FormatInt(max(since.UnixMilli(), 0), 10)
	case p.filter.After != "":
		from = "(" + p.filter.After
	}
	if !p.filter.Until.IsZero() {
		until = strconv.FormatInt(p.filter.Until.UnixMilli(), 10)
	}
	if p.filter.Status != nil {
		status = strconv.Itoa(*p.filter.Status)
	}
	for left := p.limit; from != "" && (p.limit == 0 || left > 0); {
		if err := ctx.Err(); err != nil {
			return err
		}
		most := mostOfAPage
		if p.limit > 0 {
			most = min(most, left)
		}
		args := append([]string{from, to, p.filter.Type, status, strconv.Itoa(most), p.filter.Reason, p.filter.Text, until}, p.args...)
		reply, err := s.exec(ctx, p.script, p.keys, args)
		if err != nil {
			return err
		}
		parts, err := reply.ToArray()
		if err != nil || len(parts) < 2 {
			return errReply
		}
		next, err1 := parts[0].ToString()
		last, err2 := parts[1].ToString()
		if err1 != nil || err2 != nil {
			return errReply
		}
		used, err := use(parts[2:])
		if err != nil {
			return err
		}
		from, to, left = next, last, left-used
	}
	return nil
}

func decodeDeadLetter(e rueidis.XRangeEntry) delivery.DeadLetter {
	attempts, _ := strconv.Atoi(e.FieldValues[fieldAttempts])
	status, _ := strconv.Atoi(e.FieldValues[fieldStatus])
	letter := delivery.DeadLetter{
		Event: decodeEvent(e.FieldValues), Entry: e.ID, Attempts: attempts, Status: status,
		Reason: validText(e.FieldValues[fieldReason]), Excerpt: validText(e.FieldValues[fieldExcerpt]),
	}
	letter.ID, letter.Type = validText(letter.ID), validText(letter.Type)
	letter.DiedAt = diedAt(e.ID)
	return letter
}

// diedAt returns when the dead letter of an entry was written, according to its ID.
func diedAt(entry string) time.Time {
	died, _, _ := strings.Cut(entry, "-")
	return readTime(died)
}

// validText returns text in valid UTF-8, as every JSON reader accepts it: invalid bytes, for example a truncated character,
// become U+FFFD.
func validText(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
