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

// Address is what is kept about a webhook's URL: the URL Secret holds it, and nothing else could make it up again.
type Address struct {
	// Segment is the secret last part of the path, see NewSegment; empty if there is none yet.
	Segment string
	// Revision is the spec.exposure.urlRevision that Segment was made for.
	Revision int64
	// Previous are the paths that the URL had before and that are accepted as well, the latest first.
	Previous []PreviousPath
}

// PreviousPath is a complete path, secret segment included.
type PreviousPath struct {
	Path string `json:"path"`
	// Replaced is when another path took its place, to the second.
	Replaced time.Time `json:"replaced"`
}

// FindAddress returns the address that is in use. It looks into the data of the URL Secret, then into the paths of the
// receiver's configuration: a person has typed this URL into Heymarket, so losing one of the two must not change it.
// at is when previous paths were replaced where nothing says when.
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

// ServedPaths are the paths of the configuration that receivers have, the present one first; none if there is none.
func ServedPaths(configSecret map[string][]byte) []string {
	// Only the paths are read, so that a configuration of another version of the operator will do.
	var c struct {
		Paths []string `json:"paths"`
	}
	if err := json.Unmarshal(configSecret[KeyConfig], &c); err != nil {
		return nil
	}
	return slices.DeleteFunc(c.Paths, func(p string) bool { return segmentOf(p) == "" })
}

// SecretPaths are all paths with a secret segment that the two Secrets know, the segments alone among them.
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

// Segments are the secret segments that the URL Secret has, the present one first.
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

// NeedsSegment says whether w asks for a segment that a does not have.
func (a Address) NeedsSegment(w *v1alpha1.HeymarketWebhook) bool {
	return a.Segment == "" || w.Spec.Exposure.URLRevision > a.Revision
}

// Misses says whether receivers of w have been given a path that a does not know. Then a was read before that path was
// replaced, or the Secret has lost it.
func (a Address) Misses(w *v1alpha1.HeymarketWebhook, served []string) bool {
	return slices.ContainsFunc(served, func(path string) bool {
		return path != PathPrefix(w)+a.Segment && !slices.ContainsFunc(a.Previous, func(p PreviousPath) bool { return p.Path == path })
	})
}

// Follow returns the address that w asks for. It makes up a segment if a has none or the revision has risen. served is
// the path that receivers have been given last, or "": if it is no longer the URL's, it becomes a previous one now.
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

// previousURLFor is how long a previous path is accepted. A CRD from before the field fills in no default.
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

// PreviousUntil returns when the first and the last of the previous paths end; zero times if there is none.
func PreviousUntil(in Input) (first, last time.Time) {
	keep, err := previousURLFor(in.Webhook)
	if err != nil {
		return first, last // Follow has said so.
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

// paths are those at which the receiver accepts events, the present one first.
func paths(in Input) []string {
	out := []string{pathPrefix(in) + in.Segment}
	for _, p := range in.Previous {
		out = append(out, p.Path)
	}
	return out
}

func encodePrevious(previous []PreviousPath) []byte {
	b, err := json.Marshal(previous)
	if err != nil { // Only a year beyond 9999 can fail, and a clock that says so.
		return nil
	}
	return b
}
