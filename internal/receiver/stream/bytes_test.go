package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// fill appends events until they are refused, and returns how many were stored.
func fill(t *testing.T, s *stream.Store, from int, l stream.Limits, targets ...string) int {
	t.Helper()
	for n := range 1000 {
		key, e := newEvent(from + n)
		e.Body = []byte(`{"text":"` + strings.Repeat("x", 1000) + `"}`)
		_, err := s.Append(t.Context(), key, e, targets, l)
		switch {
		case errors.Is(err, stream.ErrQuota):
			return n
		case err != nil:
			t.Fatal(err)
		}
	}
	t.Fatal("a thousand events were stored")
	return 0
}

func wantCounted(t *testing.T, r *redistest.Server, when string) {
	t.Helper()
	if wrong := stateOf(t, r).uncounted(); wrong != "" {
		t.Errorf("%s: %s", when, wrong)
	}
}

// The bound applies to all targets together, including dead letters, and whatever leaves Redis frees memory.
func TestBytesOfAWebhookAreBounded(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--appendonly", "no")
	s := connect(t, r, "a")
	bounded := limits
	bounded.Bytes = 20_000
	stored := fill(t, s, 0, bounded, target, "audit")
	if stored < 7 || stored > 9 {
		t.Errorf("%d events of 1 KB for two targets were stored in 20 KB", stored)
	}
	key, e := newEvent(1)
	if got, err := s.Append(t.Context(), key, e, []string{target}, bounded); err != nil || got.Judgement != event.Repeat {
		t.Errorf("a repeat of what is stored: %v, %v", got, err)
	}

	crm, audit := s.Queue(target, delivery.General, unordered), s.Queue("audit", delivery.General, stream.QueueOptions{DeadLetterLimit: 1000})
	for i, held := range take(t, crm, 1000, 0) {
		if ok, err := crm.Done(t.Context(), held); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := crm.Done(t.Context(), held); ok || err != nil || i > 0 { // settled again, it is not subtracted again
			continue
		}
		wantCounted(t, r, "one event is settled twice")
	}
	wantCounted(t, r, "a target has all its events")
	for _, held := range take(t, audit, 1000, 0) {
		if ok, err := audit.Dead(t.Context(), held, delivery.Outcome{Status: 422}, "no"); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	wantCounted(t, r, "the other has rejected all of them")
	more := fill(t, s, 1000, bounded, target)
	if more < 7 || more > 12 {
		t.Errorf("beside as many dead letters, %d events fit where 8 were delivered", more)
	}
	if _, err := s.ReplayDeadLetters(t.Context(), "audit", delivery.DeadLetterFilter{}, 3, nil); err != nil {
		t.Fatal(err)
	}
	wantCounted(t, r, "some dead letters are replayed")
	if _, err := s.DiscardDeadLetters(t.Context(), "audit", delivery.DeadLetterFilter{}, 0, nil); err != nil {
		t.Fatal(err)
	}
	wantCounted(t, r, "the others are discarded")
	for _, wanted := range []string{target, "audit", "new"} { // the first two are noted, and then not wanted any more
		if _, err := s.KeepTargets(t.Context(), []string{wanted}, -time.Hour, -time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	wantCounted(t, r, "both targets are gone")
	if got := r.MustDo("HLEN", prefix+"bytes"); got != "0" {
		t.Errorf("bytes of %s targets are counted where there are none", got)
	}
}

// A webhook's bound counts an event once for each target that accepts it, to the byte.
func TestTheBoundCountsEveryTarget(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--appendonly", "no")
	s := connect(t, r, "a")
	appendTo(t, s, 1, target, "audit")
	var each int64
	if _, err := fmt.Sscan(r.MustDo("HGET", prefix+"bytes", "q:audit"), &each); err != nil || each == 0 {
		t.Fatal(each, err)
	}
	for _, tc := range []struct {
		bytes int64
		full  bool
	}{{4*each - 1, true}, {4 * each, false}} {
		bounded := limits
		bounded.Bytes = tc.bytes
		key, e := newEvent(2) // as long as the first
		if _, err := s.Append(t.Context(), key, e, []string{target, "audit"}, bounded); errors.Is(err, stream.ErrQuota) != tc.full {
			t.Errorf("two events of %d bytes for two targets, bound %d: %v", each, tc.bytes, err)
		}
	}
}

// Expired dead letters free memory too.
func TestExpiredDeadLettersAreNotCounted(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--appendonly", "no")
	s := connect(t, r, "a")
	bury(t, s, 3)
	wantCounted(t, r, "there are three dead letters")
	if _, err := s.KeepTargets(t.Context(), []string{target}, time.Hour, -time.Hour); err != nil {
		t.Fatal(err)
	}
	wantBacklog(t, s, backlog{})
	wantCounted(t, r, "they have expired")
}

// Receivers of the previous release store and settle without counting.
func TestBytesThatWereNotCountedAreCountedAfresh(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"-5000", "5000", "1e3", "x"} {
		r := redistest.Start(t, "--appendonly", "no")
		s := connect(t, r, "a")
		appendTo(t, s, 1, target)
		r.MustDo("HSET", prefix+"bytes", "q:"+target, wrong)
		bounded := limits
		bounded.Bytes = 4000
		key, e := newEvent(2)
		_, err := s.Append(t.Context(), key, e, []string{"audit"}, bounded)
		if full := errors.Is(err, stream.ErrQuota); full != (wrong == "5000") {
			t.Errorf("%s: %v", wrong, err)
		}
		if _, err := s.KeepTargets(t.Context(), []string{target}, time.Hour, time.Hour); err != nil {
			t.Fatal(err)
		}
		wantCounted(t, r, "counted as "+wrong)
	}
}

// A Redis that is full refuses events. It still frees memory: delivered events are settled, what was given up is
// discarded, expires or is replayed, and targets that are gone are dropped.
func TestAFullRedisCanBeEmptied(t *testing.T) {
	t.Parallel()
	for name, empty := range map[string]func(t *testing.T, s *stream.Store, held delivery.Lease) error{
		"delivered": func(t *testing.T, s *stream.Store, held delivery.Lease) error {
			t.Helper()
			ok, err := s.Queue(target, delivery.General, unordered).Done(t.Context(), held)
			if err == nil && !ok {
				return errors.New("it was not settled")
			}
			return err
		},
		"failed": func(t *testing.T, s *stream.Store, held delivery.Lease) error {
			t.Helper()
			_, err := s.Queue(target, delivery.General, unordered).Later(t.Context(), held, 2, time.Hour)
			return err
		},
		"given up": func(t *testing.T, s *stream.Store, held delivery.Lease) error {
			t.Helper()
			_, err := s.Queue(target, delivery.General, stream.QueueOptions{DeadLetterLimit: 1000}).Dead(t.Context(), held, delivery.Outcome{}, "no")
			return err
		},
		"taken": func(t *testing.T, s *stream.Store, _ delivery.Lease) error {
			t.Helper()
			_, _, err := s.Queue(target, delivery.General, ordered).Take(t.Context(), 10, anyBytes, time.Minute)
			return err
		},
		"replayed": func(t *testing.T, s *stream.Store, _ delivery.Lease) error {
			t.Helper()
			n, err := s.ReplayDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil)
			if err == nil && n.Taken != 3 {
				return fmt.Errorf("%+v", n)
			}
			return err
		},
		"discarded": func(t *testing.T, s *stream.Store, _ delivery.Lease) error {
			t.Helper()
			n, err := s.DiscardDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 0, nil)
			if err == nil && n.Taken != 3 {
				return fmt.Errorf("%+v", n)
			}
			return err
		},
		"expired": func(t *testing.T, s *stream.Store, _ delivery.Lease) error {
			t.Helper()
			_, err := s.KeepTargets(t.Context(), []string{target}, time.Hour, -time.Hour)
			return err
		},
		"dropped": func(t *testing.T, s *stream.Store, _ delivery.Lease) error {
			t.Helper()
			dropped, err := s.KeepTargets(t.Context(), []string{"audit"}, -time.Hour, time.Hour)
			if err == nil && len(dropped) != 1 {
				return fmt.Errorf("%+v", dropped)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t, "--appendonly", "no")
			s := connect(t, r, "a")
			bury(t, s, 3)
			appendTo(t, s, 10, target)
			if _, err := s.KeepTargets(t.Context(), []string{target}, time.Hour, time.Hour); err != nil {
				t.Fatal(err)
			}
			held := take(t, s.Queue(target, delivery.General, unordered), 1, 0)[0]
			appendTo(t, s, 11, target)
			r.MustDo("CONFIG", "SET", "maxmemory", "1")
			key, e := newEvent(12)
			if _, err := s.Append(t.Context(), key, e, []string{target}, limits); err == nil {
				t.Fatal("it is not full: an event was stored")
			}
			if err := empty(t, s, held); err != nil {
				t.Fatal(err)
			}
			wantCounted(t, r, name)
			account(t, s, target)
		})
	}
}
