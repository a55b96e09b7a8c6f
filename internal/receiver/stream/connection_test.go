package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/event"
)

// What a connection costs, and the rights that it needs, are those of its settings: the library's own would take more memory,
// connections, commands and time.
func TestTheSettingsOfAConnection(t *testing.T) {
	t.Parallel()
	o, err := New("staging", "support", "a").options("rediss://user:secret@redis.example.com:6380/0?master_set=main&sentinel_username=guard&sentinel_password=other", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]bool{
		"host":             slices.Equal(o.InitAddress, []string{"redis.example.com:6380"}),
		"user":             o.Username == "user" && o.Password == "secret",
		"Sentinel's user":  o.Sentinel.Username == "guard" && o.Sentinel.Password == "other",
		"Sentinel by TLS":  o.TLSConfig != nil && o.Sentinel.TLSConfig == o.TLSConfig,
		"dial":             o.DialCtxFn != nil && o.Dialer.Timeout == dialTimeout && o.Sentinel.Dialer.Timeout == dialTimeout,
		"name":             o.ClientName == "heymarket-receiver",
		"no SETINFO":       o.ClientSetInfo != nil && len(o.ClientSetInfo) == 0, // the library's own is nil
		"no cache":         o.DisableCache,
		"no retry":         o.DisableRetry,
		"write timeout":    o.ConnWriteTimeout == callTimeout,
		"gather commands":  o.MaxFlushDelay > 0 && o.MaxFlushDelay < time.Millisecond,
		"one connection":   o.PipelineMultiplex == -1,
		"commands at once": o.RingScaleEachConn == 9,
		"buffers":          o.ReadBufferEachConn == 64<<10 && o.WriteBufferEachConn == 64<<10,
	} {
		if !got {
			t.Errorf("%s is not set as it should be", name)
		}
	}
}

// A Store has maxConnections at most, and one that is closed, or that fails, leaves room for another.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	s, server := New("staging", "support", "a"), hostileServer(t, "", "")
	var open []net.Conn
	for range maxConnections {
		c, err := s.dial(t.Context(), server, &net.Dialer{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for range 2 {
		if _, err := s.dial(t.Context(), server, &net.Dialer{}, nil); !errors.Is(err, errTooMany) {
			t.Errorf("one more connection: %v", err)
		}
	}
	_ = open[0].Close()
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := s.dial(ended, server, &net.Dialer{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a connection that is not made: %v", err)
	}
	c, err := s.dial(t.Context(), server, &net.Dialer{}, nil)
	if err != nil {
		t.Fatalf("one is closed, and another cannot be opened: %v", err)
	}
	for _, c := range append(open, c) {
		_ = c.Close()
	}
	if n := s.opened.Load(); n != 0 {
		t.Errorf("%d connections are counted in the end", n)
	}
}

// Redis is asked for its clock while the answer travels: its time is that of the middle, give or take half of the whole.
func TestTheClockIsReadInTheMiddle(t *testing.T) {
	t.Parallel()
	server := oddServer(t, func(command string) string {
		if command != "EVALSHA" {
			return ""
		}
		now := time.Now()
		time.Sleep(50 * time.Millisecond)
		return fmt.Sprintf(":%d\r\n", now.UnixMilli())
	})
	s := New("staging", "support", "a")
	if err := s.Connect(t.Context(), "redis://"+server, nil); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	asked := time.Now()
	skew, err := s.ClockSkew(t.Context())
	if most := time.Since(asked)/2 + time.Millisecond; err != nil || skew.Abs() > most {
		t.Errorf("the same clock is off by %s, %v; want %s at most", skew, err, most)
	}
}

// All problems are reported at once and in order, and the bound of memory even with them.
func TestCheckReportsAllProblems(t *testing.T) {
	t.Parallel()
	info := "redis_version:5.0.1\r\nrole:slave\r\nmaxmemory:1234\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0\r\n"
	for name, tc := range map[string]struct {
		answers map[string]string
		want    []contract.Problem
		memory  int64
	}{
		"of its settings": {
			map[string]string{"INFO": fmt.Sprintf("$%d\r\n%s\r\n", len(info), info)},
			[]contract.Problem{contract.RedisEvicts, contract.RedisForgets, contract.RedisReadOnly, contract.RedisTooOld},
			1234,
		},
		"it is full as well": {
			map[string]string{"INFO": fmt.Sprintf("$%d\r\n%s\r\n", len(info), info), "EVALSHA": "-OOM no\r\n"},
			[]contract.Problem{contract.RedisEvicts, contract.RedisForgets, contract.RedisReadOnly, contract.RedisTooOld, contract.RedisFull},
			1234,
		},
		"no right to INFO":            {map[string]string{"INFO": "-NOPERM no\r\n"}, []contract.Problem{contract.RedisNoRights}, 0},
		"no right to anything":        {map[string]string{"INFO": "-NOPERM no\r\n", "EVALSHA": "-NOPERM no\r\n"}, []contract.Problem{contract.RedisNoRights}, 0},
		"it does not speak to anyone": {map[string]string{"EVALSHA": "?\r\n", "INFO": "-NOPERM no\r\n"}, []contract.Problem{contract.RedisMalformed}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New("staging", "support", "a")
			if err := s.Connect(t.Context(), "redis://"+oddServer(t, func(command string) string { return tc.answers[command] }), nil); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			slices.Sort(tc.want)
			if got := s.Check(t.Context()); !slices.Equal(got, tc.want) || s.MaxMemory() != tc.memory {
				t.Errorf("%q and %d bytes, want %q and %d", got, s.MaxMemory(), tc.want, tc.memory)
			}
		})
	}
}

// The arguments that stay the same from event to event are made once.
func TestLimitsAreWrittenOnce(t *testing.T) {
	t.Parallel()
	s := New("staging", "support", "a")
	l := Limits{Window: time.Second, Retries: time.Minute, Backlog: 5, Bytes: 7}
	a := s.limitArgs(l)
	if a.window != "1000" || a.consent != milliseconds(consentMemory) || a.retries != "60000" || a.backlog != "5" || a.bytes != "7" {
		t.Errorf("%+v", a)
	}
	if s.limitArgs(l) != a {
		t.Error("the same limits are written again")
	}
	if l.Backlog++; s.limitArgs(l).backlog != "6" {
		t.Error("other limits are not used")
	}
}

// What is not a time between 1970 and the year 9999 was not written by a receiver.
func TestTimesOfEntriesAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"": 0, "x": 0, "-1": 0, "0": 0, "1": 1, "253402300799999": latest, "253402300800000": 0, "9223372036854775807": 0} {
		if got := readTime(text).UnixMilli(); got != want {
			t.Errorf("%q is read as %d, want %d", text, got, want)
		}
	}
	e := event.Event{ID: "evt_1", Type: "x", AcceptedAt: time.UnixMilli(5), Conversation: "7", Trace: "t", TraceState: "s", Baggage: "b", Body: []byte("{}")}
	if fields := encodeEvent(nil, e); len(fields) != maxFields {
		t.Errorf("an event has %d names and values at most, want %d", len(fields), maxFields)
	}
}
