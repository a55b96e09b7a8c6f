package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/recent"
	"heymarket.dev/operator/internal/receiver/retry"
)

// pods is a place with receivers that come and go. Only what a feed needs is there.
type pods struct {
	place
	mu    sync.Mutex
	rings map[string]*recent.Ring
	at    map[string]*httptest.Server
}

func newPods() *pods {
	return &pods{rings: map[string]*recent.Ring{}, at: map[string]*httptest.Server{}}
}

func (p *pods) start(name string) *recent.Ring {
	p.mu.Lock()
	defer p.mu.Unlock()
	ring := recent.New("the consumer of " + name) // the feed names Pods
	circuit := contract.CircuitOpen
	if strings.HasPrefix(name, "well") {
		circuit = contract.CircuitClosed
	}
	p.rings[name] = ring
	p.at[name] = httptest.NewServer(admin.Handler(admin.Options{
		Recent: ring, Names: func() []string { return []string{"crm"} },
		Targets: func() ([]contract.TargetStatus, error) {
			return []contract.TargetStatus{{Name: "crm", Pending: 3, Circuit: circuit}}, nil
		},
	}))
	return ring
}

func (p *pods) end(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at[name].CloseClientConnections()
	p.at[name].Close()
	delete(p.at, name)
}

func (p *pods) receivers(context.Context, string) (names []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.at {
		names = append(names, name)
	}
	return names, nil
}

func (p *pods) reachOne(_ context.Context, receiver string, _ int) (*http.Client, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	server, there := p.at[receiver]
	if !there {
		return nil, nil, errors.New("there is no such Pod")
	}
	return &http.Client{Transport: redirected(server.URL)}, func() {}, nil
}

func (*pods) flags() string { return "--dev" }

func stored(id string) ingest.Report {
	return ingest.Report{Result: ingest.Stored, Status: 200, EventID: id, Type: "chat_closed", Targets: []string{"crm"}, Took: time.Millisecond}
}

func tried(id string, status int) forward.Attempt {
	a := forward.Attempt{Target: "crm", Event: id, Type: "chat_closed", Number: 1, Outcome: delivery.Outcome{Status: status}, Took: 2 * time.Millisecond, Settled: true}
	if !a.Outcome.Delivered() {
		a.Decision = retry.Decision{Verdict: retry.Again, Delay: time.Minute}
	}
	return a
}

// Records that a Pod has displaced before they were read are reported as missing.
func TestAFeedReportsWhatItMisses(t *testing.T) {
	t.Parallel()
	p := newPods()
	pod, notes := p.start("a"), &strings.Builder{}
	pod.Answered(stored("evt_history"))
	f := newFeed(p, "support", nil, notes)
	if _, err := f.history(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	for range recent.Kept + 1 {
		pod.Answered(stored("evt_1"))
	}
	f.follow(t.Context(), func([]recent.Record) bool { return false })
	if !strings.Contains(notes.String(), "Some records of receiver a are missing") {
		t.Errorf("the notes are %q", notes)
	}
	p.end("a")
}

// The feed shows an event accepted by one Pod and delivered by another, and the records of a Pod that starts later, or restarts.
func TestAFeedIsOfAllReceivers(t *testing.T) {
	t.Parallel()
	p := newPods()
	first, second := p.start("a"), p.start("b")
	first.Answered(stored("evt_history"))
	f := newFeed(p, "support", nil, io.Discard)
	history, err := f.history(t.Context(), 10)
	if err != nil || len(history) != 1 || history[0].Event != "evt_history" {
		t.Fatalf("%+v, %v", history, err)
	}
	first.Answered(stored("evt_1"))
	second.Finished(tried("evt_1", 200))
	var got []string
	seen := func(what string) bool { return slices.Contains(got, what) }
	step := 0
	f.follow(t.Context(), func(records []recent.Record) bool {
		for _, r := range records {
			got = append(got, fmt.Sprintf("%s %s by %s", r.Event, r.Outcome, r.Receiver))
		}
		switch {
		case step == 0 && seen("evt_1 stored by a") && seen("evt_1 delivered by b"):
			step++
			p.end("b")
			p.start("c").Finished(tried("evt_2", 200))
		case step == 1 && seen("evt_2 delivered by c"):
			step++
			first.Answered(stored("evt_3"))
		case step == 2 && seen("evt_3 stored by a"):
			return false
		}
		return true
	})
	want := []string{"evt_1 stored by a", "evt_1 delivered by b", "evt_2 delivered by c", "evt_3 stored by a"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range []string{"a", "c"} {
		p.end(name)
	}
	if _, err := newFeed(p, "support", nil, nil).history(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "status support") {
		t.Errorf("without a Pod: %v", err)
	}
}

// The clock of the delivering Pod is behind.
func TestARequestComesBeforeItsAttempts(t *testing.T) {
	t.Parallel()
	at := func(second int, event string, o recent.Outcome) recent.Record {
		return recent.Record{Time: time.Unix(int64(second), 0), Event: event, Outcome: o}
	}
	records := []recent.Record{
		at(5, "1", recent.Stored), at(4, "1", recent.Retry), at(3, "2", recent.Stored), at(6, "1", recent.Delivered), at(3, "", recent.Refused), at(1, "2", recent.Delivered),
	}
	inOrder(records)
	var got []string
	for _, r := range records {
		got = append(got, r.Event+" "+string(r.Outcome))
	}
	if diff := cmp.Diff([]string{"2 stored", "2 delivered", " refused", "1 stored", "1 retry", "1 delivered"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsAwaited(t *testing.T) {
	t.Parallel()
	record := func(event string, o recent.Outcome, target string, targets ...string) recent.Record {
		return recent.Record{Event: event, Outcome: o, Target: target, Targets: targets}
	}
	for name, tc := range map[string]struct {
		records []recent.Record
		settled bool
		fails   string
	}{
		"nothing yet":           {nil, false, "1 of 1"},
		"an attempt came first": {[]recent.Record{record("e", recent.Delivered, "crm")}, false, "1 of 1"},
		"one of two":            {[]recent.Record{record("e", recent.Stored, "", "crm", "audit"), record("e", recent.Delivered, "crm")}, false, "1 of 2"},
		"both": {[]recent.Record{
			record("e", recent.Delivered, "crm"), record("e", recent.Stored, "", "crm", "audit"), record("e", recent.Duplicate, ""), record("e", recent.Delivered, "audit"),
		}, true, ""},
		"a retry":                   {[]recent.Record{record("e", recent.Stored, "", "crm"), record("e", recent.Retry, "crm")}, false, "1 of 1"},
		"delivered in the end":      {[]recent.Record{record("e", recent.Stored, "", "crm"), record("e", recent.Retry, "crm"), record("e", recent.Delivered, "crm")}, true, ""},
		"records of two Pods cross": {[]recent.Record{record("e", recent.Stored, "", "crm"), record("e", recent.Delivered, "crm"), record("e", recent.Retry, "crm")}, true, ""},
		"a dead letter":             {[]recent.Record{record("e", recent.Stored, "", "crm"), record("e", recent.DeadLetter, "crm")}, true, "1 of 1"},
		"another event":             {[]recent.Record{record("other", recent.Stored, "", "crm"), record("other", recent.Delivered, "crm")}, false, "1 of 1"},
	} {
		d := awaited([]sent{{result: "stored", event: "e"}, {result: "duplicate", event: "e"}, {result: "ignored", event: "i"}})
		for _, r := range tc.records {
			d.note(r)
		}
		var out bytes.Buffer
		if err := d.show(&out, time.Minute); d.settled() != tc.settled || (err == nil) != (tc.fails == "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
			t.Errorf("%s: settled %t, %v\n%s", name, d.settled(), err, &out)
		}
	}
}

func TestStatsOfSeveralReceivers(t *testing.T) {
	t.Parallel()
	p := newPods()
	first, second := p.start("a"), p.start("b")
	for range 3 {
		first.Answered(stored("evt_1"))
	}
	second.Answered(stored("evt_2"))
	first.Finished(tried("evt_1", 200))
	second.Finished(tried("evt_2", 503))
	all, err := ask(t.Context(), p, "support")
	if err != nil {
		t.Fatal(err)
	}
	s := addUp(all, time.Now())
	crm := s.targets["crm"]
	if s.Stored != 4 || s.recent.Stored != 4 || crm.Delivered != 1 || crm.delivered != 1 || crm.Failed != 1 || crm.latency != (recent.Latency{Count: 2, P50MS: 2, P99MS: 2}) {
		t.Errorf("%+v, %+v", s, crm)
	}
	if got := (recent.Latency{Count: 3, P50MS: 1, P99MS: 9}).With(recent.Latency{Count: 1, P50MS: 5, P99MS: 6}); got != (recent.Latency{Count: 4, P50MS: 2, P99MS: 9}) {
		t.Errorf("together: %+v", got)
	}
	var out bytes.Buffer
	showStats(&out, "support", all, time.Now())
	for _, want := range []string{"receivers 2", "stored     4", "crm     1 ", "Open"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the figures lack %q:\n%s", want, &out)
		}
	}
}

// What waits is shared by all receivers. The one whose circuit is open says so for all, and a receiver that does not know what waits
// is reported whichever it is.
func TestStatsOfWhatWaits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	closed := contract.TargetStatus{Name: "crm", Pending: 7, DeadLetters: 2, OldestPending: now.Add(-3 * time.Hour), Circuit: contract.CircuitClosed}
	open := closed
	open.Circuit = contract.CircuitOpen
	receiver := func(waiting []contract.TargetStatus, problem string) admin.Stats {
		return admin.Stats{Stats: recent.Stats{Since: now, Targets: []recent.Target{{Name: "crm"}}}, Waiting: waiting, Error: problem}
	}
	all := []admin.Stats{receiver([]contract.TargetStatus{open}, ""), receiver(nil, "Redis is away"), receiver([]contract.TargetStatus{closed}, "")}
	for _, order := range [][]admin.Stats{all, {all[2], all[0], all[1]}, {all[1], all[2], all[0]}} {
		var out bytes.Buffer
		showStats(&out, "support", order, now)
		for _, want := range []string{"7        3h      2             Open\n", "What waits is not known: Redis is away\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the figures lack %q:\n%s", want, &out)
			}
		}
	}
}

// doctor asks every receiver: an open circuit is a matter of one of them.
func TestDoctorAsksEveryReceiver(t *testing.T) {
	t.Parallel()
	p := newPods()
	for _, name := range []string{"well-1", "ill", "well-2", "silent"} {
		p.start(name)
		defer p.end(name)
	}
	p.at["silent"].Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	e := examination{place: p, name: "support"}
	e.targets(t.Context())
	var out strings.Builder
	if failed := e.show(&out); failed != 2 {
		t.Errorf("%d checks failed, want those of the silent receiver and of the target", failed)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"Receiver ok well-1 answers", "Receiver ok ill answers", "Receiver ok well-2 answers", "Receiver NOT OK ask receiver silent: ",
		"Target crm NOT OK its circuit is open because most attempts fail",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("doctor does not report %q:\n%s", want, &out)
		}
	}
}

// doctor names each problem of a target, and none of a target that works.
func TestProblemsOfATarget(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	const dead = "2 dead letters: list shows why"
	for want, target := range map[string]contract.TargetStatus{
		"<nil>": {Circuit: contract.CircuitClosed, Pending: 9},
		"its circuit is open because most attempts fail":    {Circuit: contract.CircuitOpen},
		"attempts fail: Timeout since 2026-11-21T12:00:00Z": {Circuit: contract.CircuitClosed, LastError: &contract.TargetError{Class: contract.ErrorTimeout, Since: since}},
		dead: {Circuit: contract.CircuitClosed, DeadLetters: 2},
		"it answers 410 Gone, so it gets no more events: remove it from spec.targets, or set the right URL; " + dead: {Circuit: contract.CircuitGone, DeadLetters: 2},
	} {
		if got := fmt.Sprint(problems(target, "list shows why")); got != want {
			t.Errorf("%+v: %s, want %s", target, got, want)
		}
	}
}

// A Pod's text cannot control the terminal.
func TestRecordsArePrintable(t *testing.T) {
	t.Parallel()
	const hostile = "x\x1b[31m\n\u202e"
	for _, o := range append(recent.Outcomes(), hostile) {
		r := recent.Record{
			Outcome: o, Event: hostile, Type: hostile, Reason: hostile, Target: hostile, Targets: []string{hostile}, Filtered: []string{hostile}, Error: contract.ErrorClass(hostile),
		}
		line := recordLine(r, func(_ colour, text string) string { return text })
		if strings.ContainsAny(line, "\x1b\n\u202e") {
			t.Errorf("%s: %q", o, line)
		}
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	terminalFile, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there is no /dev/ptmx: ", err)
	}
	t.Cleanup(func() { _ = terminalFile.Close() })
	for _, tc := range []struct {
		to            terminal
		noColor, term string
		coloured      bool
	}{
		{terminal{terminalFile}, "", "xterm", true},
		{terminal{terminalFile}, "1", "xterm", false},
		{terminal{terminalFile}, "", "dumb", false},
		{terminal{&bytes.Buffer{}}, "", "xterm", false},
	} {
		t.Setenv("NO_COLOR", tc.noColor)
		t.Setenv("TERM", tc.term)
		_, paint := coloured(tc.to)
		if got := paint(green, "x") != "x"; got != tc.coloured || paint(plain, "x") != "x" {
			t.Errorf("%+v: coloured %t", tc, got)
		}
	}
}
