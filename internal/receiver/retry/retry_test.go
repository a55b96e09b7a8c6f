package retry

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
)

var policy = Policy{MaxAttempts: 5, MinBackoff: time.Second, MaxBackoff: 4 * time.Second, MaxAge: time.Hour}

func TestDecide(t *testing.T) {
	t.Parallel()
	failed := delivery.Outcome{Err: errors.New("connection refused by http://crm/secret-path")}
	const tooLate = "no attempt left within 1h0m0s, the last failed with an error"
	for _, tc := range []struct {
		name    string
		attempt int
		age     time.Duration
		outcome delivery.Outcome
		chance  float64
		want    Decision
	}{
		{"delivered", 1, 0, delivery.Outcome{Status: 200}, 0, Decision{Verdict: Done}},
		{"delivered by the last attempt, too late", 5, 2 * time.Hour, delivery.Outcome{Status: 204}, 0, Decision{Verdict: Done}},
		{"delivered, and asking for time", 1, 0, delivery.Outcome{Status: 202, RetryAfter: time.Hour}, 0, Decision{Verdict: Done}},
		{"a 2xx that broke off", 1, 0, delivery.Outcome{Status: 200, Err: errors.New("cut")}, 0, Decision{Verdict: Again, Delay: 500 * time.Millisecond}},

		{"first failure, least chance", 1, 0, failed, 0, Decision{Verdict: Again, Delay: 500 * time.Millisecond}},
		{"first failure, half of chance", 1, 0, failed, 0.5, Decision{Verdict: Again, Delay: 750 * time.Millisecond}},
		{"second failure", 2, 0, failed, 0, Decision{Verdict: Again, Delay: time.Second}},
		{"third failure", 3, 0, failed, 0, Decision{Verdict: Again, Delay: 2 * time.Second}},
		{"fourth failure, capped", 4, 0, failed, 0, Decision{Verdict: Again, Delay: 2 * time.Second}},
		{"the last attempt", 5, 0, failed, 0, Decision{Verdict: GiveUp, Reason: "5 attempts failed, the last with an error"}},
		{"the last attempt, answered", 5, 0, delivery.Outcome{Status: 503}, 0, Decision{Verdict: GiveUp, Reason: "5 attempts failed, the last with 503"}},
		{"the last attempt without an answer", 5, 0, delivery.Outcome{Err: errors.New("no such host"), Class: contract.ErrorNameLookup}, 0, Decision{Verdict: GiveUp, Reason: "5 attempts failed, the last with NameLookup"}},
		{"an attempt beyond the last", 9, 0, failed, 0, Decision{Verdict: GiveUp, Reason: "9 attempts failed, the last with an error"}},

		{"Retry-After beyond the backoff", 1, 0, delivery.Outcome{Status: 429, RetryAfter: time.Minute}, 0, Decision{Verdict: Again, Delay: time.Minute}},
		{"Retry-After below the backoff", 3, 0, delivery.Outcome{Status: 503, RetryAfter: time.Second}, 0, Decision{Verdict: Again, Delay: 2 * time.Second}},
		{"Retry-After up to the greatest age", 1, 30 * time.Minute, delivery.Outcome{Status: 503, RetryAfter: 30 * time.Minute}, 0, Decision{Verdict: Again, Delay: 30 * time.Minute}},
		{"Retry-After beyond the greatest age", 1, 30 * time.Minute, delivery.Outcome{Status: 503, RetryAfter: 30*time.Minute + 1}, 0, Decision{Verdict: Again, Delay: 30 * time.Minute}},
		{"Retry-After in the year 9999", 1, time.Second, delivery.Outcome{Status: 503, RetryAfter: math.MaxInt64}, 0, Decision{Verdict: Again, Delay: time.Hour - time.Second}},
		{"Retry-After in the year 9999, from a clock behind", 1, -time.Second, delivery.Outcome{Status: 503, RetryAfter: math.MaxInt64}, 0, Decision{Verdict: Again, Delay: time.Hour}},
		{"Retry-After on a refusal", 1, 0, delivery.Outcome{Status: 400, RetryAfter: time.Second}, 0, Decision{Verdict: GiveUp, Reason: "the target refused it with 400"}},

		{"too old", 1, time.Hour, failed, 0, Decision{Verdict: GiveUp, Reason: tooLate}},
		{"just not too old", 1, time.Hour - 500*time.Millisecond, failed, 0, Decision{Verdict: Again, Delay: 500 * time.Millisecond}},
		{"very old, as an entry without a time is", 1, math.MaxInt64, failed, 0, Decision{Verdict: GiveUp, Reason: tooLate}},
		{"from the future, as clocks disagree", 1, -time.Hour, failed, 0, Decision{Verdict: Again, Delay: 500 * time.Millisecond}},
		{"from the far future", 1, math.MinInt64, failed, 0, Decision{Verdict: Again, Delay: 500 * time.Millisecond}},
		{"a redirect", 1, 0, delivery.Outcome{Status: 302}, 0, Decision{Verdict: GiveUp, Reason: "the target refused it with 302"}},
		{"not found", 1, 0, delivery.Outcome{Status: 404}, 0, Decision{Verdict: GiveUp, Reason: "the target refused it with 404"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := policy.Decide(tc.attempt, tc.age, tc.outcome, tc.chance)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Decide (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheOnlyAttempt(t *testing.T) {
	t.Parallel()
	got := Policy{MaxAttempts: 1, MaxAge: time.Hour}.Decide(1, 0, delivery.Outcome{Status: 503}, 0)
	if want := "1 attempt failed, the last with 503"; got.Reason != want {
		t.Errorf("the reason is %q, want %q", got.Reason, want)
	}
}

// The list of recent events has room for 80 bytes.
func TestReasonsAreShort(t *testing.T) {
	t.Parallel()
	for _, class := range contract.ErrorClasses() {
		for _, p := range []Policy{{MaxAttempts: 100, MaxAge: 720 * time.Hour}, {MaxAttempts: 1000, MaxAge: 720*time.Hour - 1}} {
			for attempt, age := range map[int]time.Duration{100: 0, 1: p.MaxAge} {
				got := p.Decide(attempt, age, delivery.Outcome{Err: errors.New("failed"), Class: class}, 0)
				if len(got.Reason) > 80 {
					t.Errorf("%q has %d bytes", got.Reason, len(got.Reason))
				}
			}
		}
	}
}

func TestRetryable(t *testing.T) {
	t.Parallel()
	for _, statuses := range [][]int{nil, {}, {404, 423}} {
		p := policy
		p.Statuses = statuses
		for status := 100; status < 600; status++ {
			want := status >= 500 || slices.Contains(statuses, status)
			switch status {
			case 408, 409, 410, 425, 429:
				want = true
			}
			o := delivery.Outcome{Status: status}
			if got := p.Retryable(status); got != want {
				t.Errorf("with %v: Retryable(%d) = %t, want %t", statuses, status, got, want)
			}
			if got := p.Failing(o); got != (want && status != 409 && status != 425) {
				t.Errorf("with %v: Failing(%d) = %t", statuses, status, got)
			}
			verdict := p.Decide(1, 0, o, 0.5).Verdict
			switch {
			case status/100 == 2 && verdict != Done, status/100 != 2 && want && verdict != Again, status/100 != 2 && !want && verdict != GiveUp:
				t.Errorf("with %v: Decide on %d: verdict %v", statuses, status, verdict)
			}
		}
		if !p.Failing(delivery.Outcome{Err: errors.New("refused")}) {
			t.Error("an attempt without an answer does not count as a failure")
		}
	}
}

// TestSchedule runs the default schedule to its end: sixteen attempts, none later than the maximum age.
func TestSchedule(t *testing.T) {
	t.Parallel()
	p := Policy{MaxAttempts: 16, MinBackoff: time.Second, MaxBackoff: 10 * time.Minute, MaxAge: 24 * time.Hour}
	var age time.Duration
	for attempt := 1; ; attempt++ {
		d := p.Decide(attempt, age, delivery.Outcome{Status: 500}, 0.999999)
		if d.Verdict == GiveUp {
			if attempt != 16 {
				t.Errorf("given up after attempt %d: %s", attempt, d.Reason)
			}
			break
		}
		age += d.Delay
	}
	if want := 4023 * time.Second; age < want-time.Second || age > want { // ten delays that double, and five of ten minutes
		t.Errorf("the schedule ends after %s", age)
	}
}

// FuzzDecide holds for every policy, age, outcome and chance: a delay is within its bounds, honours Retry-After, never
// leads past the greatest age, and does not shrink from attempt to attempt.
func FuzzDecide(f *testing.F) {
	f.Add(16, int64(time.Second), int64(10*time.Minute), int64(24*time.Hour), 3, int64(time.Minute), 500, int64(0), 0.5)
	f.Add(1, int64(1), int64(1), int64(1), 1, int64(0), 0, int64(1), 0.0)
	f.Add(math.MaxInt, int64(1), int64(math.MaxInt64), int64(math.MaxInt64), 70, int64(0), 429, int64(math.MaxInt64), 0.999)
	f.Add(100, int64(math.MaxInt64/2+1), int64(math.MaxInt64), int64(math.MaxInt64), 3, int64(math.MinInt64), 503, int64(0), 0.999)
	f.Fuzz(func(t *testing.T, maxAttempts int, minBackoff, maxBackoff, maxAge int64, attempt int, age int64, status int, retryAfter int64, chance float64) {
		if maxAttempts < 1 || minBackoff < 1 || maxBackoff < minBackoff || maxAge < 1 || attempt < 1 || attempt > 10_000 ||
			retryAfter < 0 || !(chance >= 0 && chance < 1) {
			return
		}
		p := Policy{
			MaxAttempts: maxAttempts, MinBackoff: time.Duration(minBackoff), MaxBackoff: time.Duration(maxBackoff), MaxAge: time.Duration(maxAge),
			Statuses: []int{404},
		}
		o := delivery.Outcome{Status: status, RetryAfter: time.Duration(retryAfter)}
		d := p.Decide(attempt, time.Duration(age), o, chance)
		switch d.Verdict {
		case Done:
			if !o.Delivered() || d != (Decision{Verdict: Done}) {
				t.Fatalf("done: %+v after %+v", d, o)
			}
		case GiveUp:
			if o.Delivered() || d.Delay != 0 || d.Reason == "" || strings.ContainsAny(d.Reason, "\n/") {
				t.Fatalf("given up: %+v after %+v", d, o)
			}
		case Again:
			if o.Delivered() || !p.Retryable(status) || attempt >= maxAttempts || d.Reason != "" {
				t.Fatalf("again: %+v after %+v, attempt %d of %d", d, o, attempt, maxAttempts)
			}
			if d.Delay < min(o.RetryAfter, p.MaxAge-max(time.Duration(age), 0)) {
				t.Fatalf("delay %s is shorter than Retry-After %s", d.Delay, o.RetryAfter)
			}
			if age >= 0 && (d.Delay > p.MaxAge || time.Duration(age) > p.MaxAge-d.Delay) {
				t.Fatalf("delay %s at age %s leads past %s", d.Delay, time.Duration(age), p.MaxAge)
			}
		default:
			t.Fatalf("verdict %v", d.Verdict)
		}
		// The schedule alone. A float64 holds 53 bits: beyond a hundred days the last nanoseconds are not exact.
		low, high, last := p.backoff(attempt, 0), p.backoff(attempt, math.Nextafter(1, 0)), p.backoff(attempt+1, 0)
		if low < p.MinBackoff/2 || high < low || last < low || float64(high) > float64(p.MaxBackoff)*(1+1e-9) {
			t.Fatalf("attempt %d: delays of %s to %s, then %s, for %+v", attempt, low, high, last, p)
		}
		if double := p.backoff(attempt, 0); float64(high) > 2*float64(double)*(1+1e-9)+2 {
			t.Fatalf("attempt %d: chance spreads from %s to %s", attempt, double, high)
		}
	})
}
