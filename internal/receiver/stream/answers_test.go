package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
)

// A tenant's Redis may answer a script in any shape. That is an error of one call, and never the end of the process.
func TestAnswersOfAnotherShapeAreErrors(t *testing.T) {
	t.Parallel()
	queue := func(s *Store) *Queue { return s.Queue("crm", delivery.General, QueueOptions{}) }
	lease := delivery.Lease{Entry: "1-0", Attempt: 1}
	calls := map[string]func(context.Context, *Store) error{
		"Append": func(ctx context.Context, s *Store) error {
			_, err := s.Append(ctx, event.Identity{Rule: event.Any}, event.Event{}, []string{"crm"}, Limits{})
			return err
		},
		"Take": func(ctx context.Context, s *Store) error {
			_, _, err := queue(s).Take(ctx, 1, 1, 0)
			return err
		},
		"Done": func(ctx context.Context, s *Store) error {
			_, err := queue(s).Done(ctx, lease)
			return err
		},
		"Later": func(ctx context.Context, s *Store) error {
			_, err := queue(s).Later(ctx, lease, 2, 0)
			return err
		},
		"Accounts": func(ctx context.Context, s *Store) error {
			_, err := s.Accounts(ctx, []string{"crm"})
			return err
		},
		"ListDeadLetters": func(ctx context.Context, s *Store) error {
			_, err := s.ListDeadLetters(ctx, "crm", delivery.DeadLetterFilter{}, 1)
			return err
		},
		"DiscardDeadLetters": func(ctx context.Context, s *Store) error {
			_, err := s.DiscardDeadLetters(ctx, "crm", delivery.DeadLetterFilter{}, 1, nil)
			return err
		},
		"FindEvent": func(ctx context.Context, s *Store) error {
			_, _, err := s.FindEvent(ctx, []string{"crm"}, "evt_x")
			return err
		},
		"KeepTargets": func(ctx context.Context, s *Store) error {
			_, err := s.KeepTargets(ctx, []string{"crm"}, time.Hour, time.Hour)
			return err
		},
		"ClockSkew": func(ctx context.Context, s *Store) error {
			_, err := s.ClockSkew(ctx)
			return err
		},
		"RemoveKeys": func(ctx context.Context, s *Store) error {
			_, err := s.RemoveKeys(ctx)
			return err
		},
	}
	for name, tc := range map[string]struct {
		answer string
		fine   []string // calls for which it is an answer
	}{
		"a number":                       {":2\r\n", []string{"Append", "ClockSkew", "Later"}},
		"a number beyond the judgements": {":5\r\n", []string{"ClockSkew", "Later"}},
		"a target that there is not":     {":-3\r\n", []string{"ClockSkew", "Later"}},
		"the least number":               {":-9223372036854775808\r\n", []string{"ClockSkew", "Later"}},
		"a text":                         {"$3\r\nabc\r\n", nil},
		"null":                           {"_\r\n", nil},
		"an empty array":                 {"*0\r\n", []string{"KeepTargets"}},
		"one number":                     {"*1\r\n:1\r\n", []string{"Take", "Done", "KeepTargets"}},
		"two numbers":                    {"*2\r\n:1\r\n:1\r\n", nil},
		"a number and a text":            {"*2\r\n:1\r\n$1\r\n+\r\n", []string{"Append"}},
		"a text and a number":            {"*2\r\n$1\r\n0\r\n:1\r\n", []string{"KeepTargets", "RemoveKeys"}},
		"a judgement and an id":          {"*2\r\n:2\r\n$1\r\na\r\n", []string{"Append"}},
		"a judgement and two ids":        {"*3\r\n:2\r\n$1\r\na\r\n$1\r\nb\r\n", nil},
		"a lease of two parts":           {"*2\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n", nil},
		"a lease without an attempt":     {"*2\r\n:1\r\n*3\r\n$1\r\na\r\n$1\r\nx\r\n*0\r\n", nil},
		"a lease without fields":         {"*2\r\n:1\r\n*3\r\n$1\r\na\r\n:1\r\n:1\r\n", nil},
		"a lease of an odd field":        {"*2\r\n:1\r\n*3\r\n$1\r\na\r\n:1\r\n*1\r\n$1\r\nx\r\n", nil},
		"a body without a type":          {"*4\r\n$0\r\n\r\n$1\r\n+\r\n*0\r\n$1\r\nx\r\n", nil},
		"a type without a body":          {"*4\r\n$0\r\n\r\n$1\r\n+\r\n$1\r\nx\r\n*0\r\n", nil},
		"a letter of an odd field":       {"*3\r\n$0\r\n\r\n$1\r\n+\r\n*2\r\n$3\r\n1-0\r\n$2\r\nid\r\n", []string{"FindEvent"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New("staging", "support", "a")
			if err := s.Connect(t.Context(), "redis://"+hostileServer(t, "EVALSHA", tc.answer), nil); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var fine []string
			for _, call := range slices.Sorted(maps.Keys(calls)) {
				if err := calls[call](t.Context(), s); err == nil {
					fine = append(fine, call)
				}
			}
			if diff := cmp.Diff(slices.Sorted(slices.Values(tc.fine)), fine); diff != "" {
				t.Errorf("the calls that take it for an answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatINFOSays(t *testing.T) {
	t.Parallel()
	const good = "redis_version:7.2.4\r\nrole:master\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\naof_last_write_status:ok\r\n"
	for change, want := range map[[2]string][]contract.Problem{
		{}:                                 nil,
		{"noeviction", "allkeys-lru"}:      {contract.RedisEvicts},
		{"aof_enabled:1", "aof_enabled:0"}: {contract.RedisForgets},
		{"status:ok", "status:err"}:        {contract.RedisCannotSave},
		{"aof_enabled:1\r\naof_last_write_status:ok", "aof_enabled:0\r\naof_last_write_status:err"}: {contract.RedisForgets},
		{"role:master", "role:slave"}: {contract.RedisReadOnly},
		{"7.2.4", "6.2.0"}:            nil,
		{"7.2.4", "6.2"}:              nil,
		{"7.2.4", "6.1"}:              {contract.RedisTooOld},
		{"7.2.4", "5.9.9"}:            {contract.RedisTooOld},
		{"7.2.4", "10.0.0"}:           nil,
		{"7.2.4", "unstable"}:         nil,
		{"7.2.4", "next.one"}:         nil,
		{"7.2.4", "6.next"}:           nil,
		{"7.2.4", "next.1"}:           nil,
	} {
		if got := judge(parseInfo(strings.Replace(good, change[0], change[1], 1))); !slices.Equal(got, want) {
			t.Errorf("with %q: %q, want %q", change, got, want)
		}
	}
}

// Calls that start at about the same time share a deadline, or each event would cost a timer.
func TestCallsShareADeadline(t *testing.T) {
	t.Parallel()
	var d deadlines
	first, _ := d.bound(context.Background())
	second, _ := d.bound(context.Background())
	if first != second {
		t.Error("each call has a deadline of its own")
	}
	if until, bounded := first.Deadline(); !bounded || time.Until(until) > callTimeout+deadlineStep {
		t.Errorf("a call ends at %s, %t", until, bounded)
	}
	d.current.Load().until = time.Now().Add(-time.Nanosecond)
	if third, _ := d.bound(context.Background()); third == first {
		t.Error("a call that begins later shares the deadline of an earlier one")
	}
}

// A connection's memory is released when it is closed in the middle of an answer: its Store has one bound for all.
func TestAClosedConnectionHoldsNothing(t *testing.T) {
	t.Parallel()
	for name, closed := range map[string]func(*guardedConn, net.Conn){
		"here":  func(g *guardedConn, _ net.Conn) { _ = g.Close() },
		"there": func(g *guardedConn, other net.Conn) { _ = other.Close(); _, _ = g.Read(make([]byte, 1)); _ = g.Close() },
		"as malformed": func(g *guardedConn, other net.Conn) {
			go func() { _, _ = other.Write([]byte("?1\r\n")) }()
			if _, err := g.Read(make([]byte, 8)); !errors.Is(err, errMalformed) {
				t.Errorf("Read = %v", err)
			}
		},
	} {
		here, other := net.Pipe()
		held, ended := new(atomic.Int64), 0
		g := guard(here, held, func() { ended++ })
		g.awaited = []awaited{{plain: 1}}
		go func() { _, _ = other.Write([]byte("*2\r\n+a\r\n")) }()
		for n := 0; n < 8; {
			read, err := g.Read(make([]byte, 8))
			if err != nil {
				t.Fatal(err)
			}
			n += read
		}
		if held.Load() == 0 {
			t.Fatal("half an answer holds nothing")
		}
		closed(g, other)
		_ = g.Close()
		if held.Load() != 0 || ended != 1 {
			t.Errorf("closed %s: %d bytes are held, and its end is noted %d times", name, held.Load(), ended)
		}
		_ = other.Close()
	}
}

func TestLengthsAreBounded(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "-1": -1, "9223372036854775807": 1<<63 - 1, "12": 12} {
		if n, err := number([]byte(text)); err != nil || n != want {
			t.Errorf("%q is read as %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "-", "+1", "1a", " 1", "/", ":", "10000000000000000000", "--1"} {
		if n, err := number([]byte(text)); !errors.Is(err, errMalformed) {
			t.Errorf("%q is read as %d, %v", text, n, err)
		}
	}
	for _, tc := range []struct {
		bytes, elements int64
		taken           bool
	}{{maxRespBytes, 0, true}, {maxRespBytes + 1, 0, false}, {0, maxRespElements, maxRespElements*elementBytes <= maxRespBytes}, {0, maxRespElements + 1, false}, {-1, 0, false}, {0, -1, false}} {
		s := scanner{held: new(atomic.Int64)}
		if err := s.hold(tc.bytes, tc.elements); (err == nil) != tc.taken {
			t.Errorf("%d bytes and %d elements: %v", tc.bytes, tc.elements, err)
		}
	}
}

// A dead letter that is gone, for example because it was replayed meanwhile, is not found; that is no error.
func TestADeadLetterThatIsGoneIsNotFound(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"*0\r\n": false, "*1\r\n*2\r\n$3\r\n5-0\r\n*2\r\n$2\r\nid\r\n$1\r\na\r\n": true} {
		s := New("staging", "support", "a")
		if err := s.Connect(t.Context(), "redis://"+hostileServer(t, "XRANGE", answer), nil); err != nil {
			t.Fatal(err)
		}
		letter, found, err := s.DeadLetter(t.Context(), "crm", "5-0")
		if err != nil || found != want || found && (letter.Entry != "5-0" || letter.ID != "a") {
			t.Errorf("%q: %+v, %t, %v", answer, letter, found, err)
		}
		s.Close()
	}
}

// Letters that are skipped count towards the limit of a replay, as those that are replayed.
func TestSkippedLettersCountTowardsTheLimit(t *testing.T) {
	t.Parallel()
	pages := new(atomic.Int64)
	s := New("staging", "support", "a")
	if err := s.Connect(t.Context(), "redis://"+oddServer(t, func(command string) string {
		switch {
		case command != "EVALSHA":
			return ""
		case pages.Add(1) == 1:
			return "*4\r\n$3\r\n5-0\r\n$1\r\n+\r\n:1\r\n:1\r\n"
		}
		return "*4\r\n$0\r\n\r\n$1\r\n+\r\n:1\r\n:0\r\n"
	}), nil); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	count, err := s.ReplayDeadLetters(t.Context(), "crm", delivery.DeadLetterFilter{}, 2, nil)
	if want := (delivery.DeadLetterCount{Taken: 1, Skipped: 1}); err != nil || count != want || pages.Load() != 1 {
		t.Errorf("%+v, %v after %d pages; want %+v after one", count, err, pages.Load(), want)
	}
}

// An answer of a node that cannot write, or does not know the primary, leads to a search for another connection; others do not.
func TestTheWrongNodeIsDoubted(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"-READONLY no\r\n": true, "-MASTERDOWN no\r\n": true, "-OOM no\r\n": false, "$1\r\na\r\n": false} {
		s := New("staging", "support", "a")
		if err := s.Connect(t.Context(), "redis://"+hostileServer(t, "EVALSHA", answer), nil); err != nil {
			t.Fatal(err)
		}
		for name, ask := range map[string]func(){
			"Check": func() { s.Check(t.Context()) }, "ClockSkew": func() { _, _ = s.ClockSkew(t.Context()) },
		} {
			ask()
			ask() // the first doubt is still there, which must not block the second
			doubted := false
			select {
			case <-s.Doubted():
				doubted = true
			default:
			}
			if doubted != want {
				t.Errorf("%s answered by %q: doubted %t, want %t", name, answer, doubted, want)
			}
		}
		s.Close()
	}
}

// Each error has its problem, which the status of the resource reports with the remedy.
func TestProblemsOfErrors(t *testing.T) {
	t.Parallel()
	for want, err := range map[contract.Problem]error{
		"":                        nil,
		contract.RedisBadSettings: settingsError{"no"},
		contract.RedisBlocked:     errBlocked,
		contract.RedisMalformed:   errTooMany,
		contract.RedisUntrusted:   &tls.CertificateVerificationError{Err: errors.New("no")},
		contract.RedisUnreachable: context.DeadlineExceeded,
	} {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if got := Problem(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}

// A connection that another has replaced is closed when its calls have ended: a Store has 64 at most.
func TestAReplacedConnectionIsClosed(t *testing.T) {
	t.Parallel()
	s, server := New("staging", "support", "a"), hostileServer(t, "", "")
	for range 3 {
		if err := s.Connect(t.Context(), "redis://"+server, nil); err != nil {
			t.Fatal(err)
		}
	}
	defer s.Close()
	for deadline := time.Now().Add(time.Minute); s.opened.Load() > 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are open", s.opened.Load())
		}
	}
}

// Connect and Reconnect put the new connection in place of the former one.
func TestAnotherConnectionIsUsed(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]func(*Store, context.Context, string, []byte) error{"Connect": (*Store).Connect, "Reconnect": (*Store).Reconnect} {
		s := New("staging", "support", "a")
		for n := range int64(2) {
			if err := connect(s, t.Context(), "redis://"+hostileServer(t, "EVALSHA", fmt.Sprintf(":%d\r\n", n)), nil); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			reply, err := s.exec(t.Context(), clockScript, []string{s.prefix}, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := reply.AsInt64(); err != nil || got != n {
				t.Errorf("%s %d: the answer is that of %d, %v", name, n, got, err)
			}
		}
		s.Close()
	}
}

// A connection that cannot be used is closed: a Store has 64 at most.
func TestAConnectionThatDoesNotAnswerIsClosed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		command string
		connect func(*Store, context.Context, string, []byte) error
	}{
		"Connect":                {"PING", (*Store).Connect},
		"Reconnect":              {"PING", (*Store).Reconnect},
		"Reconnect to a replica": {"EVALSHA", (*Store).Reconnect},
	} {
		s := New("staging", "support", "a")
		if err := tc.connect(s, t.Context(), "redis://"+hostileServer(t, tc.command, "-READONLY no\r\n"), nil); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s = %v, want ErrUnavailable", name, err)
		}
		for deadline := time.Now().Add(10 * time.Second); s.opened.Load() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d connections are open", name, s.opened.Load())
			}
		}
		if s.client.Load() != nil {
			t.Errorf("%s: the connection is in use", name)
		}
	}
}
