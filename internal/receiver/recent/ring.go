// Package recent keeps a receiver's latest answered requests and attempts, without their content, in bounded memory. It is for
// people to watch; no decision depends on it.
package recent

import (
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"heymarket.dev/operator/internal/receiver/forward"
	"heymarket.dev/operator/internal/receiver/ingest"
	"heymarket.dev/operator/internal/receiver/retry"
)

// How many records are kept. Refused requests have a separate share: anyone can cause them, and must not displace events with
// them.
const (
	keptRequests = 1000
	keptRefused  = 200
	keptAttempts = 2500
	// mostNames bounds the names of targets. A webhook has up to 16; when changes of the configuration add up to more than
	// this, all records are dropped.
	mostNames = 64
	// Kept is the maximum number of records.
	Kept = keptRequests + keptRefused + keptAttempts
)

// Ring keeps the latest records. Create it with New. Its methods may be called concurrently; Answered and Finished allocate
// nothing and never wait for a reader.
type Ring struct {
	receiver string

	mu       sync.Mutex
	sequence uint64 // of the latest record
	lost     uint64 // of the latest record that was displaced
	requests lane
	refused  lane
	attempts lane
	names    []string // of targets
	tally    tally
	changed  chan struct{} // closed at the next record; nil: no reader waits
}

// New returns an empty Ring. receiver is the name in every Record.
func New(receiver string) *Ring {
	begin := uint64(time.Now().UnixMicro()) // so that sequences increase across restarts
	return &Ring{
		receiver: receiver, sequence: begin, lost: begin,
		requests: newLane(keptRequests), refused: newLane(keptRefused), attempts: newLane(keptAttempts),
		names: make([]string, 0, mostNames), tally: newTally(time.Now()),
	}
}

// Answered implements ingest.Observer.
func (r *Ring) Answered(report ingest.Report) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	to := &r.requests
	if report.Result == ingest.Refused {
		to = &r.refused
	}
	stored, filtered := report.Targets, report.Filtered
	r.know(stored, filtered)
	s := r.add(to, now, Outcome(report.Result), report.Took)
	s.setEvent(report.EventID, report.Type)
	s.status = uint16(report.Status)
	s.reasonLength = uint8(copy(s.reason[:], report.Reason))
	for _, name := range stored[:min(len(stored), mostTargets)] {
		s.targets[s.stored] = r.name(name)
		s.stored++
	}
	for _, name := range filtered[:min(len(filtered), mostTargets-int(s.stored))] {
		s.targets[s.stored+s.filtered] = r.name(name)
		s.filtered++
	}
	r.tally.answered(now, report)
	r.tell()
}

// Finished records an attempt.
func (r *Ring) Finished(a forward.Attempt) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.know([]string{a.Target})
	outcome := outcomeOf(a)
	s := r.add(&r.attempts, now, outcome, a.Took)
	s.setEvent(a.Event, a.Type)
	s.status, s.attempt, s.class = uint16(a.Outcome.Status), uint16(min(a.Number, math.MaxUint16)), a.Outcome.ErrorClass()
	if a.Number == 0 {
		s.class = "" // nothing was sent
	}
	if outcome == Retry {
		s.delay = uint32(min(a.Decision.Delay.Milliseconds(), math.MaxUint32))
	}
	s.reasonLength = uint8(copy(s.reason[:], a.Decision.Reason))
	s.targets[0], s.stored = r.name(a.Target), 1
	r.tally.finished(now, s.targets[0], outcome, s.attempt > 0)
	r.tell()
}

func outcomeOf(a forward.Attempt) Outcome {
	switch {
	case a.SettleErr != nil:
		return Unsettled
	case !a.Settled:
		return Superseded
	case a.Interrupted:
		return Interrupted
	case a.Decision.Verdict == retry.Done:
		return Delivered
	case a.Decision.Verdict == retry.GiveUp:
		return DeadLetter
	}
	return Retry
}

// know assigns an index to each name of one record.
func (r *Ring) know(all ...[]string) {
	unknown := 0
	for _, names := range all {
		for _, name := range names[:min(len(names), mostTargets)] {
			if !slices.Contains(r.names, name) {
				unknown++
			}
		}
	}
	if unknown == 0 {
		return
	}
	if len(r.names)+unknown > mostNames {
		r.forget()
	}
	for _, names := range all {
		for _, name := range names[:min(len(names), mostTargets)] {
			if !slices.Contains(r.names, name) {
				r.names = append(r.names, strings.Clone(name))
			}
		}
	}
}

// name returns the index of a name that know has registered.
func (r *Ring) name(name string) uint8 { return uint8(max(slices.Index(r.names, name), 0)) }

func (r *Ring) forget() {
	r.lost = r.sequence
	r.requests.count, r.refused.count, r.attempts.count = 0, 0, 0
	r.names = r.names[:0]
	r.tally = newTally(r.tally.since)
}

func (r *Ring) add(to *lane, now time.Time, outcome Outcome, took time.Duration) *slot {
	r.sequence++
	s, displaced := to.next()
	r.lost = max(r.lost, displaced)
	*s = slot{
		sequence: r.sequence, at: now.UnixMicro(), took: uint32(min(max(took, 0).Microseconds(), math.MaxUint32)),
		outcome: uint8(max(slices.Index(outcomes, outcome), 0)),
	}
	return s
}

// tell wakes readers that wait for a record.
func (r *Ring) tell() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// Page is a list of records and the position at which to continue.
type Page struct {
	Records []Record
	// Next is the sequence after which the next page starts.
	Next uint64
	// Gap reports that records after the given sequence are no longer kept; false if 0 was given, which means all.
	Gap bool
	// Changed is closed when there may be more records.
	Changed <-chan struct{}
}

// After returns up to limit records that match f after a sequence, the oldest first.
func (r *Ring) After(sequence uint64, f Filter, limit int) Page {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	sequence, gap := r.from(sequence)
	page := Page{Next: r.sequence, Gap: gap, Changed: r.changed}
	target := slices.Index(r.names, f.Target)
	lanes := r.lanes()
	var at [len(lanes)]int
	for i, l := range lanes {
		at[i] = l.after(sequence)
	}
	for {
		first := -1
		for i, l := range lanes {
			if at[i] < l.count && (first < 0 || l.at(at[i]).sequence < lanes[first].at(at[first]).sequence) {
				first = i
			}
		}
		if first < 0 {
			return page
		}
		s := lanes[first].at(at[first])
		at[first]++
		if !s.matches(f, target) {
			continue
		}
		if len(page.Records) == limit {
			page.Next = page.Records[limit-1].Sequence
			ready := make(chan struct{})
			close(ready)
			page.Changed = ready
			return page
		}
		page.Records = append(page.Records, r.record(s))
	}
}

// Latest returns up to limit records that match f after a sequence, the latest first. The page's Next is the sequence of the
// latest record, whether or not it matches f.
func (r *Ring) Latest(sequence uint64, f Filter, limit int) Page {
	r.mu.Lock()
	defer r.mu.Unlock()
	sequence, gap := r.from(sequence)
	page := Page{Next: r.sequence, Gap: gap}
	target := slices.Index(r.names, f.Target)
	lanes := r.lanes()
	var left [len(lanes)]int
	for i, l := range lanes {
		left[i] = l.count
	}
	for len(page.Records) < limit {
		last := -1
		for i, l := range lanes {
			if left[i] > 0 && (last < 0 || l.at(left[i]-1).sequence > lanes[last].at(left[last]-1).sequence) {
				last = i
			}
		}
		if last < 0 {
			break
		}
		left[last]--
		s := lanes[last].at(left[last])
		if s.sequence <= sequence {
			break
		}
		if s.matches(f, target) {
			page.Records = append(page.Records, r.record(s))
		}
	}
	return page
}

// from returns the sequence after which to read, and whether records after the given one are lost. A sequence that is ahead
// comes from an earlier process, on a machine whose clock was ahead.
func (r *Ring) from(sequence uint64) (uint64, bool) {
	if sequence > r.sequence {
		return 0, true
	}
	return sequence, sequence > 0 && sequence < r.lost
}

func (r *Ring) lanes() [3]*lane { return [...]*lane{&r.requests, &r.refused, &r.attempts} }

func (r *Ring) record(s *slot) Record {
	out := Record{
		Sequence: s.sequence, Receiver: r.receiver, Time: time.UnixMicro(s.at).UTC(), Outcome: outcomes[s.outcome],
		Event: string(s.id[:s.idLength]), Type: string(s.eventType[:s.typeLength]),
		Status: int(s.status), TookMS: float64(s.took) / 1000, Reason: strings.ToValidUTF8(string(s.reason[:s.reasonLength]), "\uFFFD"),
	}
	names := func(of []uint8) (names []string) {
		for _, i := range of {
			names = append(names, r.names[i])
		}
		return names
	}
	if out.Outcome.OfRequest() {
		out.Targets, out.Filtered = names(s.targets[:s.stored]), names(s.targets[s.stored:s.stored+s.filtered])
		return out
	}
	out.Target, out.Attempt, out.Error = r.names[s.targets[0]], int(s.attempt), s.class
	if out.Outcome == Retry {
		out.RetryAt = time.UnixMicro(s.at).Add(time.Duration(s.delay) * time.Millisecond).UTC()
	}
	return out
}

// lane keeps the latest slots of one kind, in the order of their sequences.
type lane struct {
	slots        []slot
	first, count int
}

func newLane(kept int) lane { return lane{slots: make([]slot, kept)} }

// next returns the slot for a new record, and the sequence of the record that it replaces, or 0.
func (l *lane) next() (s *slot, displaced uint64) {
	if l.count < len(l.slots) {
		l.count++
		return l.at(l.count - 1), 0
	}
	s = &l.slots[l.first]
	l.first = (l.first + 1) % len(l.slots)
	return s, s.sequence
}

func (l *lane) at(i int) *slot { return &l.slots[(l.first+i)%len(l.slots)] }

// after returns the index of the first slot after a sequence.
func (l *lane) after(sequence uint64) int {
	return sort.Search(l.count, func(i int) bool { return l.at(i).sequence > sequence })
}
