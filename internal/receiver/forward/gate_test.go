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

	"heymarket.dev/operator/internal/receiver/event"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// changes notes what a Gate says about its circuit.
type changes []string

func (c *changes) note(from, to Circuit) { *c = append(*c, fmt.Sprintf("%s>%s", from, to)) }

func TestGateOpensAndCloses(t *testing.T) {
	t.Parallel()
	var seen changes
	g, now := NewGate(0, seen.note), noon
	failed := event.Outcome{Err: errors.New("refused")}
	for i := range breakAfter {
		if n, _ := g.Admit(5, now); n != 5 || g.Circuit() != Closed {
			t.Fatalf("after %d failures: %d admitted, %s", i, n, g.Circuit())
		}
		g.Report(failed, now)
	}
	if g.Circuit() != Open {
		t.Fatalf("after %d failures in a row the circuit is %s", breakAfter, g.Circuit())
	}
	g.Report(failed, now) // a straggler changes nothing
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		pause *= time.Second
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
	}
	now = now.Add(time.Minute)
	g.Admit(1, now)
	g.Return(1) // there was no event to probe with
	if n, _ := g.Admit(1, now); n != 1 {
		t.Fatalf("a probe that was given back: %d admitted", n)
	}
	g.Report(event.Outcome{Status: 200}, now)
	if n, _ := g.Admit(32, now); n != 32 || g.Circuit() != Closed {
		t.Errorf("after a good answer: %d admitted, %s", n, g.Circuit())
	}
	for range breakAfter - 1 {
		g.Report(failed, now)
	}
	g.Report(event.Outcome{Status: 204}, now)
	g.Report(failed, now)
	if g.Circuit() != Closed {
		t.Error("failures that were not in a row open the circuit")
	}
	if diff := cmp.Diff(changes{"Closed>Open", "Open>Closed"}, seen); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestGateJudges(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		outcome event.Outcome
		want    Circuit
	}{
		{event.Outcome{Status: 200}, Closed},
		{event.Outcome{Status: 302}, Closed},
		{event.Outcome{Status: 400}, Closed}, // speaks of the event
		{event.Outcome{Status: 404}, Closed},
		{event.Outcome{Status: 409}, Closed},
		{event.Outcome{Status: 425}, Closed},
		{event.Outcome{Status: 408}, Open},
		{event.Outcome{Status: 429}, Open},
		{event.Outcome{Status: 500}, Open},
		{event.Outcome{Status: 503}, Open},
		{event.Outcome{Err: errors.New("refused")}, Open},
		{event.Outcome{Status: 410}, Gone},
	} {
		g := NewGate(0, nil)
		for range breakAfter {
			g.Report(tc.outcome, noon)
		}
		if got := g.Circuit(); got != tc.want {
			t.Errorf("ten times %+v: %s, want %s", tc.outcome, got, tc.want)
		}
	}
}

func TestGateGone(t *testing.T) {
	t.Parallel()
	var seen changes
	g, now := NewGate(0, seen.note), noon
	g.Report(event.Outcome{Status: 410}, now)
	for _, o := range []event.Outcome{{Status: 410}, {Status: 503}, {Err: errors.New("refused")}} {
		if n, wait := g.Admit(9, now); n != 0 || wait != goneProbe {
			t.Fatalf("%d admitted, ask again after %s, want %s", n, wait, goneProbe)
		}
		now = now.Add(goneProbe)
		if n, _ := g.Admit(9, now); n != 1 {
			t.Fatalf("after an hour: %d admitted, want one probe", n)
		}
		g.Report(o, now)
		if g.Circuit() != Gone {
			t.Fatalf("after %+v: %s", o, g.Circuit())
		}
	}
	g.Report(event.Outcome{Status: 200}, now)
	if diff := cmp.Diff(changes{"Closed>Gone", "Gone>Closed"}, seen); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestGateHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	for asked, want := range map[time.Duration]time.Duration{
		0: time.Second, 20 * time.Second: 20 * time.Second, 24 * time.Hour: time.Minute,
	} {
		g := NewGate(0, nil)
		for range breakAfter {
			g.Report(event.Outcome{Status: 503, RetryAfter: asked}, noon)
		}
		if _, wait := g.Admit(1, noon); wait != want {
			t.Errorf("Retry-After %s: ask again after %s, want %s", asked, wait, want)
		}
	}
}

// TestGateRate asks greedily for an hour: in no second there begin more attempts than the rate, and over all nearly as
// many, also where part of what is admitted is given back.
func TestGateRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{1, 3, 7, 100} {
		g, now := NewGate(rate, nil), noon
		var begun []time.Time
		for i := 0; now.Before(noon.Add(time.Minute)); i++ {
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
		if got := len(begun); got < 60*rate*95/100 || got > 60*rate+rate {
			t.Errorf("rate %d: %d in a minute", rate, got)
		}
		for i := range begun {
			// The burst that an idle second allows, and what that second yields.
			if j := i + 2*rate + 1; j < len(begun) && begun[j].Sub(begun[i]) < time.Second {
				t.Fatalf("rate %d: %d attempts within %s", rate, 2*rate+2, begun[j].Sub(begun[i]))
			}
		}
	}
}

// TestDeadTargetSpendsNoAttempts says that events wait for a dead target in their queue, and not in its retries.
func TestDeadTargetSpendsNoAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(30 * time.Minute)
		s := &sender{answer: func(context.Context, event.Event, int) event.Outcome {
			if time.Now().Before(back) {
				return event.Outcome{Err: errors.New("connection refused")}
			}
			return event.Outcome{Status: 200}
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
		_, stop := run(t, q, options(s, func(o *Options) { o.Gate = NewGate(5, nil) }))
		time.Sleep(10 * time.Second)
		if n := len(s.made()); n < 45 || n > 55 {
			t.Errorf("%d attempts in ten seconds at five a second", n)
		}
		stop()
		times := s.made()
		slices.SortFunc(times, func(a, b attempt) int { return a.at.Compare(b.at) })
		for i := 11; i < len(times); i++ {
			if d := times[i].at.Sub(times[i-11].at); d < time.Second {
				t.Fatalf("twelve attempts within %s", d)
			}
		}
	})
}

// TestOpenCircuitEndsAtOnce says that waiting for a probe holds up no shutdown.
func TestOpenCircuitEndsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		q.add(1)
		g := NewGate(0, nil)
		g.Report(event.Outcome{Status: 410}, time.Now())
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
