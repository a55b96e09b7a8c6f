package forward

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/retry"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// changes records a Gate's changes of its circuit.
type changes []string

func (c *changes) note(from, to contract.Circuit) { *c = append(*c, fmt.Sprintf("%s>%s", from, to)) }

// breakCircuit makes a target fail until its circuit is open, and returns when that was.
func breakCircuit(t *testing.T, g *Gate, o delivery.Outcome, now time.Time) time.Time {
	t.Helper()
	for range 1000 {
		n, wait := g.Admit(1, now)
		if n == 0 {
			now = now.Add(wait)
			continue
		}
		if g.Report(o, now); g.Circuit() == contract.CircuitOpen {
			return now
		}
	}
	t.Fatalf("a target that always fails with %+v has the circuit %s", o, g.Circuit())
	return now
}

func TestGateOpensAndCloses(t *testing.T) {
	t.Parallel()
	var seen changes
	g, now := NewGate(0, retry.Policy{}, seen.note), noon
	failed := delivery.Outcome{Err: errors.New("refused")}
	for i := range holdAfter {
		if n, _ := g.Admit(5, now); n != 5 || g.Circuit() != contract.CircuitClosed {
			t.Fatalf("after %d failures: %d admitted, %s", i, n, g.Circuit())
		}
		g.Report(failed, now)
	}
	attempts := holdAfter
	for pause := shortestPause; g.Circuit() == contract.CircuitClosed; pause *= 2 {
		if n, wait := g.Admit(5, now); n != 0 || wait != pause {
			t.Fatalf("while the target is held: %d admitted, ask again after %s, want %s", n, wait, pause)
		}
		if at := g.Held(); !at.Equal(now.Add(pause)) {
			t.Fatalf("held until %s, want %s", at, now.Add(pause))
		}
		now = now.Add(pause)
		if n, _ := g.Admit(5, now); n != 1 {
			t.Fatalf("after %s: %d admitted, want one attempt", pause, n)
		}
		g.Report(failed, now)
		attempts++
	}
	if took := now.Sub(noon); took < openAfter || took > 2*openAfter || attempts > 20 {
		t.Errorf("the circuit opened after %s and %d attempts", took, attempts)
	}
	g.Report(failed, now) // a straggler changes nothing
	_, pause := g.Admit(5, now)
	if pause < firstProbe {
		t.Errorf("the first pause of an open circuit is %s", pause)
	}
	for range 6 {
		if n, wait := g.Admit(5, now); n != 0 || wait != pause {
			t.Fatalf("%d admitted, ask again after %s, want %s", n, wait, pause)
		}
		now = now.Add(pause)
		if n, _ := g.Admit(5, now); n != 1 {
			t.Fatalf("after %s: %d admitted, want one probe", pause, n)
		}
		if n, wait := g.Admit(5, now); n != 0 || wait != waitForAnswer {
			t.Fatalf("during a probe: %d admitted, ask again after %s", n, wait)
		}
		g.Report(failed, now)
		pause = min(2*pause, slowestProbe)
	}
	now = now.Add(time.Minute)
	g.Admit(1, now)
	g.Return(1) // there was no event to probe with
	if n, _ := g.Admit(1, now); n != 1 {
		t.Fatalf("a probe that was given back: %d admitted", n)
	}
	g.Report(delivery.Outcome{Status: 200}, now)
	if n, _ := g.Admit(32, now); n != 32 || g.Circuit() != contract.CircuitClosed || !g.Held().IsZero() {
		t.Errorf("after a good answer: %d admitted, %s, held until %s", n, g.Circuit(), g.Held())
	}
	if diff := cmp.Diff(changes{"Closed>Open", "Open>Closed"}, seen); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestGateIsNotOpenedByABurst makes many attempts fail at once, at a target that was healthy, idle or failing intermittently.
func TestGateIsNotOpenedByABurst(t *testing.T) {
	t.Parallel()
	failed, good := delivery.Outcome{Status: 503}, delivery.Outcome{Status: 200}
	for name, before := range map[string]func(g *Gate){
		"idle before": func(*Gate) {},
		"well before": func(g *Gate) {
			for i := range 200 {
				g.Report(good, noon.Add(time.Duration(i-200)*10*time.Millisecond))
			}
		},
		"one failure and few events before": func(g *Gate) {
			g.Report(failed, noon.Add(-9*time.Second))
			g.Report(good, noon.Add(-6*time.Second))
			g.Report(good, noon.Add(-5*time.Second))
		},
		"few good events before": func(g *Gate) {
			g.Report(good, noon.Add(-9*time.Second))
			g.Report(good, noon.Add(-8*time.Second))
		},
	} {
		var seen changes
		g := NewGate(0, retry.Policy{}, seen.note)
		before(g)
		now := noon
		for i := range 1000 {
			now = noon.Add(time.Duration(i) * 50 * time.Microsecond)
			g.Report(failed, now)
		}
		if n, wait := g.Admit(32, now.Add(shortestPause)); n != 1 || wait != 0 {
			t.Errorf("%s: after a burst of failures %d are admitted, ask again after %s; want one attempt within %s", name, n, wait, shortestPause)
		}
		g.Report(good, now.Add(shortestPause))
		if n, _ := g.Admit(32, now.Add(shortestPause)); n != 32 || len(seen) != 0 {
			t.Errorf("%s: after the first good answer %d are admitted; changes %v", name, n, seen)
		}
	}
}

// TestGateJudgesAShare makes a share of the attempts fail: a half and three quarters leave the circuit closed, nine tenths open
// it.
func TestGateJudgesAShare(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		of   int // this many attempts, one of them is good
		want contract.Circuit
	}{{2, contract.CircuitClosed}, {3, contract.CircuitClosed}, {4, contract.CircuitClosed}, {10, contract.CircuitOpen}, {20, contract.CircuitOpen}} {
		for _, every := range []time.Duration{5 * time.Millisecond, 100 * time.Millisecond, 5 * time.Second, 10 * time.Minute} {
			g, now, opened := NewGate(0, retry.Policy{}, nil), noon, false
			for i := range 5000 {
				n, wait := g.Admit(1, now)
				for n == 0 {
					now = now.Add(wait)
					n, wait = g.Admit(1, now)
				}
				o := delivery.Outcome{Status: 503}
				if i%tc.of == 0 {
					o.Status = 200
				}
				now = now.Add(every)
				g.Report(o, now)
				opened = opened || g.Circuit() == contract.CircuitOpen
			}
			if opened != (tc.want == contract.CircuitOpen) {
				t.Errorf("one good answer of %d, one each %s: opened %t, want %s", tc.of, every, opened, tc.want)
			}
		}
	}
}

// TestGateDampsChanges has a target that answers one probe and fails again, for an hour.
func TestGateDampsChanges(t *testing.T) {
	t.Parallel()
	var seen changes
	g, now := NewGate(0, retry.Policy{}, seen.note), noon
	for now.Before(noon.Add(time.Hour)) {
		n, wait := g.Admit(4, now)
		if n == 0 {
			now = now.Add(wait)
			continue
		}
		now = now.Add(time.Millisecond)
		for range n {
			if g.Circuit() == contract.CircuitOpen {
				g.Report(delivery.Outcome{Status: 200}, now)
			} else {
				g.Report(delivery.Outcome{Status: 503}, now)
			}
		}
	}
	if len(seen) > 140 {
		t.Errorf("%d changes of the circuit in an hour", len(seen))
	}
}

func TestGateJudges(t *testing.T) {
	t.Parallel()
	policy := retry.Policy{Statuses: []int{404}}
	for _, tc := range []struct {
		outcome delivery.Outcome
		want    contract.Circuit
	}{
		{delivery.Outcome{Status: 200}, contract.CircuitClosed},
		{delivery.Outcome{Status: 302}, contract.CircuitClosed},
		{delivery.Outcome{Status: 400}, contract.CircuitClosed}, // speaks of the event
		{delivery.Outcome{Status: 403}, contract.CircuitClosed},
		{delivery.Outcome{Status: 409}, contract.CircuitClosed},
		{delivery.Outcome{Status: 425}, contract.CircuitClosed},
		{delivery.Outcome{Status: 404}, contract.CircuitOpen},
		{delivery.Outcome{Status: 408}, contract.CircuitOpen},
		{delivery.Outcome{Status: 429}, contract.CircuitOpen},
		{delivery.Outcome{Status: 500}, contract.CircuitOpen},
		{delivery.Outcome{Status: 503}, contract.CircuitOpen},
		{delivery.Outcome{Err: errors.New("refused")}, contract.CircuitOpen},
		{delivery.Outcome{Status: 410}, contract.CircuitGone},
	} {
		g := NewGate(0, policy, nil)
		for i := range 20 {
			g.Report(tc.outcome, noon.Add(time.Duration(i)*time.Second))
		}
		if got := g.Circuit(); got != tc.want {
			t.Errorf("%+v for twenty seconds: %s, want %s", tc.outcome, got, tc.want)
		}
	}
}

func TestGateGone(t *testing.T) {
	t.Parallel()
	var seen changes
	g, now := NewGate(0, retry.Policy{}, seen.note), noon
	g.Report(delivery.Outcome{Status: 410}, now)
	for _, o := range []delivery.Outcome{{Status: 410}, {Status: 503}, {Err: errors.New("refused")}} {
		if n, wait := g.Admit(9, now); n != 0 || wait != goneProbe {
			t.Fatalf("%d admitted, ask again after %s, want %s", n, wait, goneProbe)
		}
		now = now.Add(goneProbe)
		if n, _ := g.Admit(9, now); n != 1 {
			t.Fatalf("after an hour: %d admitted, want one probe", n)
		}
		g.Report(o, now)
		if g.Circuit() != contract.CircuitGone {
			t.Fatalf("after %+v: %s", o, g.Circuit())
		}
	}
	g.Report(delivery.Outcome{Status: 200}, now)
	if diff := cmp.Diff(changes{"Closed>Gone", "Gone>Closed"}, seen); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestGateHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	for asked, want := range map[time.Duration]time.Duration{
		20 * time.Second: 20 * time.Second, 24 * time.Hour: time.Minute,
	} {
		g := NewGate(0, retry.Policy{}, nil)
		for range holdAfter {
			g.Report(delivery.Outcome{Status: 503, RetryAfter: asked}, noon)
		}
		if _, wait := g.Admit(1, noon); wait != want {
			t.Errorf("Retry-After %s, held: ask again after %s, want %s", asked, wait, want)
		}
		now := breakCircuit(t, g, delivery.Outcome{Status: 503, RetryAfter: asked}, noon)
		if _, wait := g.Admit(1, now); wait != want {
			t.Errorf("Retry-After %s, open: ask again after %s, want %s", asked, wait, want)
		}
	}
}

// TestGateRate asks greedily: in no second do more attempts start than the rate plus a tenth, and in total nearly as many as the
// rate, even if some admissions are returned. The same holds after an idle hour.
func TestGateRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{1, 3, 7, 100} {
		for _, idle := range []time.Duration{0, time.Hour} {
			g := NewGate(rate, retry.Policy{}, nil)
			g.Admit(1, noon)
			start := noon.Add(idle)
			now := start
			var begun []time.Time
			for i := 0; now.Before(start.Add(time.Minute)); i++ {
				n, wait := g.Admit(8, now)
				if n == 0 && wait <= 0 {
					t.Fatalf("rate %d: nothing admitted, and to be asked again at once", rate)
				}
				if n > 1 && i%3 == 0 {
					g.Return(1)
					n--
				}
				for range n {
					begun = append(begun, now)
				}
				if n > 0 {
					wait = time.Millisecond
				}
				now = now.Add(wait)
			}
			if got := len(begun); got < 60*rate*95/100 || got > 61*rate {
				t.Errorf("rate %d, after %s: %d in a minute", rate, idle, got)
			}
			for i := range begun {
				if j := i + rate + rate/burstShare + 1; j < len(begun) && begun[j].Sub(begun[i]) < time.Second-time.Millisecond {
					t.Fatalf("rate %d, after %s: %d attempts within %s", rate, idle, j-i+1, begun[j].Sub(begun[i]))
				}
			}
		}
	}
}

// An early caller waits for the rest of an attempt's time and no longer.
func TestGateRateNamesTheRestOfTheWait(t *testing.T) {
	t.Parallel()
	g := NewGate(2, retry.Policy{}, nil)
	g.Admit(1, noon)
	if n, wait := g.Admit(1, noon.Add(200*time.Millisecond)); n != 0 || wait.Round(time.Microsecond) != 300*time.Millisecond {
		t.Errorf("200 ms after an attempt, of which two a second may begin: %d admitted, ask again after %s", n, wait)
	}
}

// A returned admission can be used again at once.
func TestGateRateTakesBack(t *testing.T) {
	t.Parallel()
	g := NewGate(1, retry.Policy{}, nil)
	g.Admit(1, noon)
	g.Return(1)
	if n, _ := g.Admit(1, noon); n != 1 {
		t.Error("an attempt that was not made counts against the rate")
	}
}

// A target that failed a while ago, and was healthy for long enough since, gets its full openAfter from the new failures on.
func TestGateForgetsOldFailures(t *testing.T) {
	t.Parallel()
	g, now := NewGate(0, retry.Policy{}, nil), noon
	report := func(n, status int) {
		for range n {
			g.Report(delivery.Outcome{Status: status}, now)
		}
	}
	report(85, 503)
	report(15, 200)
	now = now.Add(time.Minute)
	report(windowLeast, 503)
	if g.Circuit() != contract.CircuitClosed {
		t.Error("the circuit opens at the first failures")
	}

	// The same where the window is no longer a failing one by a good answer, and is one again by the next failure.
	g, now = NewGate(0, retry.Policy{}, nil), noon
	report(12, 503)
	report(3, 200)
	now = now.Add(openAfter + time.Second)
	report(1, 503)
	if !g.recent.failing(now) || g.Circuit() != contract.CircuitClosed {
		t.Errorf("after one new failure the target counts as failing: %t, its circuit is %s", g.recent.failing(now), g.Circuit())
	}
}

// TestDeadTargetSpendsNoAttempts checks that events wait for a dead target in their queue, and not in its retries.
func TestDeadTargetSpendsNoAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(30 * time.Minute)
		s := &sender{answer: func(context.Context, event.Event, int) delivery.Outcome {
			if time.Now().Before(back) {
				return delivery.Outcome{Err: errors.New("connection refused")}
			}
			return delivery.Outcome{Status: 200}
		}}
		q := &fakeQueue{}
		q.add(500)
		_, stop := run(t, q, options(s, func(o *Options) {
			o.Policy.MaxAttempts, o.Policy.MaxAge = 50, 24*time.Hour
		}))
		time.Sleep(30 * time.Minute)
		if n := len(s.made()); n > 60 {
			t.Errorf("%d attempts at a target that is dead for half an hour", n)
		}
		time.Sleep(15 * time.Minute)
		stop()
		if done, dead := q.count("Done"), q.count("Dead"); done != 500 || dead != 0 {
			t.Errorf("%d delivered, %d dead after the target came back", done, dead)
		}
	})
}

func TestRatePerSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := &fakeQueue{}, &sender{answer: slow(time.Millisecond)}
		q.add(100)
		_, stop := run(t, q, options(s, func(o *Options) { o.Gate = NewGate(5, retry.Policy{}, nil) }))
		time.Sleep(10 * time.Second)
		if n := len(s.made()); n < 45 || n > 55 {
			t.Errorf("%d attempts in ten seconds at five a second", n)
		}
		stop()
		times := s.made()
		slices.SortFunc(times, func(a, b attempt) int { return a.at.Compare(b.at) })
		for i := 6; i < len(times); i++ {
			if d := times[i].at.Sub(times[i-6].at); d < time.Second {
				t.Fatalf("seven attempts within %s", d)
			}
		}
	})
}

// TestOpenCircuitEndsAtOnce checks that waiting for a probe does not delay a shutdown.
func TestOpenCircuitEndsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		q.add(1)
		g := NewGate(0, retry.Policy{}, nil)
		g.Report(delivery.Outcome{Status: 410}, time.Now())
		_, stop := run(t, q, options(&sender{answer: always(200)}, func(o *Options) { o.Gate = g }))
		time.Sleep(time.Minute)
		begin := time.Now()
		stop()
		if took := time.Since(begin); took != 0 {
			t.Errorf("ended after %s", took)
		}
		if len(q.settlements()) != 0 {
			t.Error("an event was sent to a target that is gone")
		}
	})
}

// TestConversationFlows has one conversation: an event follows as soon as the previous one is settled, not at the next poll.
func TestConversationFlows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{ordered: 1}
		q.add(20)
		begin := time.Now()
		_, stop := run(t, q, options(&sender{answer: slow(time.Millisecond)}))
		for q.count("Done") < 20 {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(begin); took > pollInterval {
			t.Errorf("20 events of 1 ms took %s", took)
		}
		stop()
	})
}

// TestConcurrencyAloneCostsNothing covers two cases of many simultaneous failures at a healthy target: one that refuses the
// first attempt at each event of twelve conversations, and one that fails briefly while many attempts are in flight.
func TestConcurrencyAloneCostsNothing(t *testing.T) {
	t.Parallel()
	t.Run("each first attempt fails", func(t *testing.T) {
		t.Parallel()
		for _, status := range []int{503, 409} {
			synctest.Test(t, func(t *testing.T) {
				var seen changes
				s := &sender{answer: func(_ context.Context, _ event.Event, n int) delivery.Outcome {
					time.Sleep(time.Millisecond)
					if n == 1 {
						return delivery.Outcome{Status: status}
					}
					return delivery.Outcome{Status: 200}
				}}
				q := &fakeQueue{}
				q.add(1200)
				q.ordered = 12
				begin := time.Now()
				_, stop := run(t, q, options(s, func(o *Options) {
					o.MaxInFlight = 32
					o.Gate = NewGate(0, retry.Policy{}, seen.note)
					o.Policy = retry.Policy{MaxAttempts: 16, MinBackoff: 10 * time.Millisecond, MaxBackoff: time.Second, MaxAge: time.Hour}
				}))
				for q.count("Done") < 1200 {
					time.Sleep(10 * time.Millisecond)
				}
				took := time.Since(begin)
				stop()
				t.Logf("%d: 1,200 events in %s, %d changes of the circuit", status, took, len(seen))
				if took > 3*time.Second || len(seen) != 0 {
					t.Errorf("%d: 1,200 events took %s, the circuit changed %v", status, took, seen)
				}
			})
		}
	})
	t.Run("a hiccup", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var seen changes
			begin := time.Now()
			s := &sender{answer: func(context.Context, event.Event, int) delivery.Outcome {
				at := time.Since(begin)
				time.Sleep(time.Millisecond)
				if at >= 100*time.Millisecond && at < 150*time.Millisecond {
					return delivery.Outcome{Status: 503}
				}
				return delivery.Outcome{Status: 200}
			}}
			q := &fakeQueue{}
			q.add(5000)
			_, stop := run(t, q, options(s, func(o *Options) {
				o.MaxInFlight = 32
				o.Gate = NewGate(0, retry.Policy{}, seen.note)
				o.Policy = retry.Policy{MaxAttempts: 16, MinBackoff: 10 * time.Millisecond, MaxBackoff: time.Second, MaxAge: time.Hour}
			}))
			for q.count("Done") < 5000 {
				time.Sleep(time.Millisecond)
			}
			took := time.Since(begin)
			stop()
			t.Logf("5,000 events in %s, %d changes of the circuit", took, len(seen))
			if took > 500*time.Millisecond || len(seen) != 0 {
				t.Errorf("5,000 events took %s, the circuit changed %v", took, seen)
			}
		})
	})
}

// A circuit opens when its target has failed for exactly openAfter. If it opens again within reopening of its last success, probes
// resume at their last pause, and later they start over.
func TestGateResumesItsPauses(t *testing.T) {
	t.Parallel()
	for healthy, want := range map[time.Duration]time.Duration{reopening - openAfter - 1: slowestProbe, reopening - openAfter: firstProbe} {
		g := NewGate(0, retry.Policy{}, nil)
		open := func(now time.Time) time.Time {
			for range windowLeast - 1 { // too few to be held back
				g.Report(delivery.Outcome{Status: 503}, now)
			}
			if g.Circuit() != contract.CircuitClosed {
				t.Fatal("the circuit is open before its target has failed for long enough")
			}
			now = now.Add(openAfter)
			if g.Report(delivery.Outcome{Status: 503}, now); g.Circuit() != contract.CircuitOpen {
				t.Fatalf("after %s of failures the circuit is %s", openAfter, g.Circuit())
			}
			return now
		}
		now := open(noon)
		for range 10 {
			now = now.Add(slowestProbe)
			g.Report(delivery.Outcome{Status: 503}, now)
		}
		now = now.Add(slowestProbe)
		g.Report(delivery.Outcome{Status: 200}, now)
		now = open(now.Add(healthy))
		if _, wait := g.Admit(1, now); wait != want {
			t.Errorf("a target that was healthy for %s is probed again after %s, want %s", healthy, wait, want)
		}
	}
}

// Outcomes count for exactly windowAge.
func TestGateJudgesByTheLatestOutcomes(t *testing.T) {
	t.Parallel()
	var w window
	for range windowLeast {
		w.add(false, noon)
	}
	for range windowLeast {
		w.add(true, noon.Add(windowAge))
	}
	if w.failing(noon.Add(windowAge)) || !w.failing(noon.Add(windowAge+1)) {
		t.Errorf("ten good outcomes count after %s: %t; and later: %t", windowAge, !w.failing(noon.Add(windowAge)), !w.failing(noon.Add(windowAge+1)))
	}
}

// What opens a circuit is counted from the first failure, and nine failures are too few to judge by.
func TestGateCountsFromTheFirstFailure(t *testing.T) {
	t.Parallel()
	g := NewGate(0, retry.Policy{}, nil)
	for i := range windowLeast {
		if g.recent.failing(noon.Add(time.Duration(i)*time.Second)) || g.Circuit() != contract.CircuitClosed {
			t.Errorf("after %d failures the target counts as failing, its circuit is %s", i, g.Circuit())
		}
		g.Report(delivery.Outcome{Status: 503}, noon.Add(time.Duration(i)*time.Second))
	}
	if g.Circuit() != contract.CircuitOpen {
		t.Errorf("after %d failures in %d seconds the circuit is %s", windowLeast, windowLeast-1, g.Circuit())
	}
}

// A target that fails often, and never often in a row, is not held back before its circuit opens.
func TestShortRunsOfFailuresHoldNothingBack(t *testing.T) {
	t.Parallel()
	g, now := NewGate(0, retry.Policy{}, nil), noon
	for i := range 90 {
		if n, _ := g.Admit(5, now); n != 5 || !g.Held().IsZero() {
			t.Fatalf("after %d outcomes %d of 5 attempts are admitted, and they are held until %s", i, n, g.Held())
		}
		g.Return(4)
		status := 503
		if i%6 == 0 {
			status = 200
		}
		g.Report(delivery.Outcome{Status: status}, now)
		now = now.Add(openAfter / 100)
	}
}
