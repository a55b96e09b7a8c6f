package stream_test

import (
	cmpor "cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/stream"
)

// queueRows are the scripts that lend, settle, and keep dead letters.
func queueRows() []scriptRow {
	return []scriptRow{
		deadRow("dead.lua", 1000), deadRow("dead.lua at the limit", 0), replayRow(), editedRow(), discardRow(), laterRow(), takeRow(), targetsRow(), expiryRow(),
		groupRow(), extendRow(), tidyRow(),
	}
}

// lend stores three events of a conversation and lends the first.
func lend(t *testing.T, s *stream.Store) delivery.Lease {
	t.Helper()
	for n := range 3 {
		key, e := newEvent(n)
		e.Conversation = "7"
		if _, err := s.Append(t.Context(), key, e, []string{target}, limits); err != nil {
			t.Fatal(err)
		}
	}
	held := take(t, s.Queue(target, delivery.General, ordered), 3, 0)
	if len(held) != 1 {
		t.Fatalf("%d events are lent, want the head of the conversation", len(held))
	}
	return held[0]
}

var laneOfKeys = []string{"q:crm:general", "r:crm:general", "h:crm:general", "p:crm:general", "account:crm"}

// exactly returns what is wrong unless a queue and the dead letters hold so many.
func (s state) exactly(pending, letters int) string {
	if p, l := s.entries("q:crm:general"), s.entries("dead:crm"); p != pending || l != letters {
		return fmt.Sprintf("%d events in the queue and %d dead letters, want %d and %d", p, l, pending, letters)
	}
	return ""
}

// movedOrNot returns what is wrong unless all events are in one place each, and none was lost.
func (s state) movedOrNot(all int) string {
	if p, l := s.entries("q:crm:general"), s.entries("dead:crm"); p+l != all {
		return fmt.Sprintf("%d events in the queue and %d dead letters, want %d in all", p, l, all)
	}
	return ""
}

func deadRow(name string, limit int64) scriptRow {
	var held delivery.Lease
	wantLetters := min(1, int(limit))
	return scriptRow{
		files:   []string{"dead.lua", "bytes.lua", "promote.lua", "entry.lua", "attempt.lua"},
		name:    name,
		keys:    append([]string{"dead:crm", "bytes"}, laneOfKeys...),
		prepare: func(t *testing.T, s *stream.Store) { t.Helper(); held = lend(t, s) },
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.Queue(target, delivery.General, stream.QueueOptions{DeadLetterLimit: limit, Ordered: true}).Dead(t.Context(), held, delivery.Outcome{Status: 422}, "no")
			return err
		},
		promise: func(_, after state, _ error) string { return after.movedOrNot(3) },
		finally: func(_, after state) string {
			if wrong := after.exactly(3-wantLetters, wantLetters); wrong != "" {
				return wrong
			}
			if after.entries("r:crm:general") != 1 {
				return "nothing of the conversation is due"
			}
			return ""
		},
	}
}

func giveUp(t *testing.T, s *stream.Store) {
	t.Helper()
	bury(t, s, 3)
}

func replayRow() scriptRow {
	return scriptRow{
		files:   []string{"replay.lua", "bound.lua", "bytes.lua", "letters.lua", "attempt.lua"},
		keys:    []string{"dead:crm", "bytes", "account:crm", "q:crm:general"},
		prepare: giveUp,
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil)
			return err
		},
		promise: func(_, after state, _ error) string { return after.movedOrNot(3) },
		finally: func(_, after state) string {
			if n := after.count(target, "replayed"); n != "3" {
				return n + " are counted as replayed, want 3"
			}
			return after.exactly(3, 0)
		},
	}
}

// editedRow replays the oldest of three letters with a longer body.
func editedRow() scriptRow {
	const edited = `{"n":0,"edited":true}`
	var entry string
	return scriptRow{
		name:  "replay.lua with an edited body",
		files: []string{"replay.lua", "bound.lua", "bytes.lua", "letters.lua", "attempt.lua"},
		keys:  []string{"dead:crm", "bytes", "account:crm", "q:crm:general"},
		prepare: func(t *testing.T, s *stream.Store) {
			t.Helper()
			giveUp(t, s)
			entry = letters(t, s, "", 1)[0].Entry
		},
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.ReplayEdited(t.Context(), target, entry, []byte(edited), 1<<20)
			return err
		},
		promise: func(before, after state, err error) string {
			if err == nil {
				return after.exactly(1, 2)
			}
			return cmp.Diff(before, after)
		},
		finally: func(_, after state) string {
			if n := after.count(target, "replayed"); n != "1" {
				return n + " are counted as replayed, want 1"
			}
			if text := fmt.Sprint(after["q:crm:general"]); !strings.Contains(text, edited) {
				return "the queue lacks the edited body: " + text
			}
			return after.exactly(1, 2)
		},
	}
}

func discardRow() scriptRow {
	return scriptRow{
		files:   []string{"discard.lua", "bytes.lua", "letters.lua", "attempt.lua"},
		keys:    []string{"dead:crm", "bytes", "account:crm"},
		prepare: giveUp,
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.DiscardDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil)
			return err
		},
		promise: func(before, after state, err error) string {
			if err == nil {
				return after.exactly(0, 0)
			}
			return cmp.Diff(before, after)
		},
		finally: func(_, after state) string { return after.exactly(0, 0) },
	}
}

func laterRow() scriptRow {
	var held delivery.Lease
	return scriptRow{
		files:   []string{"later.lua", "attempt.lua"},
		keys:    []string{"q:crm:general", "r:crm:general"},
		prepare: func(t *testing.T, s *stream.Store) { t.Helper(); held = lend(t, s) },
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.Queue(target, delivery.General, ordered).Later(t.Context(), held, 2, time.Hour)
			return err
		},
		promise: func(before, after state, err error) string {
			if err == nil {
				return after.exactly(3, 0)
			}
			return cmp.Diff(before, after)
		},
		finally: func(_, after state) string {
			if after.entries("r:crm:general") != 1 {
				return "the next attempt is not due"
			}
			return after.exactly(3, 0)
		},
	}
}

func takeRow() scriptRow {
	return scriptRow{
		files: []string{"take.lua", "bytes.lua", "promote.lua", "entry.lua"},
		keys:  append([]string{"c:crm:general"}, laneOfKeys[:4]...),
		prepare: func(t *testing.T, s *stream.Store) {
			t.Helper()
			held := lend(t, s)
			if _, err := s.Queue(target, delivery.General, ordered).Later(t.Context(), held, 2, -time.Minute); err != nil {
				t.Fatal(err)
			}
		},
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, _, err := s.Queue(target, delivery.General, ordered).Take(t.Context(), 10, anyBytes, time.Millisecond)
			return err
		},
		promise: func(_, after state, _ error) string { return after.exactly(3, 0) },
		finally: func(_, after state) string {
			if after.entries("p:crm:general") != 2 {
				return "the later events of the conversation are not parked"
			}
			return after.exactly(3, 0)
		},
	}
}

func targetsRow() scriptRow {
	return scriptRow{
		files: []string{"expire_targets.lua", "bytes.lua", "attempt.lua"},
		keys:  []string{"targets", "bytes", "dead:crm", "account:crm", "q:crm:general", "q:crm:consent"},
		prepare: func(t *testing.T, s *stream.Store) {
			t.Helper()
			giveUp(t, s)
			appendTo(t, s, 10, target)
			if _, err := s.KeepTargets(t.Context(), []string{target}, time.Hour, time.Hour); err != nil {
				t.Fatal(err)
			}
		},
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.KeepTargets(t.Context(), []string{"audit"}, -time.Hour, time.Hour) // as if its grace were over
			return err
		},
		promise: func(_, after state, _ error) string {
			if n := after.entries("dead:crm"); n != 3 {
				return fmt.Sprintf("%d dead letters, want 3", n)
			}
			return ""
		},
		finally: func(_, after state) string {
			if n := after.count(target, "dropped"); n != "1" {
				return n + " events are counted as dropped, want 1"
			}
			return after.exactly(0, 3)
		},
	}
}

func expiryRow() scriptRow {
	return scriptRow{
		name:  "expire_targets.lua of old letters",
		files: []string{"expire_targets.lua", "bytes.lua", "attempt.lua"},
		keys:  []string{"targets", "bytes", "dead:crm", "account:crm"},
		prepare: func(t *testing.T, s *stream.Store) {
			t.Helper()
			giveUp(t, s)
			if _, err := s.KeepTargets(t.Context(), []string{target}, time.Hour, time.Hour); err != nil {
				t.Fatal(err)
			}
		},
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.KeepTargets(t.Context(), []string{target}, time.Hour, -time.Hour) // as if all were older than they are kept
			return err
		},
		promise: func(_, after state, _ error) string {
			if l, gone := after.entries("dead:crm"), after.count(target, "discarded"); fmt.Sprint(3-l) != cmpor.Or(gone, "0") {
				return fmt.Sprintf("%d dead letters are left, and %s are counted as gone", l, gone)
			}
			return ""
		},
		finally: func(_, after state) string { return after.exactly(0, 0) },
	}
}

func groupRow() scriptRow {
	return scriptRow{
		files:   []string{"group.lua"},
		keys:    []string{"q:crm:general"},
		prepare: func(t *testing.T, s *stream.Store) { t.Helper(); appendTo(t, s, 1, target) },
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, _, err := s.Queue(target, delivery.General, unordered).Take(t.Context(), 10, anyBytes, 0)
			return err
		},
		promise: func(_, after state, _ error) string { return after.exactly(1, 0) },
		finally: func(_, after state) string { return after.exactly(1, 0) },
	}
}

func extendRow() scriptRow {
	var held delivery.Lease
	return scriptRow{
		files:   []string{"extend.lua"},
		keys:    []string{"q:crm:general"},
		prepare: func(t *testing.T, s *stream.Store) { t.Helper(); held = lend(t, s) },
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.Queue(target, delivery.General, ordered).Extend(t.Context(), held)
			return err
		},
		promise: func(before, after state, _ error) string { return cmp.Diff(before, after) },
		finally: func(before, after state) string { return cmp.Diff(before, after) },
	}
}

func tidyRow() scriptRow {
	return scriptRow{
		files:   []string{"tidy.lua"},
		keys:    []string{"q:crm:general"},
		prepare: func(t *testing.T, s *stream.Store) { t.Helper(); lend(t, s) },
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			return s.Queue(target, delivery.General, ordered).Tidy(t.Context(), -time.Hour)
		},
		promise: func(before, after state, _ error) string { return cmp.Diff(before, after) },
		finally: func(before, after state) string { return cmp.Diff(before, after) },
	}
}
