package desired

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"heymarket.dev/operator/api/v1alpha1"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestFindAddress(t *testing.T) {
	t.Parallel()
	seven := strings.Repeat("7", 26)
	in := input(t, "smallest", Input{Host: "h"})
	plain := build(t, in)
	in.Revision, in.Previous = 2, []PreviousPath{{Path: "/old/" + seven, Replaced: noon.Add(-time.Hour)}}
	renewed := build(t, in)
	without := func(data map[string][]byte, key, value string) map[string][]byte {
		out := map[string][]byte{}
		maps.Copy(out, data)
		out[key] = []byte(value)
		return out
	}
	for name, tc := range map[string]struct {
		url, config map[string][]byte
		want        Address
	}{
		"both":                {wanted[*corev1ac.SecretApplyConfiguration](t, plain).Data, plain.ConfigSecret.Data, Address{Segment: segment}},
		"the URL alone":       {wanted[*corev1ac.SecretApplyConfiguration](t, plain).Data, nil, Address{Segment: segment}},
		"the configuration":   {nil, plain.ConfigSecret.Data, Address{Segment: segment}},
		"a damaged URL":       {map[string][]byte{KeySegment: []byte("short")}, plain.ConfigSecret.Data, Address{Segment: segment}},
		"a damaged rest":      {nil, map[string][]byte{KeyConfig: []byte("{}")}, Address{}},
		"neither":             {nil, nil, Address{}},
		"another in the URL":  {map[string][]byte{KeySegment: []byte(seven)}, plain.ConfigSecret.Data, Address{Segment: seven}},
		"renewed":             {wanted[*corev1ac.SecretApplyConfiguration](t, renewed).Data, renewed.ConfigSecret.Data, in.Address},
		"renewed, then lost":  {nil, renewed.ConfigSecret.Data, Address{Segment: segment, Previous: []PreviousPath{{Path: "/old/" + seven, Replaced: noon}}}},
		"a damaged list":      {without(wanted[*corev1ac.SecretApplyConfiguration](t, renewed).Data, KeyPrevious, "["), renewed.ConfigSecret.Data, Address{Segment: segment, Revision: 2, Previous: []PreviousPath{{Path: "/old/" + seven, Replaced: noon}}}},
		"a damaged revision":  {without(wanted[*corev1ac.SecretApplyConfiguration](t, renewed).Data, KeyRevision, "two"), renewed.ConfigSecret.Data, Address{Segment: segment, Previous: in.Previous}},
		"withdrawn, not told": {wanted[*corev1ac.SecretApplyConfiguration](t, plain).Data, renewed.ConfigSecret.Data, Address{Segment: segment}},
	} {
		if diff := cmp.Diff(tc.want, FindAddress(tc.url, tc.config, noon)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Every secret path in the two Secrets is known, so that none of them is logged or shown.
func TestSecretPaths(t *testing.T) {
	t.Parallel()
	old := strings.Repeat("o", 26)
	url := map[string][]byte{KeySegment: []byte(segment), KeyPrevious: encodePrevious([]PreviousPath{{Path: "/n/s/" + old}, {Path: "/n/s/short"}})}
	config := map[string][]byte{KeyConfig: []byte(`{"paths":["/n/s/` + segment + `","/n/s/short","/hooks/` + old + `"]}`)}
	if diff := cmp.Diff([]string{segment, "/n/s/" + old, "/n/s/short", "/n/s/" + segment, "/hooks/" + old}, SecretPaths(url, config)); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{segment, old}, Segments(url)); diff != "" {
		t.Errorf("segments (-want +got):\n%s", diff)
	}
	url[KeyPrevious] = []byte("[")
	if diff := cmp.Diff([]string{segment}, Segments(url)); diff != "" {
		t.Errorf("segments of a damaged Secret (-want +got):\n%s", diff)
	}
	// A list that is damaged after its first path is not used at all.
	url[KeyPrevious] = []byte(`[{"path":"/x/` + old + `","replaced":"2026-11-21T12:00:00Z"},{"path":5}]`)
	if got := FindAddress(url, nil, noon); got.Segment != segment || got.Previous != nil {
		t.Errorf("a list that is damaged in the middle is read as %+v", got)
	}
}

// The status reports when the first and the last former path expire, in whatever order they were replaced.
func TestPreviousUntil(t *testing.T) {
	t.Parallel()
	previous := []PreviousPath{{Replaced: noon}, {Replaced: noon.Add(-time.Hour)}, {Replaced: noon.Add(time.Hour)}, {Replaced: noon}}
	for keep, want := range map[v1alpha1.Duration]time.Duration{"": defaultPreviousURLFor, "2h": 2 * time.Hour} {
		w := &v1alpha1.HeymarketWebhook{}
		w.Spec.Exposure.PreviousURLFor = keep
		first, last := PreviousUntil(Input{Webhook: w, Address: Address{Previous: previous}})
		if !first.Equal(noon.Add(want-time.Hour)) || !last.Equal(noon.Add(want+time.Hour)) {
			t.Errorf("kept for %q: %s to %s", keep, first, last)
		}
		if first, last := PreviousUntil(Input{Webhook: w}); !first.IsZero() || !last.IsZero() {
			t.Errorf("there is no path, and it expires from %s to %s", first, last)
		}
		w.Spec.Exposure.PreviousURLFor = "x"
		if first, _ := PreviousUntil(Input{Webhook: w, Address: Address{Previous: previous}}); !first.IsZero() {
			t.Errorf("without a valid duration paths expire at %s", first)
		}
	}
}

func TestNewSegment(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		s := NewSegment()
		if !segmentShape.MatchString(s) || seen[s] {
			t.Fatalf("NewSegment made %q", s)
		}
		seen[s] = true
	}
}

func TestMisses(t *testing.T) {
	t.Parallel()
	w := &v1alpha1.HeymarketWebhook{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s"}}
	segment := strings.Repeat("o", 26)
	a := Address{Segment: segment, Previous: []PreviousPath{{Path: "/before/" + segment}}}
	for name, tc := range map[string]struct {
		served []string
		want   bool
	}{
		"nothing is served":           {nil, false},
		"what it says":                {[]string{"/n/s/" + segment, "/before/" + segment}, false},
		"less than it says":           {[]string{"/before/" + segment}, false},
		"a path that it has not":      {[]string{"/n/s/" + segment, "/before/that/" + segment}, true},
		"a segment that it has not":   {[]string{"/n/s/" + strings.Repeat("p", 26)}, true},
		"a path from before all that": {[]string{"/before/that/" + segment}, true},
	} {
		if got := a.Misses(w, tc.served); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	old, older := strings.Repeat("o", 26), strings.Repeat("p", 26)
	ago := func(d time.Duration, path string) PreviousPath {
		return PreviousPath{Path: path, Replaced: noon.Add(-d)}
	}
	for name, tc := range map[string]struct {
		exposure v1alpha1.Exposure
		is       Address
		served   string
		want     Address // a Segment of "new" stands for one that was made up
	}{
		"the first one": {v1alpha1.Exposure{URLRevision: 3}, Address{}, "", Address{Segment: "new", Revision: 3}},
		"nothing to do": {v1alpha1.Exposure{}, Address{Segment: old}, "/n/s/" + old, Address{Segment: old}},
		"risen": {
			v1alpha1.Exposure{URLRevision: 1},
			Address{Segment: old},
			"/n/s/" + old,
			Address{Segment: "new", Revision: 1, Previous: []PreviousPath{ago(0, "/n/s/"+old)}},
		},
		"risen, and the configuration is lost": {
			v1alpha1.Exposure{URLRevision: 1},
			Address{Segment: old},
			"",
			Address{Segment: "new", Revision: 1, Previous: []PreviousPath{ago(0, "/n/s/"+old)}},
		},
		"risen because it leaked": {
			v1alpha1.Exposure{URLRevision: 1, PreviousURLFor: "0s"},
			Address{Segment: old},
			"/n/s/" + old,
			Address{Segment: "new", Revision: 1},
		},
		"risen again in time": {
			v1alpha1.Exposure{URLRevision: 2},
			Address{Segment: old, Revision: 1, Previous: []PreviousPath{ago(time.Hour, "/n/s/"+older)}},
			"/n/s/" + old,
			Address{Segment: "new", Revision: 2, Previous: []PreviousPath{ago(0, "/n/s/"+old), ago(time.Hour, "/n/s/"+older)}},
		},
		"risen too often": {
			v1alpha1.Exposure{URLRevision: 9},
			Address{Segment: old, Revision: 8, Previous: []PreviousPath{ago(1, "/n/s/a"), ago(2, "/n/s/b"), ago(3, "/n/s/c")}},
			"/n/s/" + old,
			Address{Segment: "new", Revision: 9, Previous: []PreviousPath{ago(0, "/n/s/"+old), ago(1, "/n/s/a"), ago(2, "/n/s/b")}},
		},
		"lower than what was": {v1alpha1.Exposure{URLRevision: 1}, Address{Segment: old, Revision: 2}, "/n/s/" + old, Address{Segment: old, Revision: 2}},
		"in time": {
			v1alpha1.Exposure{PreviousURLFor: "1h"},
			Address{Segment: old, Previous: []PreviousPath{ago(time.Hour-1, "/n/s/"+older)}},
			"/n/s/" + old,
			Address{Segment: old, Previous: []PreviousPath{ago(time.Hour-1, "/n/s/"+older)}},
		},
		"in time, and half done": { // The configuration is still to be written.
			v1alpha1.Exposure{URLRevision: 1},
			Address{Segment: old, Revision: 1, Previous: []PreviousPath{ago(time.Hour, "/n/s/"+older)}},
			"/n/s/" + older,
			Address{Segment: old, Revision: 1, Previous: []PreviousPath{ago(time.Hour, "/n/s/"+older)}},
		},
		"the time is up": {v1alpha1.Exposure{PreviousURLFor: "1h"}, Address{Segment: old, Previous: []PreviousPath{ago(time.Hour, "/n/s/"+older)}}, "/n/s/" + old, Address{Segment: old}},
		"another path": {
			v1alpha1.Exposure{Path: "/hooks"},
			Address{Segment: old},
			"/n/s/" + old,
			Address{Segment: old, Previous: []PreviousPath{ago(0, "/n/s/"+old)}},
		},
		"the path of before": {
			v1alpha1.Exposure{},
			Address{Segment: old, Previous: []PreviousPath{ago(time.Hour, "/n/s/"+old)}},
			"/hooks/" + old,
			Address{Segment: old, Previous: []PreviousPath{ago(0, "/hooks/"+old)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &v1alpha1.HeymarketWebhook{Spec: v1alpha1.HeymarketWebhookSpec{Exposure: tc.exposure}}
			w.Namespace, w.Name = "n", "s"
			got, err := tc.is.Follow(w, tc.served, noon)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want.Segment == "new" {
				if got.Segment == tc.is.Segment || !segmentShape.MatchString(got.Segment) {
					t.Errorf("no new segment: %q", got.Segment)
				}
				tc.want.Segment = got.Segment
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			again, err := got.Follow(w, "", noon)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("a second time (-want +got):\n%s", diff)
			}
		})
	}
}
