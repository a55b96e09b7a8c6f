package desired

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"heymarket.dev/operator/api/v1alpha1"
)

const (
	// maxPrevious bounds the previous paths that are accepted at once.
	maxPrevious = 3
	// defaultPreviousURLFor is the CRD's default.
	defaultPreviousURLFor = 168 * time.Hour
)

// Address is the persistent part of a webhook's URL, stored in the URL Secret; it cannot be derived from anything
// else.
type Address struct {
	// Segment is the secret last part of the path, see NewSegment; empty if there is none yet.
	Segment string
	// Revision is the spec.exposure.urlRevision for which Segment was generated.
	Revision int64
	// Previous are the former paths of the URL that are still accepted, the latest first.
	Previous []PreviousPath
}

// PreviousPath is a complete path, including the secret segment.
type PreviousPath struct {
	Path string `json:"path"`
	// Replaced is when another path took its place, to the second.
	Replaced time.Time `json:"replaced"`
}

// FindAddress returns the address in use. It reads the data of the URL Secret, then the paths in the receiver's
// configuration: a person has entered this URL in Heymarket, so losing one of the two must not change it. at is the
// replacement time of previous paths for which none is recorded.
func FindAddress(urlSecret, configSecret map[string][]byte, at time.Time) Address {
	served := ServedPaths(configSecret)
	a := Address{Segment: string(urlSecret[KeySegment])}
	if n, err := strconv.ParseInt(string(urlSecret[KeyRevision]), 10, 64); err == nil {
		a.Revision = n
	}
	whole := segmentShape.MatchString(a.Segment)
	if !whole {
		a.Segment = ""
		if len(served) > 0 {
			a.Segment = segmentOf(served[0])
		}
	}
	if raw := urlSecret[KeyPrevious]; whole && (raw == nil || json.Unmarshal(raw, &a.Previous) == nil) {
		return a
	}
	a.Previous = nil
	for _, p := range served[min(1, len(served)):] {
		a.Previous = append(a.Previous, PreviousPath{Path: p, Replaced: at.UTC().Truncate(time.Second)})
	}
	return a
}

// ServedPaths returns the paths in the receivers' configuration, the current one first; none if there is no
// configuration.
func ServedPaths(configSecret map[string][]byte) []string {
	// Only the paths are read, so that the configuration of another operator version can be used.
	var c struct {
		Paths []string `json:"paths"`
	}
	if err := json.Unmarshal(configSecret[KeyConfig], &c); err != nil {
		return nil
	}
	return slices.DeleteFunc(c.Paths, func(p string) bool { return segmentOf(p) == "" })
}

// SecretPaths returns all paths with a secret segment in the two Secrets, and the segments alone.
func SecretPaths(urlSecret, configSecret map[string][]byte) []string {
	out := []string{string(urlSecret[KeySegment])}
	var previous []PreviousPath
	if json.Unmarshal(urlSecret[KeyPrevious], &previous) == nil {
		for _, p := range previous {
			out = append(out, p.Path)
		}
	}
	return append(out, ServedPaths(configSecret)...)
}

// Segments returns the secret segments in the URL Secret, the current one first.
func Segments(urlSecret map[string][]byte) []string {
	var out []string
	for _, path := range SecretPaths(urlSecret, nil) {
		if s := segmentOf(path); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func segmentOf(path string) string {
	if s := path[strings.LastIndexByte(path, '/')+1:]; segmentShape.MatchString(s) {
		return s
	}
	return ""
}

// NeedsSegment reports whether w requires a segment that a does not have.
func (a Address) NeedsSegment(w *v1alpha1.HeymarketWebhook) bool {
	return a.Segment == "" || w.Spec.Exposure.URLRevision > a.Revision
}

// Misses reports whether receivers of w have been given a path that a does not contain. Then a was read before that
// path was replaced, or the Secret has lost it.
func (a Address) Misses(w *v1alpha1.HeymarketWebhook, served []string) bool {
	return slices.ContainsFunc(served, func(path string) bool {
		return path != PathPrefix(w)+a.Segment && !slices.ContainsFunc(a.Previous, func(p PreviousPath) bool { return p.Path == path })
	})
}

// Follow returns the address for w. It generates a segment if a has none or the revision has increased. served is the
// path most recently given to receivers, or "": if it is no longer the URL's, it becomes a previous one now.
func (a Address) Follow(w *v1alpha1.HeymarketWebhook, served string, now time.Time) (Address, error) {
	keep, err := previousURLFor(w)
	if err != nil {
		return Address{}, err
	}
	before := a.Previous
	next := Address{Segment: a.Segment, Revision: a.Revision}
	if a.NeedsSegment(w) {
		next.Segment, next.Revision = NewSegment(), w.Spec.Exposure.URLRevision
		if served == "" && a.Segment != "" {
			served = PathPrefix(w) + a.Segment
		}
	}
	known := func(p PreviousPath) bool { return p.Path == served }
	if served != "" && !slices.ContainsFunc(before, known) {
		before = append([]PreviousPath{{Path: served, Replaced: now.UTC().Truncate(time.Second)}}, before...)
	}
	for _, p := range before {
		if p.Path != PathPrefix(w)+next.Segment && p.until(keep).After(now) && len(next.Previous) < maxPrevious {
			next.Previous = append(next.Previous, p)
		}
	}
	return next, nil
}

// previousURLFor is how long a previous path is accepted. A CRD older than the field sets no default.
func previousURLFor(w *v1alpha1.HeymarketWebhook) (time.Duration, error) {
	if w.Spec.Exposure.PreviousURLFor == "" {
		return defaultPreviousURLFor, nil
	}
	d, err := w.Spec.Exposure.PreviousURLFor.Std()
	if err != nil {
		return 0, fmt.Errorf("exposure.previousURLFor: %w", err)
	}
	return d, nil
}

func (p PreviousPath) until(keep time.Duration) time.Time { return p.Replaced.Add(keep) }

// PreviousUntil returns when the first and the last of the previous paths expire; zero times if there is none.
func PreviousUntil(in Input) (first, last time.Time) {
	keep, err := previousURLFor(in.Webhook)
	if err != nil {
		return first, last // Follow has reported it.
	}
	for _, p := range in.Previous {
		until := p.until(keep)
		if first.IsZero() || until.Before(first) {
			first = until
		}
		if until.After(last) {
			last = until
		}
	}
	return first, last
}

// paths returns the paths at which the receiver accepts events, the current one first.
func paths(in Input) []string {
	out := []string{pathPrefix(in) + in.Segment}
	for _, p := range in.Previous {
		out = append(out, p.Path)
	}
	return out
}

func encodePrevious(previous []PreviousPath) []byte {
	b, err := json.Marshal(previous)
	if err != nil { // Fails only for a year beyond 9999, when the clock is wrong.
		return nil
	}
	return b
}
