package recent

import (
	"maps"
	"slices"
	"time"

	"heymarket.dev/operator/internal/receiver/ingest"
)

const (
	keptMinutes = 60
	// LatencyWindow is the maximum age of the requests and attempts that a Latency covers.
	LatencyWindow = 5 * time.Minute
)

// Stats are figures of one receiver since it started.
type Stats struct {
	Receiver string    `json:"receiver"`
	Since    time.Time `json:"since"`
	Requests Requests  `json:"requests"`
	// Latency is the latency of answers to authenticated requests.
	Latency Latency  `json:"latency"`
	Targets []Target `json:"targets"`
	// Minutes are up to 60, the oldest first; the last one is incomplete. Minutes without activity are missing.
	Minutes []Minute `json:"minutes"`
}

// Requests counts requests by outcome.
type Requests struct {
	Stored    uint64 `json:"stored"`
	Duplicate uint64 `json:"duplicate"`
	Ignored   uint64 `json:"ignored"`
	Refused   uint64 `json:"refused"`
	// RefusedBy counts refused requests by reason.
	RefusedBy map[ingest.Reason]uint64 `json:"refusedBy"`
}

// Latency covers the last few minutes, in milliseconds. It is computed from the kept records, so under load it covers less time.
type Latency struct {
	Count int     `json:"count"`
	P50MS float64 `json:"p50Ms"`
	P99MS float64 `json:"p99Ms"`
}

// With returns the latency of two receivers together: percentiles cannot be added, so the p50 is their weighted mean and the p99
// that of the slower one.
func (l Latency) With(other Latency) Latency {
	n := l.Count + other.Count
	if n == 0 {
		return Latency{}
	}
	return Latency{
		Count: n, P50MS: (l.P50MS*float64(l.Count) + other.P50MS*float64(other.Count)) / float64(n), P99MS: max(l.P99MS, other.P99MS),
	}
}

// Target holds the figures of one target.
type Target struct {
	Name string `json:"name"`
	Counts
	// Latency is the latency of its answers.
	Latency Latency `json:"latency"`
}

// Counts are the outcomes of attempts at a target: Failed includes those after which an event was given up.
type Counts struct {
	Delivered   uint64 `json:"delivered"`
	Failed      uint64 `json:"failed"`
	DeadLetters uint64 `json:"deadLettered"`
}

// With adds the counts of another receiver.
func (c Counts) With(other Counts) Counts {
	return Counts{c.Delivered + other.Delivered, c.Failed + other.Failed, c.DeadLetters + other.DeadLetters}
}

// Minute holds the figures of one minute.
type Minute struct {
	At        time.Time         `json:"at"`
	Stored    uint64            `json:"stored"`
	Duplicate uint64            `json:"duplicate"`
	Ignored   uint64            `json:"ignored"`
	Refused   uint64            `json:"refused"`
	Targets   map[string]Counts `json:"targets"`
}

// Stats returns the figures for the targets with these names.
func (r *Ring) Stats(targets []string) Stats {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.tally
	s := Stats{
		Receiver: r.receiver, Since: t.since.UTC().Truncate(time.Millisecond),
		Requests: Requests{Stored: t.results[0], Duplicate: t.results[1], Ignored: t.results[2], Refused: t.results[3], RefusedBy: maps.Clone(t.reasons)},
		Latency:  latency(&r.requests, now, func(*slot) bool { return true }),
		Targets:  []Target{}, Minutes: []Minute{},
	}
	for _, name := range targets {
		target := Target{Name: name}
		if i := slices.Index(r.names, name); i >= 0 {
			target.Counts = t.targets[i]
			target.Latency = latency(&r.attempts, now, func(s *slot) bool { return s.targets[0] == uint8(i) && s.status > 0 })
		}
		s.Targets = append(s.Targets, target)
	}
	for i := range keptMinutes {
		m := &t.minutes[(now.Unix()/60+1+int64(i))%keptMinutes]
		if m.at <= now.Unix()/60-keptMinutes {
			continue
		}
		minute := Minute{
			At: time.Unix(m.at*60, 0).UTC(), Targets: map[string]Counts{},
			Stored: uint64(m.results[0]), Duplicate: uint64(m.results[1]), Ignored: uint64(m.results[2]), Refused: uint64(m.results[3]),
		}
		for _, name := range targets {
			if i := slices.Index(r.names, name); i >= 0 {
				c := m.targets[i]
				minute.Targets[name] = Counts{uint64(c[0]), uint64(c[1]), uint64(c[2])}
			}
		}
		s.Minutes = append(s.Minutes, minute)
	}
	return s
}

// latency examines the slots of a lane for which belongs is true.
func latency(l *lane, now time.Time, belongs func(*slot) bool) Latency {
	oldest := now.Add(-LatencyWindow).UnixMicro()
	var took []uint32
	for i := l.count - 1; i >= 0 && l.at(i).at >= oldest; i-- {
		if s := l.at(i); belongs(s) {
			took = append(took, s.took)
		}
	}
	if len(took) == 0 {
		return Latency{}
	}
	slices.Sort(took)
	at := func(percent int) float64 { return float64(took[(len(took)-1)*percent/100]) / 1000 }
	return Latency{Count: len(took), P50MS: at(50), P99MS: at(99)}
}

// tally counts in total since the receiver started, and per minute.
type tally struct {
	since   time.Time
	results [4]uint64
	reasons map[ingest.Reason]uint64
	targets [mostNames]Counts
	minutes [keptMinutes]minute
}

type minute struct {
	at      int64 // Unix time in minutes
	results [4]uint32
	targets [mostNames][3]uint32 // as in Counts
}

var results = [...]ingest.Result{ingest.Stored, ingest.Duplicate, ingest.Ignored, ingest.Refused}

func newTally(since time.Time) tally {
	t := tally{since: since, reasons: map[ingest.Reason]uint64{}}
	for _, reason := range ingest.Reasons() {
		t.reasons[reason] = 0
	}
	return t
}

func (t *tally) minute(now time.Time) *minute {
	at := now.Unix() / 60
	m := &t.minutes[at%keptMinutes]
	if m.at != at {
		*m = minute{at: at}
	}
	return m
}

func (t *tally) answered(now time.Time, r ingest.Report) {
	i := max(slices.Index(results[:], r.Result), 0)
	t.results[i]++
	t.minute(now).results[i]++
	if r.Result == ingest.Refused {
		t.reasons[r.Reason]++
	}
}

func (t *tally) finished(now time.Time, target uint8, o Outcome, sent bool) {
	all, m := &t.targets[target], &t.minute(now).targets[target]
	switch {
	case o == Delivered:
		all.Delivered++
		m[0]++
	case sent && (o == Retry || o == DeadLetter):
		all.Failed++
		m[1]++
	}
	if o == DeadLetter {
		all.DeadLetters++
		m[2]++
	}
}
