package recent

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/retry"
)

func id(i int) string { return fmt.Sprintf("evt_%026d", i) }

func stored(i int) ingest.Report {
	return ingest.Report{
		Result: ingest.Stored, Status: 200, EventID: id(i), Type: "message_sent", Targets: []string{"crm", "billing"}, Filtered: []string{"audit"},
		Took: 1234567 * time.Nanosecond,
	}
}

func delivered(i int) forward.Attempt {
	return forward.Attempt{
		Target: "crm", Event: id(i), Type: "message_sent", Number: 1, Outcome: delivery.Outcome{Status: 204}, Took: 5 * time.Millisecond, Settled: true,
	}
}

func TestWhatIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New("pod-1")
		first := r.sequence + 1
		at := time.Now().UTC()
		r.Answered(stored(1))
		r.Answered(ingest.Report{Result: ingest.Refused, Reason: ingest.WrongToken, Status: 401})
		r.Finished(delivered(1))
		failed := forward.Attempt{
			Target: "billing", Event: id(1), Type: "message_sent", Number: 2, Outcome: delivery.Outcome{Status: 503}, Settled: true,
			Decision: retry.Decision{Verdict: retry.Again, Delay: 90 * time.Second},
		}
		r.Finished(failed)
		failed.Outcome = delivery.Outcome{Err: errors.New("secret address"), Class: contract.ErrorTimeout}
		failed.Decision = retry.Decision{Verdict: retry.GiveUp, Reason: "16 attempts failed, the last with 503"}
		r.Finished(failed)
		unsent := failed
		unsent.Number, unsent.Outcome, unsent.Decision.Reason = 0, delivery.Outcome{}, strings.Repeat("é", 100)
		r.Finished(unsent)
		failed.Interrupted, failed.Decision = true, retry.Decision{Verdict: retry.Again}
		r.Finished(failed)
		failed.Settled = false
		r.Finished(failed)
		failed.SettleErr = errors.New("redis did not confirm")
		r.Finished(failed)
		attempt := func(sequence uint64, o Outcome) Record {
			return Record{Sequence: first + sequence, Receiver: "pod-1", Time: at, Outcome: o, Event: id(1), Type: "message_sent", Target: "billing", Attempt: 2, Error: contract.ErrorTimeout}
		}
		dead, early := attempt(4, DeadLetter), attempt(5, DeadLetter)
		dead.Reason, early.Reason, early.Error, early.Attempt = "16 attempts failed, the last with 503", strings.Repeat("é", 40), "", 0
		again := attempt(3, Retry)
		again.Status, again.Error, again.RetryAt = 503, contract.ErrorServer, at.Add(90*time.Second)
		want := []Record{
			{
				Sequence: first, Receiver: "pod-1", Time: at, Outcome: Stored, Event: id(1), Type: "message_sent", Status: 200, TookMS: 1.234,
				Targets: []string{"crm", "billing"}, Filtered: []string{"audit"},
			},
			{Sequence: first + 1, Receiver: "pod-1", Time: at, Outcome: Refused, Reason: "token", Status: 401},
			{Sequence: first + 2, Receiver: "pod-1", Time: at, Outcome: Delivered, Event: id(1), Type: "message_sent", Status: 204, TookMS: 5, Target: "crm", Attempt: 1},
			again, dead, early, attempt(6, Interrupted), attempt(7, Superseded), attempt(8, Unsettled),
		}
		if diff := cmp.Diff(want, r.After(0, Filter{}, 100).Records); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for filter, sequences := range map[Filter][]uint64{
			{Outcome: Refused}:   {1},
			{Target: "crm"}:      {2, 0},
			{Target: "audit"}:    {0},
			{Target: "unknown"}:  nil,
			{Type: "chat_close"}: nil,
			{Event: id(1), Target: "billing", Outcome: DeadLetter}: {5, 4},
			{Event: id(2)}: nil,
		} {
			var got []uint64
			for _, record := range r.Latest(0, filter, 100).Records {
				got = append(got, record.Sequence-first)
			}
			if diff := cmp.Diff(sequences, got); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", filter, diff)
			}
		}
		s := r.Stats([]string{"crm", "billing", "idle"})
		if diff := cmp.Diff([]Target{
			{Name: "crm", Counts: Counts{Delivered: 1}, Latency: Latency{1, 5, 5}}, {Name: "billing", Counts: Counts{Failed: 2, DeadLetters: 2}, Latency: Latency{1, 0, 0}}, {Name: "idle"},
		}, s.Targets); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if s.Requests.Stored != 1 || s.Requests.Refused != 1 || s.Requests.RefusedBy[ingest.WrongToken] != 1 || s.Latency != (Latency{1, 1.234, 1.234}) {
			t.Errorf("%+v, %+v", s.Requests, s.Latency)
		}
		time.Sleep(59 * time.Minute)
		r.Answered(stored(2))
		if s := r.Stats([]string{"crm"}); len(s.Minutes) != 2 || s.Minutes[0].Targets["crm"] != (Counts{Delivered: 1}) || s.Minutes[1].Stored != 1 || s.Latency.Count != 1 {
			t.Errorf("an hour has %+v, and the latest latency is of %d", s.Minutes, s.Latency.Count)
		}
		time.Sleep(time.Minute)
		if s := r.Stats(nil); len(s.Minutes) != 1 {
			t.Errorf("an hour later there are still %d minutes", len(s.Minutes))
		}
	})
}

// Half of the attempts were at least as fast as the p50, and all but one in a hundred as the p99, in whatever order they came.
func TestPercentiles(t *testing.T) {
	t.Parallel()
	r := New("pod-1")
	for i := range 200 {
		attempt := delivered(i)
		attempt.Took = time.Duration(1+i*77%200) * time.Millisecond // 1 to 200 ms, each once
		r.Finished(attempt)
	}
	if got, want := r.Stats([]string{"crm"}).Targets[0].Latency, (Latency{200, 100, 198}); got != want {
		t.Errorf("the latency of 1 to 200 ms is %+v, want %+v", got, want)
	}
}

// Records that anyone can cause displace only their own kind, and a reader is notified of a gap.
func TestTheOldestAreDisplaced(t *testing.T) {
	t.Parallel()
	r := New("pod-1")
	first := r.sequence + 1
	r.Answered(stored(0))
	r.Finished(delivered(0))
	for range 2 * keptRefused {
		r.Answered(ingest.Report{Result: ingest.Refused, Reason: ingest.UnknownPath, Status: 404})
	}
	page := r.After(0, Filter{}, Kept)
	if len(page.Records) != 2+keptRefused || page.Records[0].Sequence != first || page.Gap {
		t.Errorf("%d records from %+v, gap %t", len(page.Records), page.Records[0], page.Gap)
	}
	if page := r.After(first, Filter{}, Kept); !page.Gap || len(page.Records) != 1+keptRefused {
		t.Errorf("behind the first: %d records, gap %t", len(page.Records), page.Gap)
	}
	if page := r.After(page.Next-1, Filter{}, Kept); page.Gap || len(page.Records) != 1 {
		t.Errorf("behind the last but one: %d records, gap %t", len(page.Records), page.Gap)
	}
	if page := r.After(page.Next+1000, Filter{}, Kept); !page.Gap || len(page.Records) != 2+keptRefused {
		t.Errorf("behind one that is not there yet: %d records, gap %t", len(page.Records), page.Gap)
	}
	for i := range 3 * keptRequests {
		r.Answered(stored(i))
	}
	latest := r.Latest(0, Filter{Outcome: Stored}, 2*Kept).Records
	if len(latest) != keptRequests || latest[0].Event != id(3*keptRequests-1) || latest[keptRequests-1].Event != id(2*keptRequests) {
		t.Errorf("%d requests, the latest %s", len(latest), latest[0].Event)
	}
}

func TestPagesJoin(t *testing.T) {
	t.Parallel()
	r := New("pod-1")
	for i := range 30 {
		r.Answered(stored(i))
		r.Finished(delivered(i))
	}
	at, got := r.lost, []Record(nil)
	for {
		page := r.After(at, Filter{Target: "crm"}, 7)
		got, at = append(got, page.Records...), page.Next
		select {
		case <-page.Changed:
			continue
		default:
		}
		r.Answered(stored(30))
		select {
		case <-page.Changed:
		default:
			t.Error("a new record is not announced")
		}
		break
	}
	if diff := cmp.Diff(r.After(0, Filter{}, 60).Records, got); diff != "" {
		t.Errorf("in pages (-want +got):\n%s", diff)
	}
}

// Names of targets change with the configuration: they are never mixed up, and do not accumulate.
func TestNamesOfTargetsAreBounded(t *testing.T) {
	t.Parallel()
	r := New("pod-1")
	for i := range 10 * mostNames {
		report, attempt := stored(i), delivered(i)
		report.Targets = []string{fmt.Sprint("a", i), fmt.Sprint("b", i)}
		attempt.Target = report.Targets[1]
		r.Answered(report)
		r.Finished(attempt)
		all := r.Latest(0, Filter{}, Kept).Records
		for _, record := range all {
			names := slices.Concat(record.Targets, []string{record.Target})
			if want := "b" + strings.TrimLeft(record.Event[4:len(record.Event)-1], "0") + record.Event[len(record.Event)-1:]; !slices.Contains(names, want) {
				t.Fatalf("a record of %s reads %q", want, names)
			}
		}
		latest := all[:2]
		if latest[0].Target != attempt.Target {
			t.Fatalf("%s reads as %s", attempt.Target, latest[0].Target)
		}
		if diff := cmp.Diff(append(report.Targets, "audit"), append(latest[1].Targets, latest[1].Filtered...)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
	if len(r.names) > mostNames {
		t.Errorf("%d names are kept", len(r.names))
	}
}

// A full ring with the longest values that can occur is less than 1 MiB.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := New(strings.Repeat("p", 63))
	for i := range 4 * Kept {
		eventType := fmt.Sprintf("%064d", i)
		targets := make([]string, mostTargets)
		for j := range targets {
			targets[j] = fmt.Sprintf("%063d", (i+j)%mostNames)
		}
		r.Answered(ingest.Report{Result: ingest.Stored, Status: 200, EventID: id(i), Type: eventType, Targets: targets[:8], Filtered: targets[8:], Took: math.MaxInt64})
		r.Answered(ingest.Report{Result: ingest.Refused, Status: 429, Reason: ingest.BacklogBytes, EventID: id(i), Type: eventType, Took: math.MaxInt64})
		r.Finished(forward.Attempt{
			Target: targets[0], Event: id(i), Type: eventType, Number: math.MaxInt32, Took: math.MaxInt64, Settled: true,
			Outcome: delivery.Outcome{Err: errors.New(strings.Repeat("e", 5000)), Class: contract.ErrorBlocked, Excerpt: strings.Repeat("x", 256)},
			Decision: retry.Decision{
				Verdict: []retry.Verdict{retry.Again, retry.GiveUp}[i%2], Delay: math.MaxInt64, Reason: fmt.Sprintf("%05000d", i),
			},
		})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := len(r.Latest(0, Filter{}, 2*Kept).Records); n != Kept {
		t.Errorf("the ring is not full: %d of %d", n, Kept)
	}
	bytes := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d bytes for %d records", bytes, Kept)
	if bytes >= 1<<20 {
		t.Errorf("a full ring takes %d bytes, want less than 1 MiB", bytes)
	}
	runtime.KeepAlive(r)
}

func TestRememberingAllocatesNothing(t *testing.T) {
	r := New("pod-1")
	report, attempt := stored(1), delivered(1)
	if n := testing.AllocsPerRun(1000, func() { r.Answered(report); r.Finished(attempt) }); n != 0 {
		t.Errorf("an event costs %v allocations", n)
	}
}

// An event with one delivery.
func BenchmarkEvent(b *testing.B) {
	r := New("pod-1")
	report, attempt := stored(1), delivered(1)
	b.ReportAllocs()
	for b.Loop() {
		r.Answered(report)
		r.Finished(attempt)
	}
}

// A Ring without other records accepts an attempt, and wakes waiting readers.
func TestAnAttemptAloneIsRemembered(t *testing.T) {
	t.Parallel()
	r := New("pod-1")
	page := r.After(0, Filter{}, 10)
	attempt := delivered(1)
	attempt.Target = "billing"
	r.Finished(attempt)
	select {
	case <-page.Changed:
	default:
		t.Error("an attempt is not announced")
	}
	if got := r.After(0, Filter{}, 10).Records; len(got) != 1 || got[0].Target != "billing" {
		t.Errorf("remembered %+v", got)
	}
}

func TestPagesBeginBehindTheirSequence(t *testing.T) {
	t.Parallel()
	r := New("pod-1")
	first := r.sequence + 1
	for i := range 3 {
		r.Answered(stored(i))
	}
	for sequence, want := range map[uint64]int{0: 3, first - 1: 3, first: 2, first + 2: 0} {
		after, latest := r.After(sequence, Filter{}, 10), r.Latest(sequence, Filter{}, 10)
		if len(after.Records) != want || len(latest.Records) != want || after.Gap || latest.Gap {
			t.Errorf("behind %d: %d and %d records, gap %t and %t; want %d", sequence, len(after.Records), len(latest.Records), after.Gap, latest.Gap, want)
		}
	}
	if page := r.Latest(first+3, Filter{}, 10); len(page.Records) != 3 || !page.Gap {
		t.Errorf("behind one that is not there yet: %d records, gap %t", len(page.Records), page.Gap)
	}
	for limit, want := range map[int]int{1: 1, 2: 2, 3: 3} {
		if got := len(r.Latest(0, Filter{}, limit).Records); got != want {
			t.Errorf("%d records of at most %d", got, limit)
		}
	}
}

// A request has room for the names of 16 targets, whichever they are.
func TestManyTargetsOfOneRequest(t *testing.T) {
	t.Parallel()
	r, report := New("pod-1"), stored(1)
	report.Targets, report.Filtered = nil, nil
	for i := range 10 {
		report.Targets, report.Filtered = append(report.Targets, fmt.Sprint("s", i)), append(report.Filtered, fmt.Sprint("f", i))
	}
	r.Answered(report)
	got := r.Latest(0, Filter{}, 1).Records[0]
	if diff := cmp.Diff([][]string{report.Targets, report.Filtered[:6]}, [][]string{got.Targets, got.Filtered}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// With more names than it keeps, a Ring forgets everything, and says so to its readers.
func TestForgetting(t *testing.T) {
	t.Parallel()
	r := New("pod-1")
	r.Finished(delivered(1))
	before := r.sequence
	for i := range mostNames {
		attempt := delivered(2)
		attempt.Target = fmt.Sprint("t", i)
		r.Finished(attempt)
	}
	if page := r.After(before, Filter{}, Kept); !page.Gap || len(page.Records) != 1 {
		t.Errorf("%d records, gap %t", len(page.Records), page.Gap)
	}
	if s := r.Stats([]string{"t63", "crm"}); s.Targets[0].Delivered != 1 || s.Targets[1].Delivered != 0 {
		t.Errorf("the figures of a name are those of another: %+v", s.Targets)
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New("pod-1")
		at := time.Now().UTC().Truncate(time.Minute)
		if got := r.Stats(nil).Requests.RefusedBy; len(got) != len(ingest.Reasons()) {
			t.Errorf("%d reasons, want all %d, with zero", len(got), len(ingest.Reasons()))
		}
		for _, ms := range []int{900, 100, 500, 300, 700} {
			report := stored(1)
			report.Took = time.Duration(ms) * time.Millisecond
			r.Answered(report)
		}
		failed := delivered(1)
		failed.Outcome.Status, failed.Decision = 503, retry.Decision{Verdict: retry.Again}
		r.Finished(failed)
		failed.Decision.Verdict = retry.GiveUp
		r.Finished(failed)
		time.Sleep(LatencyWindow) // to the microsecond
		s := r.Stats([]string{"crm"})
		if s.Latency != (Latency{5, 500, 700}) {
			t.Errorf("latency %+v", s.Latency)
		}
		if len(s.Minutes) != 1 || !s.Minutes[0].At.Equal(at) || s.Minutes[0].Targets["crm"] != (Counts{Failed: 2, DeadLetters: 1}) {
			t.Errorf("minutes %+v, want one at %s", s.Minutes, at)
		}
		time.Sleep(time.Minute)
		r.Answered(stored(2))
		if s := r.Stats(nil); len(s.Minutes) != 2 || !s.Minutes[0].At.Before(s.Minutes[1].At) {
			t.Errorf("minutes %+v, want the oldest first", s.Minutes)
		}
		if s := r.Stats(nil); s.Latency.Count != 1 {
			t.Errorf("the latency is that of %d requests, want those of %s", s.Latency.Count, LatencyWindow)
		}
	})
	if got := (Latency{3, 10, 50}).With(Latency{1, 30, 40}); got != (Latency{4, 15, 50}) {
		t.Errorf("two latencies together are %+v", got)
	}
	if got := (Latency{}).With(Latency{}); got != (Latency{}) {
		t.Errorf("no latencies together are %+v", got)
	}
	if got := (Counts{1, 2, 3}).With(Counts{10, 20, 30}); got != (Counts{11, 22, 33}) {
		t.Errorf("two counts together are %+v", got)
	}
}

func TestOutcomesOfRequests(t *testing.T) {
	t.Parallel()
	var names []string
	for i, o := range Outcomes() {
		names = append(names, string(o))
		if o.OfRequest() != (i < 4) {
			t.Errorf("%s is an outcome of a request: %t", o, o.OfRequest())
		}
	}
	if !slices.Equal(names, OutcomeNames()) {
		t.Errorf("the names are %q", OutcomeNames())
	}
}
