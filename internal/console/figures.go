package console

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/admin"
	"heymarket.dev/operator/internal/receiver/recent"
)

const (
	// rateWindow is the maximum window over which rates are computed.
	rateWindow = time.Minute
	// mostPoints bounds the points of a chart.
	mostPoints = 360
)

// sample holds the figures of one moment, over all receivers.
type sample struct {
	at       time.Time
	accepted uint64
	latency  recent.Latency
	targets  map[string]targetSample
}

type targetSample struct {
	recent.Counts
	latency recent.Latency
	waiting *contract.TargetStatus // nil: not known
}

// sample stores the figures of all receivers.
func (w *watcher) sample(stats []admin.Stats, now time.Time) {
	s := sample{at: now, targets: map[string]targetSample{}}
	for _, one := range stats {
		s.accepted += one.Requests.Stored
		s.latency = s.latency.With(one.Latency)
		for _, t := range one.Targets {
			sum := s.targets[t.Name]
			sum.Counts = sum.Counts.With(t.Counts)
			sum.latency = sum.latency.With(t.Latency)
			s.targets[t.Name] = sum
		}
		for _, t := range one.Waiting {
			sum := s.targets[t.Name]
			if sum.waiting != nil {
				t = sum.waiting.With(t)
			}
			sum.waiting = &t
			s.targets[t.Name] = sum
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats = stats
	w.samples = append(w.samples, s)
	if old := slices.IndexFunc(w.samples, func(s sample) bool { return now.Sub(s.at) < keptSamples }); old > 0 {
		w.samples = slices.Delete(w.samples, 0, old)
	}
	w.change()
}

// figures are texts by name, as pages show them and streams update them: "accepted", or "crm.pending" of a
// target.
type figures map[string]string

func (w *watcher) figures(now time.Time) figures {
	f := figures{}
	if len(w.samples) == 0 {
		return f
	}
	last := w.samples[len(w.samples)-1]
	before := last
	for _, s := range w.samples {
		if last.at.Sub(s.at) <= rateWindow {
			before = s
			break
		}
	}
	rate := func(from, to uint64) string {
		span := last.at.Sub(before.at)
		if span <= 0 || to < from {
			return "0"
		}
		return decimal(float64(to-from) / span.Minutes())
	}
	var all recent.Requests
	for _, one := range w.stats {
		r := one.Requests
		all.Stored, all.Duplicate, all.Ignored, all.Refused = all.Stored+r.Stored, all.Duplicate+r.Duplicate, all.Ignored+r.Ignored, all.Refused+r.Refused
		if one.Error != "" {
			f["error"] = one.Error
		}
	}
	f["receivers"] = fmt.Sprint(len(w.stats))
	f["accepted"], f["duplicate"], f["ignored"], f["refused"] = number(all.Stored), number(all.Duplicate), number(all.Ignored), number(all.Refused)
	f["rate"] = rate(before.accepted, last.accepted)
	f["p50"], f["p99"] = milliseconds(last.latency, last.latency.P50MS), milliseconds(last.latency, last.latency.P99MS)
	for name, t := range last.targets {
		set := func(what, text string) { f[name+"."+what] = text }
		set("delivered", number(t.Delivered))
		set("failed", number(t.Failed))
		set("rate", rate(before.targets[name].Delivered, t.Delivered))
		set("p50", milliseconds(t.latency, t.latency.P50MS))
		set("p99", milliseconds(t.latency, t.latency.P99MS))
		state := t.waiting
		if state == nil {
			continue
		}
		set("pending", number(uint64(max(state.Pending, 0))))
		set("dead", number(uint64(max(state.DeadLetters, 0))))
		set("circuit", string(state.Circuit))
		set("oldest", age(state.OldestPending, now))
		set("next", "–")
		if !state.NextAttempt.IsZero() {
			set("next", state.NextAttempt.Local().Format("15:04"))
		}
		set("lastError", "none")
		if e := state.LastError; e != nil {
			set("lastError", fmt.Sprintf("%s for %s", e.Class, age(e.Since, now)))
		}
	}
	return f
}

// chart has the columns that uPlot draws: times in seconds, then the values of each series at these times.
type chart struct {
	Title  string       `json:"title"`
	Unit   string       `json:"unit"`
	Series []string     `json:"series"`
	Data   [][]*float64 `json:"data"`
}

// charts returns the charts of the last hour.
func (w *watcher) charts(now time.Time) []chart {
	w.mu.Lock()
	defer w.mu.Unlock()
	var targets []string
	if n := len(w.samples); n > 0 {
		for name := range w.samples[n-1].targets {
			targets = append(targets, name)
		}
		slices.Sort(targets)
	}
	return []chart{w.perMinute(now), w.backlog(targets), w.latencies(targets)}
}

// perMinute charts the receivers' counts per minute. The current, incomplete minute is omitted.
func (w *watcher) perMinute(now time.Time) chart {
	const minutes = 60
	c := chart{Title: "Events per minute", Series: []string{"accepted", "delivered", "failed attempts"}, Data: make([][]*float64, 4)}
	begin := now.Truncate(time.Minute).Add(-minutes * time.Minute)
	for i := range c.Data {
		c.Data[i] = make([]*float64, minutes)
		for j := range c.Data[i] {
			c.Data[i][j] = new(float64(0))
		}
	}
	for i := range minutes {
		*c.Data[0][i] = float64(begin.Add(time.Duration(i) * time.Minute).Unix())
	}
	for _, one := range w.stats {
		for _, m := range one.Minutes {
			i := int(m.At.Sub(begin) / time.Minute)
			if i < 0 || i >= minutes {
				continue
			}
			*c.Data[1][i] += float64(m.Stored)
			for _, t := range m.Targets {
				*c.Data[2][i] += float64(t.Delivered)
				*c.Data[3][i] += float64(t.Failed)
			}
		}
	}
	return c
}

func (w *watcher) backlog(targets []string) chart {
	return w.overTime(chart{Title: "Backlog", Series: targets}, func(s sample) (values []*float64) {
		for _, name := range targets {
			var value *float64
			if state := s.targets[name].waiting; state != nil {
				value = new(float64(state.Pending))
			}
			values = append(values, value)
		}
		return values
	})
}

func (w *watcher) latencies(targets []string) chart {
	c := chart{Title: "Latency p99", Unit: "ms", Series: []string{"answers to Heymarket"}}
	c.Series = append(c.Series, targets...)
	return w.overTime(c, func(s sample) []*float64 {
		p99 := func(l recent.Latency) *float64 {
			if l.Count == 0 {
				return nil
			}
			return new(l.P99MS)
		}
		values := []*float64{p99(s.latency)}
		for _, name := range targets {
			values = append(values, p99(s.targets[name].latency))
		}
		return values
	})
}

// overTime adds a point for each sample, or for every second or third one if there are many.
func (w *watcher) overTime(c chart, values func(sample) []*float64) chart {
	c.Data = make([][]*float64, 1+len(c.Series))
	for i := range c.Data {
		c.Data[i] = []*float64{}
	}
	step := len(w.samples)/mostPoints + 1
	for i := (len(w.samples) - 1) % step; i >= 0 && i < len(w.samples); i += step {
		s := w.samples[i]
		c.Data[0] = append(c.Data[0], new(float64(s.at.UnixMilli())/1000))
		for j, value := range values(s) {
			c.Data[j+1] = append(c.Data[j+1], value)
		}
	}
	return c
}

func number[N ~int | ~int64 | ~uint64](n N) string {
	text := strconv.FormatInt(int64(min(uint64(max(n, 0)), math.MaxInt64)), 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func decimal(x float64) string {
	if x == 0 || x >= 100 {
		return number(int64(math.Round(x)))
	}
	return strconv.FormatFloat(x, 'f', 1, 64)
}

func milliseconds(l recent.Latency, value float64) string {
	if l.Count == 0 {
		return "–"
	}
	return decimal(value) + " ms"
}

// age returns how long ago t was, in its largest unit.
func age(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return "–"
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}
