package target

import (
	"math"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                     0,
		"0":                    0,
		"0.0":                  0,
		"1":                    time.Second,
		"+1":                   time.Second,
		"120":                  2 * time.Minute,
		"3.5":                  3500 * time.Millisecond,
		".25":                  250 * time.Millisecond,
		"2.":                   2 * time.Second,
		"1e3":                  1000 * time.Second,
		`"7"`:                  7 * time.Second,
		" 5 ":                  5 * time.Second,
		"2147483648":           2147483648 * time.Second,
		"9223372036":           9223372036 * time.Second,
		"9223372037":           math.MaxInt64,
		"9999999999":           math.MaxInt64,
		"99999999999999999999": math.MaxInt64,
		"1e999":                math.MaxInt64,
		"-1":                   0,
		"-9999999999":          0,
		"-1e999":               0,
		"1-1":                  0,
		"e":                    0,
		"NaN":                  0,
		"Infinity":             0,
		"0x10":                 0,
		"1_000":                0,
		"1s":                   0,
		"soon":                 0,

		"Sat, 21 Nov 2026 09:00:30 GMT":       30 * time.Second,
		"Saturday, 21-Nov-26 09:01:00 GMT":    time.Minute,
		"Sat Nov 21 09:02:00 2026":            2 * time.Minute,
		"Sat, 21 Nov 2026 09:00:30 UTC":       30 * time.Second,
		"Sat, 21 Nov 2026 09:00:30 Z":         30 * time.Second,
		"Sat, 21 Nov 2026 09:00:30 gmt":       30 * time.Second,
		"Saturday, 21-Nov-26 09:01:00 UTC":    time.Minute,
		"Sat, 21-Nov-2026 09:01:00 GMT":       time.Minute,
		"Sat, 21 Nov 2026 09:00:30 +0000":     30 * time.Second,
		"Sat, 21 Nov 2026 09:00:30 -0000":     30 * time.Second,
		"Sat, 21 Nov 2026 11:00:30 +0200":     30 * time.Second,
		"21 Nov 2026 09:00:30 GMT":            30 * time.Second,
		`"Sat, 21 Nov 2026 09:00:30 GMT"`:     30 * time.Second,
		"2026-11-21T09:00:30Z":                30 * time.Second,
		"2026-11-21T09:00:30.5Z":              30500 * time.Millisecond,
		"2026-11-21T10:00:30+01:00":           30 * time.Second,
		"2026-11-21 09:00:30 UTC":             30 * time.Second,
		"Sat, 21 Nov 2026 09:00:30 EST":       0, // an abbreviation that may mean several zones
		"Sat, 21 Nov 2026 08:59:59 GMT":       0,
		"Sat, 21 Nov 2026 08:59:59 UTC":       0,
		"Sat, 21 Nov 2026 09:00:00 GMT":       0,
		"Fri, 31 Dec 9999 23:59:59 GMT":       math.MaxInt64,
		"Mon, 01 Jan 0001 00:00:00 GMT":       0,
		"Sat, 21 Nov 2026 09:00:30 GMT, soon": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("Retry-After %q: %s, want %s", header, got, want)
		}
	}
	sunday := time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)
	if got := retryAfter("Sun, 1 Nov 2026 09:00:30 GMT", sunday); got != 30*time.Second {
		t.Errorf("a day of one digit: %s", got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, header := range []string{"3.5", "9999999999", "Sat, 21 Nov 2026 09:00:30 +0000", "-1", "1e400", "2026-11-21T09:00:30Z"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if got := retryAfter(header, time.Unix(0, 0)); got < 0 {
			t.Errorf("Retry-After %q: %s", header, got)
		}
	})
}
